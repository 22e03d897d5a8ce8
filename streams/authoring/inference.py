"""Inference of payload models from samples: JSON Schemas of the events (genson), read as this project's types.

Every field becomes optional and tolerant (`mappers.payload`), so that only the *kind* of a value is inferred. Where a
field was sent as an object and in other kinds, the model reads the object; the ledger keeps the others. Booleans that
are texts or numbers elsewhere are read as they are.

Objects at one place of several events are one class where most of their fields are the same.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fhirline.mappers.json_pointer import escape
from fhirline.mappers.pipeline.envelope import Body
from fhirline.streams.authoring import names

Schema = Mapping[str, Any]
"""A JSON Schema as genson makes it: ``type``, ``properties``, ``items``, ``anyOf``."""

MAP = "Maybe[dict[str, Any]]"
EVENT = "Event"
RESERVED = frozenset(
    {"Any", "Flagged", "Id", "Items", "Maybe", "Number", "Payload", "Shortest", "Text", "Field", EVENT, "Context"}
    | {"EventMapping", "MappingBuilder", "MappingResult", "VendorMapping"}
)
"""Class names that the generated modules use already."""

_IDENTIFIER = re.compile(r"(.*_)?(ids?|uuid|guid|mrn)", re.ASCII)
_TEXT = re.compile(r"(.*_)?(code|key|ref|no|nr|number|phone|mobile|zip)", re.ASCII)
"""Keys of numbers that are names, and are not computed with."""
_ALIKE = 0.5
"""Share of common fields from which two objects are taken to be the same thing."""


@dataclass(slots=True, eq=False)
class Model:
    """A class of the payload module. ``pointer``: where its objects are, with ``*`` for a list's positions."""

    name: str
    pointer: str
    fields: list["ModelField"] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    """Keys without a field: no sample has a value there."""
    base: "Model | None" = None

    def all_fields(self) -> list["ModelField"]:
        return [*(self.base.fields if self.base else ()), *self.fields]


@dataclass(frozen=True, slots=True, eq=False)
class ModelField:
    """One field. ``type`` is Python source; ``model`` the class of the objects in it; ``others`` further kinds sent."""

    key: str
    attribute: str
    type: str
    kind: str
    model: Model | None = None
    others: tuple[str, ...] = ()

    @property
    def default(self) -> str:
        return "()" if self.type.startswith("Items[") else "None"


@dataclass(slots=True)
class _Node:
    """An object of the events' schemas, and the model that it becomes."""

    schema: Schema
    model: Model
    events: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Group:
    """One field's schema, of all owners in which it means the same."""

    schema: Schema
    owners: tuple[_Node, ...]


def schema_of(values: Iterable[Any]) -> Schema:
    """Infer the JSON Schema of values."""
    from genson import SchemaBuilder

    builder = SchemaBuilder(schema_uri=None)
    for value in values:
        builder.add_object(value)
    return _plain(builder.to_schema())


def merged(schemas: Iterable[Schema]) -> Schema:
    """Merge schemas into one that allows what each allows."""
    from genson import SchemaBuilder

    builder = SchemaBuilder(schema_uri=None)
    for schema in schemas:
        builder.add_schema(schema)
    return _plain(builder.to_schema())


def _plain(schema: Any) -> Schema:
    assert isinstance(schema, dict)
    return schema


def payload_models(samples: Mapping[str, Sequence[Body]], ids: Collection[str]) -> dict[str, Model]:
    """Infer the model of each event: event type → its class. ``ids``: pointers whose values are read as `Id`."""
    modeller = _Modeller(frozenset(ids))
    nodes = [
        _Node(schema_of(bodies), Model(modeller.named(names.camel(event)), ""), (event,))
        for event, bodies in samples.items()
    ]
    modeller.fill("", nodes)
    if len(nodes) > 1:
        _share_fields([node.model for node in nodes])
    return {node.events[0]: node.model for node in nodes}


def _share_fields(events: Sequence[Model]) -> None:
    """Move the fields that all events have in common to a base class."""
    common = [item for item in events[0].fields if all(item in model.fields for model in events[1:])]
    if common:
        base = Model(EVENT, "", common)
        for model in events:
            model.base = base
            model.fields = [item for item in model.fields if item not in common]


def in_order(models: Iterable[Model]) -> list[Model]:
    """Return the models and all below them, each behind what it refers to."""
    found: dict[int, Model] = {}

    def visit(model: Model) -> None:
        if id(model) not in found:
            for below in (model.base, *(item.model for item in model.fields)):
                if below is not None:
                    visit(below)
            found[id(model)] = model

    for model in models:
        visit(model)
    return [*found.values()]


