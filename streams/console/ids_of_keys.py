"""The ids that resources get from a vendor's own keys of a patient and a consultation (mapping.md §4.1).

Keys are in no index: the id of a resource is computed from them, and events are found by it.
"""

from collections.abc import Mapping
from typing import NamedTuple

from fhirline.config.settings import Settings
from fhirline.mappers.identity import Naming, trimmed
from fhirline.mappers.registry import VENDORS


class Kind(NamedTuple):
    """A resource that is named by a key. ``with_patient``: its id is made of the patient's key and its own."""

    resource_type: str
    kind: str
    with_patient: bool = True


PATIENTS: Mapping[str, Kind] = {
    **{vendor: Kind("Patient", "patient", False) for vendor in VENDORS},
    "altibbi": Kind("Patient", "user", False),
}
CONSULTATIONS: Mapping[str, tuple[Kind, ...]] = {
    "altibbi": (Kind("Encounter", "consultation"),),
    "azodha": (Kind("Appointment", "appointment"),),
    "infermedica": (Kind("QuestionnaireResponse", "survey", False),),
    "mediquo": (Kind("Encounter", "consultation"), Kind("Appointment", "consultation")),
}
"""Vendor → the resource types that its consultation, appointment or survey becomes. Of other vendors none is found."""


def resources_of(settings: Settings, vendor: str, tenant: str, patient: str, consultation: str) -> list[str]:
    """Return ``Type/id`` of a patient, or of the resources of ``consultation``; none where a key is missing."""
    naming = Naming(settings.base, settings.server_base or "")
    patient, consultation = trimmed(patient), trimmed(consultation)
    kinds = CONSULTATIONS.get(vendor, ()) if consultation else (PATIENTS[vendor],)
    own = consultation or patient
    found = []
    for kind in kinds:
        parts = (patient, own) if kind.with_patient else (own,)
        if all(parts):
            found.append(f"{kind.resource_type}/{naming.id(vendor, tenant, kind.resource_type, kind.kind, *parts)}")
    return found
