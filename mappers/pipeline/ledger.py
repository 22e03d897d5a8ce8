"""The ledger: how every leaf of an event's body was treated (mapping.md §1, rule 2).

A leaf is one of

* *mapped*: a field of the payload model that could be read;
* *kept*: a field that no model names, or that could not be read. It goes to a ``source-data`` extension;
* *withheld*: redacted, or looks like a secret;
* *ignored*: absent (rule 5), or ignored by a rule.

A field annotated with `Rule` has the treatment of the rule instead. A mapping without fixed paths claims pointers
(`MappingResult.claims`).
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from pydantic import BaseModel

from fhirline.mappers.json_pointer import (
    LONGEST_CACHED,
    escape,
    is_list,
    items_of,
    leaves_of,
    parts,
    unescape,
    value_at,
)
from fhirline.mappers.payload import is_placeholder_id
from fhirline.mappers.pipeline.declared_fields import declared_fields
from fhirline.mappers.pipeline.leaf import (
    ABSENT,
    CUT,
    DECLARED,
    LOOKS_SECRET,
    NOT_SUPPORTED,
    OMITTED,
    PLACEHOLDER,
    UNRULED,
    Leaf,
    Rule,
)
from fhirline.mappers.pipeline.limits import Cut
from fhirline.mappers.pipeline.redaction.credentials import secret_value
from fhirline.mappers.pipeline.redaction.keys import secret_key
from fhirline.mappers.pipeline.redaction.redact import REDACTED
from fhirline.mappers.results import MappingResult

__all__ = [
    "LOOKS_SECRET",
    "NOT_SUPPORTED",
    "PLACEHOLDER",
    "UNRULED",
    "Leaf",
    "Ledger",
    "Rule",
    "read_ledger",
]

_DECLARED = Rule("mapped", DECLARED)


def read_ledger(
    body: Mapping[str, Any],
    model: BaseModel | None,
    mapped: MappingResult,
    cuts: Sequence[Cut] = (),
    whole: Mapping[str, Any] | None = None,
) -> "Ledger":
    """Read the ledger of a redacted body. ``model`` is the body as the model read it, ``mapped`` the mapping's result.

    ``model`` is None for an event without a mapping. ``cuts`` are the values that ``body`` lacks of
    ``whole`` (mapping.md §1.1).
    """
    whole = whole or body
    notable = tuple(_leaves(body, model, mapped, cuts, whole, every=False))
    return Ledger(notable, body, model, mapped, cuts, whole)


@dataclass(frozen=True, slots=True)
class Ledger:
    """The treatment of every leaf, in document order. Iterate over it to read them all.

    ``notable`` are the leaves that are not simply mapped: few, and all that an event's outputs and outcome need. They
    are found by a fast walk without a row per leaf; the full walk happens on iteration.

    >>> from fhirline.mappers.payload import Payload, Text
    >>> class Drug(Payload):
    ...     name: Text = None
    >>> body = {"name": "A", "dose": 5, "note": " ", "token": "x"}
    >>> ledger = read_ledger(body, Drug.model_validate(body), MappingResult())
    >>> for leaf in ledger:
    ...     print(leaf.pointer, leaf.treatment, f"({leaf.rule})")
    /name mapped (model)
    /dose kept (no rule)
    /note ignored (rule 5)
    /token withheld (§7, last row)
    >>> [leaf.pointer for leaf in ledger.notable]
    ['/dose', '/note', '/token']
    """

    notable: tuple[Leaf, ...]
    body: Mapping[str, Any] = field(repr=False)
    model: BaseModel | None = field(repr=False)
    mapped: MappingResult = field(repr=False)
    cuts: Sequence[Cut] = ()
    whole: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The body before anything was cut from it."""

    def __iter__(self) -> Iterator[Leaf]:
        return iter(_leaves(self.body, self.model, self.mapped, self.cuts, self.whole, every=True))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _leaves(
    body: Mapping[str, Any],
    model: BaseModel | None,
    mapped: MappingResult,
    cuts: Sequence[Cut],
    whole: Mapping[str, Any],
    every: bool,
) -> list[Leaf]:
    rows = _Rows(every, frozenset(mapped.omitted))
    if mapped.claims is not None:
        _add_claimed(body, "", mapped.claims, False, rows)
    elif model is not None:
        _add_field(body, model, "", "", rows)
    else:
        rows.append(Leaf("", None, "kept", NOT_SUPPORTED))
    return [*_without_places(rows.leaves, whole), *map(_cut, cuts)] if cuts else rows.leaves