class _Modeller:
    """Names models, and fills them with fields."""

    def __init__(self, ids: frozenset[str]) -> None:
        self._ids = ids
        self._taken = set(RESERVED)

    def named(self, *candidates: str) -> str:
        """Reserve the first class name that is not taken, or else the last one with a number behind it."""
        free = (name for name in candidates if name not in self._taken)
        name = next(free, "") or names.unique(candidates[-1], self._taken, between="")
        self._taken.add(name)
        return name

    def fill(self, pointer: str, nodes: Sequence[_Node]) -> None:
        """Fill the models of all objects at one place with their fields."""
        keys = dict.fromkeys(key for node in nodes for key in node.schema.get("properties", ()))
        taken: set[str] = set()
        for key in keys:
            owners = [node for node in nodes if key in node.schema["properties"]]
            attribute = names.attribute(key, taken)
            taken.add(attribute)
            groups = _groups(key, owners)
            below: dict[str, list[_Node]] = {}
            for group in groups:
                at = f"{pointer}/{escape(key)}"
                found = self._field(key, attribute, at, group, len(groups) > 1, below)
                for owner in group.owners:
                    if found is None:
                        owner.model.unknown.append(key)
                    else:
                        owner.model.fields.append(found)
            for at, children in below.items():
                self.fill(at, children)

    def _field(
        self, key: str, attribute: str, pointer: str, group: _Group, several: bool, below: dict[str, list[_Node]]
    ) -> ModelField | None:
        """Make the field of a group; append the object below it to ``below``. None where nothing was ever sent."""
        if not key or len(key) > names.LONGEST:
            return None
        events = tuple(event for owner in group.owners for event in owner.events)

        def child(schema: Schema, at: str) -> Model:
            name = names.camel(names.singular(key) if at.endswith("*") else key)
            longer = f"{group.owners[0].model.name}{name}"
            model = Model(self.named(longer) if several else self.named(name, longer), at)
            below.setdefault(at, []).append(_Node(schema, model, events))
            return model

        read = self._read(group.schema, key, pointer, child)
        return None if read is None else ModelField(key, attribute, *read)

    def _read(
        self, schema: Schema, key: str, pointer: str, child: Callable[[Schema, str], Model]
    ) -> tuple[str, str, Model | None, tuple[str, ...]] | None:
        """Return (type, kind, model, other kinds) of a schema; None where it describes no value."""
        kinds = _kinds(schema)
        if "array" in kinds:
            inner = [entry for name, entry in kinds.items() if name not in ("array", "null")]
            items = kinds["array"].get("items")
            content = merged([*([items] if items else ()), *inner]) if items or inner else {}
            read = self._read(content, key, f"{pointer}/*", child) if content else None
            if read is None:
                return None
            item, kind, model, others = read
            if item.startswith("Maybe["):
                item = item[len("Maybe[") : -1]
            return f"Items[{item}]", f"list of {kind}", model, others
        if "object" in kinds:
            properties = kinds["object"].get("properties", {})
            others = tuple(sorted(kinds.keys() - {"object", "null"}))
            if not properties:
                return _scalar(
                    {name: found for name, found in kinds.items() if name != "object"}, key, pointer in self._ids
                )
            if all(map(names.is_data, properties)):
                return MAP, "map", None, others
            model = child(kinds["object"], pointer)
            return f"Maybe[{model.name}]", "object", model, others
        return _scalar(kinds, key, pointer in self._ids)


def _scalar(kinds: Mapping[str, Schema], key: str, id: bool) -> tuple[str, str, None, tuple[str, ...]] | None:
    sent = kinds.keys() - {"null"}
    numbers = sent & {"integer", "number"}
    is_id = id or _IDENTIFIER.fullmatch(names.snake(key)) is not None
    as_text = is_id or _TEXT.fullmatch(names.snake(key)) is not None
    if not sent:
        return None
    mixed = "boolean" in sent and len(sent) > 1
    if mixed and not is_id:
        words = [*(["text"] if "string" in sent else ()), *(["number"] if numbers else ()), "boolean"]
        return "Any", " or ".join(words), None, ()
    if "string" in sent or (numbers and as_text):
        read = "Id" if is_id else "Shortest" if as_text or numbers else "Text"
        return read, "text or number" if numbers else "text", None, ("boolean",) if mixed else ()
    if numbers:
        return "Number", "number", None, ()
    return "Flagged", "boolean", None, ()


def _kinds(schema: Schema) -> dict[str, Schema]:
    """Return the JSON types that a schema allows, each with its own schema."""
    if "anyOf" in schema:
        return {name: found for any_of in schema["anyOf"] for name, found in _kinds(any_of).items()}
    types = schema.get("type", ())
    return {name: {**schema, "type": name} for name in ([types] if isinstance(types, str) else types)}


def _groups(key: str, owners: Sequence[_Node]) -> list[_Group]:
    """Put owners together whose objects under ``key`` are alike, and all whose values are no objects."""
    groups: list[tuple[list[Schema], list[_Node]]] = []
    for owner in owners:
        schema = owner.schema["properties"][key]
        for schemas, members in groups:
            if _alike(merged(schemas), schema):
                schemas.append(schema)
                members.append(owner)
                break
        else:
            groups.append(([schema], [owner]))
    return [_Group(merged(schemas), tuple(members)) for schemas, members in groups]


def _alike(one: Schema, other: Schema) -> bool:
    first, second = _keys(one), _keys(other)
    if first == frozenset() or second == frozenset():
        return True
    if first is None or second is None:
        return first is second
    common = len(first & second)
    return common in (len(first), len(second)) or common / len(first | second) >= _ALIKE


def _keys(schema: Schema) -> frozenset[str] | None:
    """Return the keys of the objects, or lists of objects, that a schema describes; None where it describes others."""
    kinds = _kinds(schema)
    if "array" in kinds:
        return _keys(kinds["array"].get("items", {}))
    if "object" in kinds:
        return frozenset(kinds["object"].get("properties", ()))
    return None if kinds.keys() - {"null"} else frozenset()


def leaves(model: Model, pointer: str = "") -> Iterator[tuple[str, ModelField]]:
    """Yield (pointer, field) of every field that holds no objects, in order; ``*`` is a list's position."""
    for described in model.all_fields():
        at = f"{pointer}/{escape(described.key)}{'/*' * described.type.count('Items[')}"
        if described.model is None:
            yield at, described
        else:
            yield from leaves(described.model, at)
