"""A CodeSystem for each system of codes that is ours, with a ValueSet of all its codes (mapping.md §5.1)."""

from collections.abc import Iterator, Sequence
from importlib.resources import files

import tzdata

from fhirline.config import tables
from fhirline.mappers import declarations
from fhirline.mappers.conformance.definition import PREFIX, Deployment, definition, narrative
from fhirline.mappers.declarations import CodeSystem, Concept
from fhirline.mappers.registry import VENDORS, vendor_mapping
from fhirline.mappers.results import Element, Resource

TIME_ZONES = "https://www.iana.org/time-zones"
"""System of the codes of R4's extension ``tz-code``, which is bound to a value set of all of them."""

OTHER_EVENT_TYPE = Concept("unknown", "Unknown", "An event of a type that fhirline does not know.")


def declared_code_systems() -> tuple[CodeSystem, ...]:
    """Return the code systems of all vendors, then those of each vendor."""
    of_vendors = (system for vendor in VENDORS for system in vendor_mapping(vendor).code_systems)
    return (*declarations.CODE_SYSTEMS, *of_vendors)


def code_systems(deployment: Deployment) -> list[Resource]:
    """Make the CodeSystems and their ValueSets."""
    made = []
    for system in declared_code_systems():
        concepts = list(concepts_of(system, deployment))
        content = "fragment" if system.open else "complete"
        made += code_system(system.name, system.title, system.description, content, concepts, deployment)
    return made


def code_system(
    name: str,
    title: str,
    description: str,
    content: str,
    concepts: Sequence[Concept],
    deployment: Deployment,
    case_sensitive: bool = True,
) -> list[Resource]:
    """Make a CodeSystem and the ValueSet of all its codes."""
    url, value_set = deployment.url("CodeSystem", name), deployment.url("ValueSet", name)
    listed = [_concept(concept) for concept in concepts]
    return [
        definition(
            "CodeSystem",
            deployment,
            name,
            title,
            description,
            caseSensitive=case_sensitive,
            valueSet=value_set if content == "complete" else None,  # csd-0 and servers: a fragment has not all codes
            content=content,
            count=len(listed) if content == "complete" else None,
            concept=listed or None,
        ),
        definition(
            "ValueSet",
            deployment,
            name,
            title,
            f"All codes of the code system {url}.",
            compose={"include": [{"system": url}]},
        ),
    ]


def concepts_of(system: CodeSystem, deployment: Deployment) -> Iterator[Concept]:
    """List the codes of a code system of ours, sorted where a table or the registry decides them."""
    match system:
        case declarations.VENDOR:
            for vendor in deployment.vendors.names:
                yield Concept(vendor, deployment.vendors[vendor].name, f"Webhooks of {deployment.vendors[vendor].name}")
        case declarations.EVENT_TYPE:
            yield from _event_types(deployment)
        case declarations.DATA_QUALITY:
            for code, flag in sorted(tables.flags().flags.items()):
                yield Concept(code, _words(code), flag.text)
        case CodeSystem(table=str(table)):
            rows = deployment.terminology.rows(table).values()
            codes = {str(row.means["code"]): row.evidence or system.title for row in rows if "code" in row.means}
            for code, evidence in sorted(codes.items()):
                yield Concept(code, _words(code), f"Source: {evidence}.")
        case _:
            yield from system.concepts


def _event_types(deployment: Deployment) -> Iterator[Concept]:
    """List the event types of all vendors. One that two vendors have is one code."""
    senders: dict[str, list[str]] = {}
    for vendor in deployment.vendors.names:
        mapping = vendor_mapping(vendor)
        for event_type in (*mapping.events, *mapping.unmapped):
            senders.setdefault(event_type, []).append(deployment.vendors[vendor].name)
    for event_type, names in sorted(senders.items()):
        yield Concept(event_type, event_type, f"Event {event_type} of {' and '.join(names)}.")
    yield OTHER_EVENT_TYPE


def time_zones() -> Resource:
    """Make a CodeSystem of the IANA time zones, for a server that has none and so refuses each ``tz-code``.

    Its codes are all names of the tzdata that fhirline is installed with, and its version is that release. IANA
    publishes no CodeSystem. HL7's validator looks for the system of a code in complete CodeSystems only.
    """
    title, description = "IANA time zones", f"Names of the IANA time zone database, release {tzdata.IANA_VERSION}."
    names = (files(tzdata) / "zones").read_text("utf-8").split()
    return {
        "resourceType": "CodeSystem",
        "id": f"{PREFIX}iana-time-zones",
        "text": narrative(title, description),
        "url": TIME_ZONES,
        "version": tzdata.IANA_VERSION,
        "name": "IanaTimeZones",
        "title": title,
        "status": "active",
        "experimental": False,
        "description": description,
        "caseSensitive": True,
        "content": "complete",
        "count": len(names),
        "concept": [{"code": name} for name in sorted(names)],
    }


def _concept(concept: Concept) -> Element:
    return {"code": concept.code, "display": concept.display, "definition": concept.definition}


def _words(code: str) -> str:
    """Write a code as words: ``no-event-time`` is "No event time"."""
    text = code.replace("-", " ")
    return text[:1].upper() + text[1:]
