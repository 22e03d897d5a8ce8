"""Altibbi tests, panels and referral → ServiceRequest (mapping.md §9.2.5, §9.2.6)."""

from collections.abc import Iterable

from fhirline.mappers.altibbi.children import Child, Unused
from fhirline.mappers.altibbi.consultation import Consultation
from fhirline.mappers.altibbi.payload import Data, Named
from fhirline.mappers.context import Item
from fhirline.mappers.duplicates import Distinct, distinct
from fhirline.mappers.fhir.elements import codeable_concept
from fhirline.mappers.identity import norm


def laboratory(data: Data, consultation: Consultation, unused: Unused) -> list[Child]:
    """One request per test, then per panel."""
    context, groups = consultation.context, data.lab
    tests = (
        item
        for group in context.items("/data/lab", groups)
        for item in context.items(f"{group.pointer}/lab", group.model.lab)
    )
    panels = (
        item
        for group in context.items("/data/lab", groups)
        for item in context.items(f"{group.pointer}/panel", group.model.panel)
    )
    return [
        *(_procedure("lab", each, consultation) for each in _told(tests, unused)),
        *(_procedure("panel", each, consultation) for each in _told(panels, unused)),
    ]


def _procedure(kind: str, test: Distinct[Named], consultation: Consultation) -> Child:
    """A "recommendation" shows no authority to order: ``plan``, unless the tenant knows better."""
    context, name = consultation.context, test.model.name or ""
    category = context.snomed("108252007", "Laboratory procedure")
    return Child(
        consultation.resource(
            "ServiceRequest",
            kind,
            test.key,
            status="active",
            intent=context.settings.lab_intent,
            category=[codeable_concept(category, text="Laboratory procedure")],
            code=codeable_concept(text=name),
            subject=consultation.to_patient,
            encounter=consultation.to_encounter,
            authoredOn=consultation.time,
            _authoredOn=consultation.time_basis,
        ),
        test.flags,
        (name,),
    )


def referrals(data: Data, consultation: Consultation, unused: Unused) -> list[Child]:
    """A referral to a specialty; to whom is not said."""
    context = consultation.context
    items = context.items("/data/doctorReferral", data.doctorReferral)
    what = codeable_concept(context.snomed("3457005", "Patient referral"), text="Patient referral")
    return [
        Child(
            consultation.resource(
                "ServiceRequest",
                "referral",
                each.key,
                status="active",
                intent="plan",
                category=[what],
                code=what,
                subject=consultation.to_patient,
                encounter=consultation.to_encounter,
                authoredOn=consultation.time,
                _authoredOn=consultation.time_basis,
                performerType=codeable_concept(text=each.model.name),
            ),
            each.flags,
            (each.model.name or "",),
        )
        for each in _told(items, unused)
    ]


def _told(items: Iterable[Item[Named]], unused: Unused) -> list[Distinct[Named]]:
    named = (item for item in items if unused.unless(item, item.model.name))
    return distinct(named, lambda each: (norm(each.name or ""),))
