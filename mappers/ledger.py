"""The ledger: what became of every leaf of an event (mapping.md §1, rule 2).

The payload models declare it: a field that a model names is *mapped*, unless it is annotated with `Rule`. What no
model names, and what could not be read as what it should be, is *kept* (as ``source-data`` on the Provenance) or, if it
looks like a secret, *withheld*. Absent values are *ignored* by rule 5.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel

from mappers.contract import Mapped
from mappers.redaction import REDACTED, secret_key, secret_value

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
    homeless: bool = False


ABSENT = "rule 5"
DECLARED = "model"
UNRULED = "no rule"
_ABSENT_VALUES: tuple[object, ...] = (None, "", [], {})


def read_ledger(body: Mapping[str, Any], model: BaseModel | None, mapped: Mapped) -> list[Leaf]:
    """Every leaf of ``body`` with its treatment, in document order."""
    if mapped.claims is not None:
        leaves = _claimed(body, "", mapped.claims, False)
    elif model is not None:
        leaves = _modelled(body, model, "")
    else:
        leaves = _unruled(body, "", False)
    if not mapped.skipped and not mapped.kept:
        return list(leaves)
    return [_as_the_mapping_says(leaf, mapped) for leaf in leaves]


def _as_the_mapping_says(leaf: Leaf, mapped: Mapped) -> Leaf:
    if leaf.treatment in ("mapped", "kept") and any(_below(leaf.pointer, each) for each in mapped.skipped):
        leaf = next(_unruled(leaf.value, leaf.pointer, _secret_pointer(leaf.pointer)))
    if leaf.homeless and any(_below(leaf.pointer, each) for each in mapped.kept):
        return leaf._replace(homeless=False)
    return leaf


def _below(pointer: str, prefix: str) -> bool:
    return pointer == prefix or pointer.startswith(prefix + "/")


def _secret_pointer(pointer: str) -> bool:
    return any(secret_key(unescape(part)) for part in pointer.split("/")[1:])


@cache
def _fields(model: type[BaseModel]) -> dict[str, tuple[str, Rule | None]]:
    """JSON name → (attribute, rule) of a payload model."""
    return {
        field.alias or name: (name, next((each for each in field.metadata if isinstance(each, Rule)), None))
        for name, field in model.model_fields.items()
    }


def _modelled(raw: Mapping[str, Any], model: BaseModel, pointer: str) -> Iterator[Leaf]:
    fields = _fields(type(model))
    for key, value in raw.items():
        place = f"{pointer}/{escape(key)}"
        declared = fields.get(key)
        if declared is None:
            yield from _unruled(value, place, secret_key(key))
            continue
        name, rule = declared
        if rule is not None and rule.treatment == "kept" and getattr(model, name) is None:
            yield from _unruled(value, place, secret_key(key))  # not what it should be: the mapping could not keep it
        elif rule is not None:
            yield from _ruled(value, place, rule)
        else:
            yield from _read(value, getattr(model, name), place, key)


def _read(raw: Any, read: Any, pointer: str, key: str) -> Iterator[Leaf]:
    """A field without a rule: mapped as far as the model could read it."""
    if raw in _ABSENT_VALUES and not isinstance(raw, bool | int | float):
        yield Leaf(pointer, raw, "ignored", ABSENT)
    elif isinstance(read, BaseModel) and isinstance(raw, dict):
        yield from _modelled(raw, read, pointer)
    elif isinstance(read, tuple):
        if isinstance(raw, list):
            for position, (item, model) in enumerate(zip(raw, read, strict=True)):
                yield from _read(item, model, f"{pointer}/{position}", key)
        else:
            yield from _read(raw, read[0] if read else None, pointer, key)
    elif read is None:
        yield from _unruled(raw, pointer, secret_key(key))
    else:
        yield from _ruled(raw, pointer, Rule("mapped", DECLARED))


def _ruled(value: Any, pointer: str, rule: Rule) -> Iterator[Leaf]:
    for place, leaf in leaves_of(value, pointer):
        if (leaf in _ABSENT_VALUES and not isinstance(leaf, bool | int | float)) or _blank(leaf):
            yield Leaf(place, leaf, "ignored", ABSENT)
        elif leaf == REDACTED:
            yield Leaf(place, leaf, "withheld", "§7")
        else:
            yield Leaf(place, leaf, rule.treatment, rule.paragraph)


def _unruled(value: Any, pointer: str, secret: bool) -> Iterator[Leaf]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _unruled(item, f"{pointer}/{escape(key)}", secret or secret_key(key))
    elif isinstance(value, list) and value:
        for position, item in enumerate(value):
            yield from _unruled(item, f"{pointer}/{position}", secret)
    elif (value in _ABSENT_VALUES and not isinstance(value, bool | int | float)) or _blank(value):
        yield Leaf(pointer, value, "ignored", ABSENT)
    elif secret or value == REDACTED or secret_value(value):
        yield Leaf(pointer, value, "withheld", "§7")
    else:
        yield Leaf(pointer, value, "kept", UNRULED, homeless=True)


def _claimed(value: Any, pointer: str, claims: Mapping[str, str], secret: bool) -> Iterator[Leaf]:
    """As `_unruled`, but a pointer (or one above it) that was read has the treatment it was read for."""
    if treatment := claims.get(pointer):
        name, _, paragraph = treatment.partition(" ")
        yield from _ruled(value, pointer, Rule(name, paragraph or DECLARED))  # type: ignore[arg-type]
    elif isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _claimed(item, f"{pointer}/{escape(key)}", claims, secret or secret_key(key))
    elif isinstance(value, list) and value:
        for position, item in enumerate(value):
            yield from _claimed(item, f"{pointer}/{position}", claims, secret)
    else:
        yield from _unruled(value, pointer, secret)


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


def _blank(value: Any) -> bool:
    return isinstance(value, str) and (not value or value.isspace())


def escape(key: str) -> str:
    """A key as a JSON Pointer's part."""
    return key.replace("~", "~0").replace("/", "~1")


def unescape(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")
