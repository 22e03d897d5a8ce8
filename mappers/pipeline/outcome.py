"""The OperationOutcome of an event: its flags, and the leaves that were not mapped, without values (mapping.md §6)."""

from collections.abc import Callable, Iterable, Sequence

from fhirline.config import tables
from fhirline.mappers.context import Context
from fhirline.mappers.fhir.elements import codeable_concept, element
from fhirline.mappers.payload import clean
from fhirline.mappers.pipeline.common_resources import meta
from fhirline.mappers.pipeline.ledger import NOT_SUPPORTED, Leaf
from fhirline.mappers.results import Element, Flag, Resource

KEPT_IN_RAW = "kept-in-raw"
_LEDGER_FLAGS = {"kept": "source-data-kept", "withheld": "withheld-secret", "ignored": "ignored-by-rule"}


def operation_outcome(
    context: Context, flags: Iterable[Flag], ledger: Sequence[Leaf], published: bool, shown: Callable[[str], str]
) -> Resource | None:
    """Make one issue per flag and per treatment of leaves; None where there is no flag and no leaf kept or withheld.

    ``ledger`` are the leaves that were not mapped. Those ignored by a rule are listed beside other issues only.
    ``shown`` returns the part of a leaf's pointer that may be shown; the flags' pointers are so already.
    ``published``: the event has a Provenance that keeps its unplaced leaves. Otherwise they are in the raw event alone.
    """
    places: dict[str, dict[str, None]] = {}
    for flag in flags:
        places.setdefault(flag.code, {}).update(dict.fromkeys(flag.at))
    for leaf in ledger:
        if leaf.treatment in ("kept", "withheld"):
            in_raw = not published and (leaf.unplaced or leaf.rule == NOT_SUPPORTED)
            places.setdefault(KEPT_IN_RAW if in_raw else _LEDGER_FLAGS[leaf.treatment], {})[shown(leaf.pointer)] = None
    if not places:
        return None
    for leaf in ledger:
        if leaf.treatment == "ignored":
            places.setdefault(_LEDGER_FLAGS["ignored"], {})[shown(leaf.pointer)] = None
    return context.resource(
        "OperationOutcome",
        "outcome",
        (context.event_key,),
        issue=[_issue(context, code, tuple(at)) for code, at in sorted(places.items())],
    ) | {"meta": meta(context, ())}


def _issue(context: Context, code: str, at: Sequence[str]) -> Element | None:
    definition = tables.flags().flags[code]
    return element(
        severity=definition.severity,
        code=definition.code,
        details=codeable_concept(context.coding("data-quality", code), text=definition.text),
        expression=[place for place in map(clean, at) if place],
    )
