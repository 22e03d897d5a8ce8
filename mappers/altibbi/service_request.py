"""Altibbi tests, panels and referrals → ServiceRequest (mapping.md §9.2.5, §9.2.6)."""

from collections.abc import Iterable

from fhirline.mappers.altibbi.children import Child
from fhirline.mappers.altibbi.consultation import Consultation
from fhirline.mappers.altibbi.items import grouped, identified, readable
from fhirline.mappers.altibbi.payload import Data, Named
from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.context import Item
from fhirline.mappers.duplicates import Distinct, distinct
from fhirline.mappers.fhir.elements import codeable_concept
from fhirline.mappers.identity import norm


def laboratory(data: Data, consultation: Consultation, build: MappingBuilder) -> list[Child]:
    """Make a ServiceRequest per test, then per panel (mapping.md §9.2.5)."""
    return [
        _laboratory_request(kind, test, consultation)
        for kind in ("lab", "panel")
        for test in _distinct(grouped(consultation.context, "/data/lab", data.lab, kind, build), build)
    ]


def _laboratory_request(kind: str, test: Distinct[Named], consultation: Consultation) -> Child:
    """Make a ServiceRequest. Its intent is ``plan`` by default: a recommendation shows no authority to order."""
    context, name = consultation.context, test.model.name or ""
    category = context.snomed("108252007", "Laboratory procedure")
    resource = consultation.resource(
        "ServiceRequest",
        kind,
        test.key,
        status="active",
        intent=context.settings.lab_intent,
        category=[codeable_concept(category, text="Laboratory procedure")],
        code=codeable_concept(text=name),
        subject=consultation.subject,
        encounter=consultation.encounter,
        authoredOn=consultation.time,
        _authoredOn=consultation.time_basis,
    )
    return Child(resource, test.flags, (name,))


def referrals(data: Data, consultation: Consultation, build: MappingBuilder) -> list[Child]:
    """Make a ServiceRequest per specialty (mapping.md §9.2.6)."""
    items = readable(consultation.context, "/data/doctorReferral", data.doctorReferral, build)
    return [_referral(specialty, consultation) for specialty in _distinct(items, build)]


def _referral(specialty: Distinct[Named], consultation: Consultation) -> Child:
    """Make a referral to a specialty. The doctor to whom it leads is not sent: no ``performer``."""
    referral = codeable_concept(consultation.context.snomed("3457005", "Patient referral"), text="Patient referral")
    resource = consultation.resource(
        "ServiceRequest",
        "referral",
        specialty.key,
        status="active",
        intent="plan",
        category=[referral],
        code=referral,
        subject=consultation.subject,
        encounter=consultation.encounter,
        authoredOn=consultation.time,
        _authoredOn=consultation.time_basis,
        performerType=codeable_concept(text=specialty.model.name),
    )
    return Child(resource, specialty.flags, (specialty.model.name or "",))


def _distinct(items: Iterable[Item[Named]], build: MappingBuilder) -> list[Distinct[Named]]:
    """Return the items with a name, each name once."""
    return distinct(identified(items, "name", build=build), lambda named: (norm(named.name or ""),))
