"""The members that all definitions have in common."""

from dataclasses import dataclass
from html import escape
from typing import Any

from fhirline.config.terminology import Terminology
from fhirline.config.vendors import Vendors
from fhirline.mappers.identity import Naming
from fhirline.mappers.results import Resource

FHIR_VERSION = "4.0.1"

PREFIX = "fhirline-"
"""Beginning of the id of every definition: on a shared server it replaces no definition of another guide."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployment's values on which its definitions depend. ``version`` is that of the definitions."""

    naming: Naming
    vendors: Vendors
    terminology: Terminology
    version: str

    def url(self, resource_type: str, name: str) -> str:
        """Return the canonical URL of a definition of ours."""
        return f"{self.naming.base}/{resource_type}/{name}"


def definition(
    resource_type: str, deployment: Deployment, name: str, title: str, description: str, **content: Any
) -> Resource:
    """Make a definition with a canonical URL. ``content`` are its own elements, in FHIR's order."""
    return {
        "resourceType": resource_type,
        "id": f"{PREFIX}{name}",
        "text": narrative(title, description),
        "url": deployment.url(resource_type, name),
        "version": deployment.version,
        "name": computer_name(name),
        "title": title,
        "status": "active",
        "experimental": False,
        "description": description,
        **{element: value for element, value in content.items() if value is not None},
    }


def computer_name(name: str) -> str:
    """Write a name as FHIR's invariants want it (``inv-0``).

    >>> computer_name("mediquo-acme-patient")
    'FhirlineMediquoAcmePatient'
    """
    return "Fhirline" + "".join(part.capitalize() for part in name.split("-"))


def narrative(title: str, description: str) -> dict[str, str]:
    """Make the narrative of a definition."""
    div = f"<p>{escape(title, quote=False)}: {escape(description, quote=False)}</p>"
    return {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{div}</div>'}
