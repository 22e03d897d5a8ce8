"""The OperationOutcome of an event: its flags, and the leaves that were not mapped, without values (mapping.md §6)."""

from collections.abc import Callable, Iterable, Sequence

from fhirline.config import tables
from fhirline.mappers.context import Context
from fhirline.mappers.declarations import DATA_QUALITY
from fhirline.mappers.fhir.elements import codeable_concept, element
from fhirline.mappers.payload import clean
from fhirline.mappers.pipeline.common_resources import meta
from fhirline.mappers.pipeline.ledger import NOT_SUPPORTED, Leaf
from fhirline.mappers.pipeline.limits import CONTENT_CUT, Cut, short
from fhirline.mappers.results import Element, Flag, Resource

KEPT_IN_RAW = "kept-in-raw"
_LEDGER_FLAGS = {"kept": "source-data-kept", "withheld": "withheld-secret", "ignored": "ignored-by-rule"}


MOST_PLACES = 100
"""Places that an issue lists at most. The number of all places is then in ``diagnostics``."""


def operation_outcome(
    context: Context,
    flags: Iterable[Flag],
    ledger: Sequence[Leaf],
    published: bool,
    shown: Callable[[str], str],
    cuts: Sequence[Cut] = (),
) -> Resource | None:
    """Make one issue per flag and per treatment of leaves; None where there is no flag and no leaf kept or withheld.

    ``ledger`` are the leaves that were not mapped. Those ignored by a rule are listed beside other issues only.
    ``shown`` returns the part of a leaf's pointer that may be shown; the flags' pointers are so already.
    ``published``: the event has a Provenance that keeps its unplaced leaves. Otherwise they are in the raw event alone.
    ``cuts``: the entries of the flag ``content-cut``, whose sizes its issue tells.
    """
    places: dict[str, dict[str, None]] = {}
    known: set[tuple[str, int]] = set()
    for flag in flags:
        if (flag.code, id(flag.at)) not in known:  # resources of one item share its flags
            known.add((flag.code, id(flag.at)))
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
        issue=[_issue(context, code, tuple(at), cuts) for code, at in sorted(places.items())],
    ) | {"meta": meta(context, ())}


def _issue(context: Context, code: str, at: Sequence[str], cuts: Sequence[Cut]) -> Element | None:
    definition = tables.flags().flags[code]
    remarks = [f"{short(cut.pointer) or '/'}: {cut.words}" for cut in cuts[:MOST_PLACES]] if code == CONTENT_CUT else []
    if len(at) > MOST_PLACES:
        remarks.append(f"The first {MOST_PLACES} of {len(at)} places.")
    return element(
        severity=definition.severity,
        code=definition.code,
        details=codeable_concept(context.coding(DATA_QUALITY, code), text=definition.text),
        diagnostics=clean("\n".join(remarks)),
        expression=[place for place in (clean(short(place)) for place in at[:MOST_PLACES]) if place],
    )
