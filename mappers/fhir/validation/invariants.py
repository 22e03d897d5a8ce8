"""The registry of R4's invariants: structure → functions named by their FHIR key, which return whether the rule holds.

It has those of error severity (``con-3``, ``dom-6`` and the like are warnings). The first line of each function's
docstring is R4's human text, the second R4's FHIRPath expression. A comparison that is undefined in FHIRPath (different
precision or units) is no violation.
"""

from typing import Any

from fhirline.mappers.fhir.validation import container_invariants as of_containers
from fhirline.mappers.fhir.validation import datatype_invariants as of_types
from fhirline.mappers.fhir.validation import resource_invariants as of_resources
from fhirline.mappers.fhir.validation.datatype_invariants import CONCERNS, Invariant

INVARIANTS: dict[str, tuple[Invariant, ...]] = {
    "Age": (of_types.age_1, of_types.qty_3),
    "Attachment": (of_types.att_1,),
    "ContactPoint": (of_types.cpt_2,),
    "Count": (of_types.cnt_3, of_types.qty_3),
    "Distance": (of_types.dis_1, of_types.qty_3),
    "Duration": (of_types.drt_1, of_types.qty_3),
    "Expression": (of_types.exp_1,),
    "Extension": (of_types.ext_1,),
    "Period": (of_types.per_1,),
    "Quantity": (of_types.qty_3,),
    "Range": (of_types.rng_2,),
    "Ratio": (of_types.rat_1,),
    "TimingRepeat": (
        of_types.tim_1,
        of_types.tim_2,
        of_types.tim_4,
        of_types.tim_5,
        of_types.tim_6,
        of_types.tim_7,
        of_types.tim_8,
        of_types.tim_9,
        of_types.tim_10,
    ),
    "AllergyIntolerance": (of_resources.ait_1, of_resources.ait_2),
    "Appointment": (of_resources.app_2, of_resources.app_3, of_resources.app_4),
    "AppointmentParticipant": (of_resources.app_1,),
    "AuditEventEntity": (of_resources.sev_1,),
    "Bundle": (
        of_containers.bdl_1,
        of_containers.bdl_2,
        of_containers.bdl_3,
        of_containers.bdl_4,
        of_containers.bdl_7,
        of_containers.bdl_9,
        of_containers.bdl_10,
        of_containers.bdl_11,
        of_containers.bdl_12,
    ),
    "BundleEntry": (of_containers.bdl_5, of_containers.bdl_8),
    "CarePlanActivity": (of_resources.cpl_3,),
    "CareTeamParticipant": (of_resources.ctm_1,),
    "CompositionSection": (of_resources.cmp_1, of_resources.cmp_2),
    "Condition": (of_resources.con_4, of_resources.con_5),
    "ConditionEvidence": (of_resources.con_2,),
    "ConditionStage": (of_resources.con_1,),
    "List": (of_resources.lst_1, of_resources.lst_2, of_resources.lst_3),
    "Observation": (of_resources.obs_6, of_resources.obs_7),
    "ObservationReferenceRange": (of_resources.obs_3,),
    "Organization": (of_resources.org_1, of_resources.org_2, of_resources.org_3),
    "PatientContact": (of_resources.pat_1,),
    "QuestionnaireResponseItem": (of_resources.qrs_1,),
    "RiskAssessmentPrediction": (of_resources.ras_1, of_resources.ras_2),
    "ServiceRequest": (of_resources.prr_1,),
    "Task": (of_resources.inv_1,),
}
"""Structure → its invariants. `references` checks ref-1, `xhtml` txt-1 and txt-2, `empties` ele-1."""

OF_CONTAINED: tuple[Invariant, ...] = (
    of_containers.dom_2,
    of_containers.dom_3,
    of_containers.dom_4,
    of_containers.dom_5,
)
"""Invariants of every resource that may contain others."""


def concerned(invariant: Invariant, names: frozenset[str]) -> tuple[str, ...] | None:
    """Return the element names of a structure that `CONCERNS` has for a rule; None for a rule that always runs."""
    if invariant not in CONCERNS:
        return None
    wanted = CONCERNS[invariant]
    choices = tuple(name[:-1] for name in wanted if name.endswith("*"))
    return tuple(
        sorted(name for name in names if name in wanted or (choices and name.removeprefix("_").startswith(choices)))
    )


def key(invariant: Invariant) -> str:
    """Return the invariant's FHIR key: ``con-4`` of ``con_4``."""
    return invariant.__name__.replace("_", "-")


def human(invariant: Invariant) -> str:
    """Return R4's human text of the rule."""
    return (invariant.__doc__ or "").strip().partition("\n")[0]


def by_key() -> dict[str, tuple[Any, Invariant]]:
    """Return FHIR key → (structure, invariant)."""
    of_structures = {key(rule): (name, rule) for name, rules in INVARIANTS.items() for rule in rules}
    return of_structures | {key(rule): ("DomainResource", rule) for rule in OF_CONTAINED}