def _without_places(leaves: Sequence[Leaf], whole: Mapping[str, Any]) -> Iterator[Leaf]:
    """Yield the leaves without the nulls and empty containers that replace what was cut."""
    return (leaf for leaf in leaves if not _absent(leaf.value) or _absent(value_at(whole, leaf.pointer)))


def _cut(cut: Cut) -> Leaf:
    if _secret_pointer(cut.pointer):
        return Leaf(cut.pointer, cut, "withheld", LOOKS_SECRET)
    return Leaf(cut.pointer, cut, "kept", CUT if cut.read else UNRULED, unplaced=True)


def _secret_pointer(pointer: str) -> bool:
    return any(map(secret_key, parts(pointer)))


class _Rows:
    """The leaves of one walk. ``every``: mapped ones included. ``omitted`` as `MappingResult.omitted`."""

    __slots__ = ("append", "every", "leaves", "omitted", "omitted_keys")

    def __init__(self, every: bool, omitted: Set[str] = frozenset()) -> None:
        self.every = every
        self.omitted = omitted
        self.omitted_keys = {pointer.rpartition("/")[2] for pointer in omitted}
        self.leaves: list[Leaf] = []
        self.append = self.leaves.append

    def append_omitted(self, leaves: Sequence[Leaf]) -> None:
        """Add the leaves at or below an omitted pointer: those mapped or kept by the model become unplaced."""
        for leaf in leaves:
            if leaf.treatment not in ("mapped", "kept"):
                self.append(leaf)
                continue
            unplaced = _without_rule(leaf.value, leaf.pointer, _secret_pointer(leaf.pointer))
            self.append(unplaced if leaf.rule == UNRULED else unplaced._replace(rule=OMITTED))


@lru_cache(maxsize=4096)
def _known_step(key: str) -> tuple[str, bool]:
    return f"/{escape(key)}", secret_key(key)


def _step(key: str) -> tuple[str, bool]:
    """Return a key as a pointer's next step, and whether it looks like the key of a secret."""
    return _known_step(key) if len(key) <= LONGEST_CACHED else _known_step.__wrapped__(key)


def _add_object(raw: Mapping[str, Any], model: BaseModel, pointer: str, rows: _Rows) -> None:
    """Add the leaves of an object that a payload model describes."""
    known, values, every, omitted_keys = declared_fields(type(model)), vars(model), rows.every, rows.omitted_keys
    for key, value in raw.items():
        if (declared := known.get(key)) is None:
            step, secret = _step(key)
            _add_unruled(value, pointer + step, secret, rows)
            continue
        name, rule, is_id, _, _, _ = declared
        read = values[name]
        if is_id and read is None and value != REDACTED and is_placeholder_id(value):
            rows.append(Leaf(pointer + _step(key)[0], value, "ignored", PLACEHOLDER))
            continue
        if rule is None:
            if type(read) is str and not every and value != REDACTED and key not in omitted_keys:
                continue  # most leaves: a text that was read
            _add_field(value, read, pointer + _step(key)[0], key, rows)
            continue
        step, secret = _step(key)
        into = rows if pointer + step not in rows.omitted else _Rows(every=True)
        if rule.treatment == "kept" and read is None:  # unreadable, so that the mapping could not keep it
            _add_unruled(value, pointer + step, secret, into)
        else:
            _add_ruled(value, pointer + step, rule, into)
        if into is not rows:
            rows.append_omitted(into.leaves)


