"""A ConceptMap for each code table (mapping.md §12): the vendor's words, and the codes that they become."""

from collections.abc import Iterator
from typing import NamedTuple

from fhirline.config.terminology import Row, RowTable, norm, packaged_table
from fhirline.mappers.conformance.code_systems import code_system
from fhirline.mappers.conformance.definition import Deployment, definition
from fhirline.mappers.declarations import Concept
from fhirline.mappers.fhir.elements import SNOMED
from fhirline.mappers.results import Element, Resource

RELATED = "relatedto"
"""The only equivalence that a table states: a reviewer found the code right for the words, and not how close it is."""

BASE = "BASE/"
"""Beginning of the system of a table's `Target` that is one of ours."""


class Words(NamedTuple):
    """Words of a vendor in the spelling of the table, and their row."""

    text: str
    row: Row


class Code(NamedTuple):
    """A code that words become."""

    system: str
    code: str
    display: str | None
    evidence: str | None


def concept_maps(deployment: Deployment) -> list[Resource]:
    """Make a ConceptMap for each table with codes, the CodeSystem of the table's words, and its ValueSet.

    Tables whose rows have no codes (denials) have none.
    """
    made: list[Resource] = []
    for name in deployment.terminology.names:
        table = packaged_table(name)
        words = _words(name, deployment)
        systems = sorted({code.system for item in words for code in _codes(item.row, table, deployment)})
        if systems:
            made += _words_system(name, table, words, deployment)
            made.append(_concept_map(name, table, words, systems, deployment))
    return made


def _words(name: str, deployment: Deployment) -> list[Words]:
    """List the words of a table with a deployment's own rows, by their normalized form."""
    found = []
    for normalized, row in sorted(deployment.terminology.rows(name).items()):
        spelling = next(source for source in row.source if norm(source) == normalized)
        found.append(Words(" ".join(spelling.split()), row))
    return found


def _codes(row: Row, table: RowTable, deployment: Deployment) -> Iterator[Code]:
    """List the codes of a row; those of SNOMED CT only where a tenant has it switched on (setting ``snomed``)."""
    target = table.target
    if target and target.means in row.means:
        system = target.system.replace(BASE, f"{deployment.naming.base}/", 1)
        yield Code(system, str(row.means[target.means]), None, row.evidence)
    for coding in row.codings:
        if coding.system != SNOMED or _snomed(deployment):
            yield Code(coding.system, coding.code, coding.display, coding.evidence)


def _snomed(deployment: Deployment) -> bool:
    vendors = deployment.vendors.vendors.values()
    return any(vendor.settings(tenant).snomed for vendor in vendors for tenant in vendor.tenants)


def _words_system(name: str, table: RowTable, words: list[Words], deployment: Deployment) -> list[Resource]:
    """Make the CodeSystem of a table's words: a ConceptMap needs a system of its sources."""
    concepts = [Concept(item.text, item.text, f"A vendor's words for: {table.title.lower()}.") for item in words]
    return code_system(
        words_name(name),
        f"{table.title}: words",
        f"Words of vendors that the code table {name} has a row for. They are compared whole, whatever their case "
        "and white space. No resource contains this system.",
        "fragment",
        concepts,
        deployment,
        case_sensitive=False,
    )


def words_name(table: str) -> str:
    """Return the name of the code system of a table's words."""
    return f"{table}-words"


def _concept_map(
    name: str, table: RowTable, words: list[Words], systems: list[str], deployment: Deployment
) -> Resource:
    source = deployment.url("CodeSystem", words_name(name))
    return definition(
        "ConceptMap",
        deployment,
        name,
        table.title,
        f"The code table {name} ({table.version}): words of vendors and the codes that they become. Words without a "
        "row stay text.",
        sourceUri=deployment.url("ValueSet", words_name(name)),
        group=[
            {
                "source": source,
                "target": system,
                "element": [
                    {"code": item.text, "target": [_target(code) for code in codes] or [_UNMATCHED]}
                    for item in words
                    if (codes := _codes_of(item, system, table, deployment)) or len(systems) == 1
                ],
            }
            for system in systems
        ],
    )


_UNMATCHED = {"equivalence": "unmatched", "comment": "By the table, no code is right for these words."}


def _codes_of(words: Words, system: str, table: RowTable, deployment: Deployment) -> list[Code]:
    return [code for code in _codes(words.row, table, deployment) if code.system == system]


def _target(code: Code) -> Element:
    stated: Element = {"code": code.code}
    if code.display:
        stated["display"] = code.display
    stated["equivalence"] = RELATED
    if code.evidence:
        stated["comment"] = f"Evidence: {code.evidence}"
    return stated
