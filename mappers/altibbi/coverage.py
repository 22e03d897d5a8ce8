"""Altibbi insurance → Coverage (mapping.md §9.1.2)."""

from fhirline.mappers.context import Context, constant
from fhirline.mappers.fhir.elements import data_absent, listed, reference
from fhirline.mappers.results import Element, NewResource


def coverage(user: str, insurance_id: str | None, policy_number: str | None, context: Context) -> NewResource | None:
    """A record of cover that names neither insurer nor period; each pair of numbers is one of its own."""
    if insurance_id is None and policy_number is None:
        return None

    def number(kind: str, name: str, value: str | None) -> Element | None:
        return context.identifier(kind, value, type={"text": name}) if value is not None else None

    return constant(
        context.resource(
            "Coverage",
            "coverage",
            (user, insurance_id, policy_number),
            identifier=listed(
                number("insurance-id", "insurance_id", insurance_id),
                number("policy-number", "policy_number", policy_number),
            ),
            status="active",  # of the record; whether the cover holds is not known
            beneficiary=reference(context.reference("Patient", "user", user)),
            payor=[data_absent("unknown")],
        )
    )