def _add_field(raw: Any, read: Any, pointer: str, key: str, rows: _Rows) -> None:
    """Add the leaves of a field without a rule: mapped where the model could read them."""
    if pointer in rows.omitted:
        below = _Rows(every=True)
        _add_field(raw, read, pointer, key, below)
        rows.append_omitted(below.leaves)
    elif _absent(raw):
        rows.append(Leaf(pointer, raw, "ignored", ABSENT))
    elif isinstance(read, BaseModel) and isinstance(raw, dict):
        _add_object(raw, read, pointer, rows)
    elif isinstance(read, tuple):
        if is_list(raw):
            for (place, item), model in zip(items_of(raw, pointer), read, strict=True):
                _add_field(item, model, place, key, rows)
        else:
            _add_field(raw, read[0] if read else None, pointer, key, rows)
    elif read is None:
        _add_unruled(raw, pointer, secret_key(key), rows)
    else:
        _add_ruled(raw, pointer, _DECLARED, rows)


def _add_ruled(value: Any, pointer: str, rule: Rule, rows: _Rows) -> None:
    """Add leaves with the treatment of a rule. Those that are absent or redacted have their own."""
    if isinstance(value, dict | list) and value:
        for place, leaf in leaves_of(value, pointer):
            _add_ruled(leaf, place, rule, rows)
    elif _absent(value) or _blank(value):
        rows.append(Leaf(pointer, value, "ignored", ABSENT))
    elif value == REDACTED:
        rows.append(Leaf(pointer, value, "withheld", "§7"))
    elif rows.every or rule.treatment != "mapped":
        rows.append(Leaf(pointer, value, rule.treatment, rule.paragraph))


def _add_unruled(value: Any, pointer: str, secret: bool, rows: _Rows) -> None:
    """Add leaves that no rule treats. ``secret``: a key above them looks like the key of a secret."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            step, looks_secret = _step(key)
            _add_unruled(item, pointer + step, secret or looks_secret, rows)
    elif isinstance(value, list) and value:
        for position, item in enumerate(value):
            _add_unruled(item, f"{pointer}/{position}", secret, rows)
    else:
        rows.append(_without_rule(value, pointer, secret))


def _without_rule(value: Any, pointer: str, secret: bool) -> Leaf:
    """Make a Leaf that no rule treats."""
    if _absent(value) or _blank(value):
        return Leaf(pointer, value, "ignored", ABSENT)
    if value == REDACTED:
        return Leaf(pointer, value, "withheld", "§7")
    if secret or secret_value(value, unescape(pointer.rpartition("/")[2])):
        return Leaf(pointer, value, "withheld", LOOKS_SECRET)
    return Leaf(pointer, value, "kept", UNRULED, unplaced=True)


def _add_claimed(value: Any, pointer: str, claims: Mapping[str, str], secret: bool, rows: _Rows) -> None:
    """Add leaves as `_add_unruled` does; those at or below a claimed pointer have the claim's treatment."""
    if treatment := claims.get(pointer):
        _add_ruled(value, pointer, _claim(treatment), rows)
    elif isinstance(value, dict) and value:
        for key, item in value.items():
            step, looks_secret = _step(key)
            _add_claimed(item, pointer + step, claims, secret or looks_secret, rows)
    elif isinstance(value, list) and value:
        for position, item in enumerate(value):
            _add_claimed(item, f"{pointer}/{position}", claims, secret, rows)
    else:
        rows.append(_without_rule(value, pointer, secret))


@lru_cache(maxsize=256)
def _claim(treatment: str) -> Rule:
    """Read a claim's text (``kept §11.3``) as a Rule. Cached: claims are constants of the mappings."""
    name, _, paragraph = treatment.partition(" ")
    return Rule(name, paragraph or DECLARED)  # type: ignore[arg-type]  # a claim begins with a treatment


def _absent(value: Any) -> bool:
    return value is None or value == "" or value == [] or value == {}


def _blank(value: Any) -> bool:
    return isinstance(value, str) and (not value or value.isspace())
