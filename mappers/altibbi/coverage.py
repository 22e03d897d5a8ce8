"""Altibbi insurance → Coverage (mapping.md §9.1.2)."""

from fhirline.mappers.context import Context, constant
from fhirline.mappers.fhir.elements import data_absent, listed, reference
from fhirline.mappers.results import Element, NewResource


def coverage(user: str, insurance_id: str | None, policy_number: str | None, context: Context) -> NewResource | None:
    """Make the Coverage of a pair of numbers; each pair is a Coverage of its own. None where neither is sent."""
    if insurance_id is None and policy_number is None:
        return None
    return constant(
        context.resource(
            "Coverage",
            "coverage",
            (user, insurance_id, policy_number),
            identifier=listed(
                _number("insurance-id", "insurance_id", insurance_id, context),
                _number("policy-number", "policy_number", policy_number, context),
            ),
            status="active",  # of the record; whether the cover is in force is not known
            beneficiary=reference(context.reference("Patient", "user", user)),
            payor=[data_absent("unknown")],
        )
    )


def _number(kind: str, name: str, value: str | None, context: Context) -> Element | None:
    return context.identifier(kind, value, type={"text": name}) if value is not None else None
