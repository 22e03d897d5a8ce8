"""The ledger: what became of every leaf of an event (mapping.md §1, rule 2).

The payload models declare it: a field that a model names is *mapped*, unless it is annotated with `Rule`. What no
model names, and what could not be read as what it should be, is *kept* (as ``source-data`` on the Provenance) or, if it
looks like a secret, *withheld*. Absent values are *ignored* by rule 5.
"""

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel

from fhirline.mappers.pipeline.redaction import REDACTED, secret_key, secret_value
from fhirline.mappers.results import MappingResult

Treatment = Literal["mapped", "kept", "withheld", "ignored"]


@dataclass(frozen=True, slots=True)
class Rule:
    """Annotation of a payload field: what becomes of it and all below it, and the paragraph that says so.

    ``mapped`` is for free-form fields that a mapping reads whole; ``kept`` where the mapping itself writes the value
    into an extension.
    """

    treatment: Treatment
    paragraph: str


class Leaf(NamedTuple):
    """One leaf of the input. ``rule`` is a paragraph of mapping.md; ``homeless``: kept, but put nowhere yet."""

    pointer: str
    value: Any
    treatment: Treatment
    rule: str
    unplaced: bool = False


ABSENT = "rule 5"
DECLARED = "model"
UNRULED = "no rule"
LOOKS_SECRET = "§7, last row"
SKIPPED = "says nothing"
NOT_SUPPORTED = "not-supported"
_DECLARED = Rule("mapped", DECLARED)


def read_ledger(body: Mapping[str, Any], model: BaseModel | None, mapped: MappingResult) -> "Ledger":
    """The ledger of an event: what is remarkable of it now, the rest when somebody asks."""
    return Ledger(tuple(_walked(body, model, mapped, every=False)), body, model, mapped)


@dataclass(frozen=True, slots=True)
class Ledger:
    """What became of every leaf, in document order; iterating reads them all.

    ``remarks`` are the leaves that are not simply mapped. They are few, and all that an event's outputs and outcome
    are made of: the stream computes nothing else, which takes a walk over the body without a row per leaf.
    """

    remarks: tuple[Leaf, ...]
    body: Mapping[str, Any] = field(repr=False)
    model: BaseModel | None = field(repr=False)
    mapped: MappingResult = field(repr=False)

    def __iter__(self) -> Iterator[Leaf]:
        return iter(_walked(self.body, self.model, self.mapped, every=True))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _walked(body: Mapping[str, Any], model: BaseModel | None, mapped: MappingResult, every: bool) -> list[Leaf]:
    rows = _Rows(every, frozenset(mapped.omitted))
    if mapped.claims is not None:
        _claimed(body, "", mapped.claims, False, rows)
    elif model is not None:
        _read(body, model, "", "", rows)
    else:
        rows.append(Leaf("", None, "kept", NOT_SUPPORTED))
    if not mapped.kept:
        return rows.leaves
    kept = frozenset(mapped.kept)
    return [
        leaf._replace(unplaced=False) if leaf.unplaced and _at_or_below(leaf.pointer, kept) else leaf
        for leaf in rows.leaves
    ]


def _at_or_below(pointer: str, places: Set[str]) -> bool:
    while pointer not in places:
        pointer, found, _ = pointer.rpartition("/")
        if not found:
            return False
    return True


def _secret_pointer(pointer: str) -> bool:
    return any(secret_key(unescape(part)) for part in pointer.split("/")[1:])


class _Rows:
    """The leaves of one walk; ``every``: also those that are mapped. ``omitted`` as `MappingResult.skipped`."""

    __slots__ = ("append", "every", "leaves", "omitted", "skipped_keys")

    def __init__(self, every: bool, omitted: Set[str] = frozenset()) -> None:
        self.every = every
        self.omitted = omitted
        self.skipped_keys = {pointer.rpartition("/")[2] for pointer in omitted}
        self.leaves: list[Leaf] = []
        self.append = self.leaves.append

    def skip(self, leaves: Iterable[Leaf]) -> None:
        """Add leaves below a skipped pointer: what the model would have mapped, or kept by a rule, has no home."""
        for leaf in leaves:
            if leaf.treatment not in ("mapped", "kept"):
                self.append(leaf)
                continue
            unplaced = _without_rule(leaf.value, leaf.pointer, _secret_pointer(leaf.pointer))
            self.append(unplaced if leaf.rule == UNRULED else unplaced._replace(rule=SKIPPED))


@lru_cache(maxsize=4096)
def _step(key: str) -> tuple[str, bool]:
    """A key as a pointer's next step, and whether it looks like a secret's."""
    return f"/{escape(key)}", secret_key(key)


@cache
def fields(model: type[BaseModel]) -> dict[str, tuple[str, Rule | None]]:
    """JSON name → (attribute, rule) of a payload model."""
    return {
        field.alias or name: (name, next((each for each in field.metadata if isinstance(each, Rule)), None))
        for name, field in model.model_fields.items()
    }


