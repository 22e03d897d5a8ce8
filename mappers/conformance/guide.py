"""All definitions of a deployment, and the ImplementationGuide that lists them."""

from typing import Any
from urllib.parse import urlsplit

from fhirline.mappers import MAPPING_VERSION
from fhirline.mappers.conformance.code_systems import code_systems, time_zones
from fhirline.mappers.conformance.concept_maps import concept_maps
from fhirline.mappers.conformance.definition import FHIR_VERSION, Deployment, definition
from fhirline.mappers.conformance.extensions import structure_definitions
from fhirline.mappers.conformance.naming_systems import naming_systems
from fhirline.mappers.results import Resource

TITLE = "Outputs of fhirline"
DESCRIPTION = (
    "Definitions of the extensions, code systems and identifier systems of the resources that fhirline makes of "
    "telehealth vendors' webhooks. No profile is claimed: the resources are those of FHIR R4."
)


def definitions_version(release: str) -> str:
    """Return the version of the definitions: that of the release, and of the mapping (semantic versioning)."""
    return f"{release}-{MAPPING_VERSION}"


def definitions(deployment: Deployment, time_zone_codes: bool = True) -> list[Resource]:
    """Make all definitions, each type together. The last one is the ImplementationGuide, which lists the others.

    ``time_zone_codes`` adds the CodeSystem of IANA's time zones, which is not ours. No two CodeSystems of a server may
    have one URL, so a server that has it already needs the definitions without it.
    """
    made = [
        *structure_definitions(deployment),
        *code_systems(deployment),
        *concept_maps(deployment),
        *naming_systems(deployment),
    ]
    if time_zone_codes:
        made.append(time_zones())
    made.sort(key=lambda resource: (_ORDER.index(resource["resourceType"]), resource["id"]))
    return [*made, _implementation_guide(deployment, made)]


_ORDER = ("CodeSystem", "ValueSet", "StructureDefinition", "ConceptMap", "NamingSystem")
"""Order of the types. One that others refer to comes first: a server may read the definitions one by one."""


def package_name(base: str) -> str:
    """Return the name of a deployment's package: fhirline's, and BASE's host backwards, as FHIR packages are named.

    >>> package_name("https://fhirline.example.org")
    'fhirline.org.example.fhirline'
    """
    labels = reversed((urlsplit(base).hostname or "local").split("."))
    plain = ("".join(character for character in label if character.isalnum() or character == "-") for label in labels)
    return ".".join(("fhirline", *(label if label[:1].isalpha() else f"n{label}" for label in plain)))


def _implementation_guide(deployment: Deployment, made: list[Resource]) -> Resource:
    return definition(
        "ImplementationGuide",
        deployment,
        "outputs",
        TITLE,
        DESCRIPTION,
        packageId=package_name(deployment.naming.base),
        license="Apache-2.0",
        fhirVersion=[FHIR_VERSION],
        definition={"resource": [_listed(resource) for resource in made]},
    )


def _listed(resource: Resource) -> dict[str, Any]:
    return {
        "reference": {"reference": f"{resource['resourceType']}/{resource['id']}"},
        "name": resource.get("title") or resource["name"],
        "description": resource["description"],
        "exampleBoolean": False,
    }