def _modelled(raw: Mapping[str, Any], model: BaseModel, pointer: str, rows: _Rows) -> None:
    known, values, every, skipped_keys = fields(type(model)), vars(model), rows.every, rows.skipped_keys
    for key, value in raw.items():
        if (declared := known.get(key)) is None:
            step, secret = _step(key)
            _unruled(value, pointer + step, secret, rows)
            continue
        name, rule = declared
        read = values[name]
        if rule is None:
            if type(read) is str and not every and value != REDACTED and key not in skipped_keys:
                continue  # most leaves: a text that was read
            _read(value, read, pointer + _step(key)[0], key, rows)
            continue
        step, secret = _step(key)
        into = rows if pointer + step not in rows.omitted else _Rows(every=True)
        if rule.treatment == "kept" and read is None:  # not what it should be: the mapping could not keep it
            _unruled(value, pointer + step, secret, into)
        else:
            _ruled(value, pointer + step, rule, into)
        if into is not rows:
            rows.skip(into.leaves)


def _read(raw: Any, read: Any, pointer: str, key: str, rows: _Rows) -> None:
    """A field without a rule: mapped as far as the model could read it."""
    if pointer in rows.omitted:
        below = _Rows(every=True)
        _read(raw, read, pointer, key, below)
        rows.skip(below.leaves)
    elif _absent(raw):
        rows.append(Leaf(pointer, raw, "ignored", ABSENT))
    elif isinstance(read, BaseModel) and isinstance(raw, dict):
        _modelled(raw, read, pointer, rows)
    elif isinstance(read, tuple):
        if isinstance(raw, list):
            for position, (item, model) in enumerate(zip(raw, read, strict=True)):
                _read(item, model, f"{pointer}/{position}", key, rows)
        else:
            _read(raw, read[0] if read else None, pointer, key, rows)
    elif read is None:
        _unruled(raw, pointer, secret_key(key), rows)
    else:
        _ruled(raw, pointer, _DECLARED, rows)


def _ruled(value: Any, pointer: str, rule: Rule, rows: _Rows) -> None:
    if isinstance(value, dict | list) and value:
        for place, leaf in leaves_of(value, pointer):
            _ruled(leaf, place, rule, rows)
    elif _absent(value) or _blank(value):
        rows.append(Leaf(pointer, value, "ignored", ABSENT))
    elif value == REDACTED:
        rows.append(Leaf(pointer, value, "withheld", "§7"))
    elif rows.every or rule.treatment != "mapped":
        rows.append(Leaf(pointer, value, rule.treatment, rule.paragraph))


def _unruled(value: Any, pointer: str, secret: bool, rows: _Rows) -> None:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            step, looks_secret = _step(key)
            _unruled(item, pointer + step, secret or looks_secret, rows)
    elif isinstance(value, list) and value:
        for position, item in enumerate(value):
            _unruled(item, f"{pointer}/{position}", secret, rows)
    else:
        rows.append(_without_rule(value, pointer, secret))


def _without_rule(value: Any, pointer: str, secret: bool) -> Leaf:
    """A leaf of which no rule speaks."""
    if _absent(value) or _blank(value):
        return Leaf(pointer, value, "ignored", ABSENT)
    if value == REDACTED:
        return Leaf(pointer, value, "withheld", "§7")
    if secret or secret_value(value):
        return Leaf(pointer, value, "withheld", LOOKS_SECRET)
    return Leaf(pointer, value, "kept", UNRULED, unplaced=True)


def _claimed(value: Any, pointer: str, claims: Mapping[str, str], secret: bool, rows: _Rows) -> None:
    """As `_unruled`, but a pointer (or one above it) that was read has the treatment it was read for."""
    if treatment := claims.get(pointer):
        _ruled(value, pointer, _claim(treatment), rows)
    elif isinstance(value, dict) and value:
        for key, item in value.items():
            step, looks_secret = _step(key)
            _claimed(item, pointer + step, claims, secret or looks_secret, rows)
    elif isinstance(value, list) and value:
        for position, item in enumerate(value):
            _claimed(item, f"{pointer}/{position}", claims, secret, rows)
    else:
        rows.append(_without_rule(value, pointer, secret))


@lru_cache(maxsize=256)
def _claim(treatment: str) -> Rule:
    """A claim's text as a rule: claims are constants of the mappings, so that they are few."""
    name, _, paragraph = treatment.partition(" ")
    return Rule(name, paragraph or DECLARED)  # type: ignore[arg-type]  # a claim begins with a treatment


def leaves_of(value: Any, pointer: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf below ``value`` with its JSON Pointer; an empty container is a leaf."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves_of(item, f"{pointer}/{escape(key)}")
    elif isinstance(value, list) and value:
        for position, item in enumerate(value):
            yield from leaves_of(item, f"{pointer}/{position}")
    else:
        yield pointer, value


def _absent(value: Any) -> bool:
    return value is None or value == "" or value == [] or value == {}


def _blank(value: Any) -> bool:
    return isinstance(value, str) and (not value or value.isspace())


def escape(key: str) -> str:
    """A key as a JSON Pointer's part."""
    return key.replace("~", "~0").replace("/", "~1")


def unescape(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")
