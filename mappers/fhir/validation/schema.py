"""Compile R4's structures into one pydantic-core schema: strict typed dicts, validated in Rust.

Extra elements, references to other types than the targets, and codes outside a required binding are refused. A typed
dict cannot express a required primitive or its companion, one of a choice, or an invariant. A straight-line function is
generated for the structures that have any of these.

The *narrow* schema has only the elements that our mappings emit, and requires those that they always emit. It makes
validation fast, because a typed dict looks up every element it has, and Extension alone has a hundred. A resource that
passes is valid, because each part is as strict as the whole schema or stricter. One that does not is validated by the
whole schema.

* A structure with an element that is always emitted cannot be ``{}``. The others are checked for emptiness.
* Extra elements are dropped from the result, which the caller compares with the input. That takes half the time of
  ``extra_behavior="forbid"``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, SchemaValidator, ValidationError
from pydantic_core.core_schema import (
    TypedDictField,
    any_schema,
    definition_reference_schema,
    definitions_schema,
    dict_schema,
    list_schema,
    literal_schema,
    no_info_after_validator_function,
    nullable_schema,
    tagged_union_schema,
    typed_dict_field,
    typed_dict_schema,
)

from fhirline.mappers.fhir.validation import bindings, references
from fhirline.mappers.fhir.validation.datatype_invariants import Invariant
from fhirline.mappers.fhir.validation.invariants import INVARIANTS, OF_CONTAINED, concerned, human, key
from fhirline.mappers.fhir.validation.labels import labelled
from fhirline.mappers.fhir.validation.primitives import plain, primitive
from fhirline.mappers.fhir.validation.structures import (
    ANY_RESOURCE,
    RESOURCE_TYPES,
    Field,
    Structure,
    resource_structure,
    structure,
)
from fhirline.mappers.results import Element


@dataclass(frozen=True, slots=True)
class Emitted:
    """The elements of a structure that the mappings emit, always or sometimes."""

    always: frozenset[str]
    sometimes: frozenset[str]


NOTHING = Emitted(frozenset(), frozenset())

_CONTAINED = "Medication"
"""The type of the contained resources that the narrow schema knows."""

_NEVER_NARROW = {"BundleEntry": frozenset({"resource"})}
"""Elements left out of the narrow schema: `compiled.whole` validates an entry's resource by itself."""

_NOT_IN_CONTAINED = frozenset({"contained"})  # dom-2


class Builder:
    """Builds the whole schema, or the narrow one of the ``emitted`` elements (structure → elements)."""

    def __init__(self, emitted: Mapping[str, Emitted] | None = None) -> None:
        self._emitted = emitted
        self._definitions: dict[str, CoreSchema] = {}
        self._open: list[str] = []

    def compiled(self, resource_types: Sequence[str]) -> SchemaValidator:
        """Compile the validator of these types, a union discriminated by ``resourceType``."""
        choices: dict[Any, CoreSchema] = {name: self._resource(resource_structure(name)) for name in resource_types}
        root = tagged_union_schema(choices, "resourceType")
        return SchemaValidator(definitions_schema(root, list(self._definitions.values())))

    def _resource(self, of: Structure, without: frozenset[str] = frozenset()) -> CoreSchema:
        fields = {"resourceType": typed_dict_field(any_schema(), required=True)}  # the union has checked it
        return self._typed_dict(of, fields, without)

    def _typed_dict(
        self, of: Structure, fields: dict[str, TypedDictField], without: frozenset[str] = frozenset()
    ) -> CoreSchema:
        names = frozenset(of.fields) - without
        always: frozenset[str] = frozenset()
        if self._emitted is not None:
            emitted = self._emitted.get(of.name, NOTHING)
            # An element that R4 requires stays required although no mapping emits it: such a structure never passes.
            always = emitted.always | {field.name for field in of.fields.values() if field.required}
            names &= always | emitted.sometimes | frozenset(of.required_primitives)
            names -= _NEVER_NARROW.get(of.name, frozenset())
        valueless = [name for name in of.required_primitives if f"_{name}" in names]
        required = always | (set(of.required_primitives) - set(valueless))
        for name, field in of.fields.items():
            if name in names:
                needed = field.required or name in required
                fields[name] = typed_dict_field(self._element(of, field), required=needed)
        may_be_empty = self._emitted is not None and not any(field["required"] for field in fields.values())
        schema: CoreSchema = typed_dict_schema(
            fields, strict=True, extra_behavior="forbid" if self._emitted is None else "ignore"
        )
        check = _check(of, names, valueless, may_be_empty)
        return no_info_after_validator_function(check, schema) if check else schema

    def _element(self, of: Structure, field: Field) -> CoreSchema:
        one = self._single(of, field)
        if not field.listed:
            return one
        is_primitive = field.primitive is not None or field.name.startswith("_")
        if is_primitive and self._emitted is None:
            one = nullable_schema(one)  # a position without a value or without a companion; `empties` checks which
        return list_schema(one, min_length=1, strict=True)

    def _single(self, of: Structure, field: Field) -> CoreSchema:
        path = f"{of.name}.{field.name}"
        if of.name.startswith("Reference") and field.name == "reference":
            if self._emitted is not None and _CONTAINED not in field.targets:
                return references.plain_reference(field.targets)
            return references.reference_text(field.targets)
        if of.name.startswith("Reference") and field.name == "type":
            return references.reference_type(field.targets)
        if field.primitive is not None:
            codes = bindings.codes().get(path)
            return literal_schema(list(codes)) if codes else self._primitive(field.primitive)
        if field.structure == ANY_RESOURCE:
            return self._any_resource(of)
        assert field.structure is not None
        if field.structure == "Reference":
            return self._reference(references.targets(of.name, field.name, field.targets))
        schema = self._complex(field.structure)
        if bound := bindings.CONCEPTS.get(path):
            return no_info_after_validator_function(_concept_check(*bound), schema)
        return schema

    def _any_resource(self, of: Structure) -> CoreSchema:
        """Return the schema of ``contained``. A Bundle's resources are validated by themselves."""
        if of.name == "BundleEntry":
            return dict_schema(strict=True)
        types = RESOURCE_TYPES if self._emitted is None else (_CONTAINED,)
        choices: dict[Any, CoreSchema] = {name: self._contained(name) for name in types}
        return tagged_union_schema(choices, "resourceType")

    def _contained(self, resource_type: str) -> CoreSchema:
        of = resource_structure(resource_type)
        return self._defined(f"contained {resource_type}", lambda: self._resource(of, _NOT_IN_CONTAINED))

    def _primitive(self, name: str) -> CoreSchema:
        if self._emitted is None:
            return self._defined(name, lambda: primitive(name))
        return plain(name)

    def _complex(self, name: str) -> CoreSchema:
        if name == "Meta" and self._emitted is not None:
            return self._defined(name, lambda: labelled(self._typed_dict(structure(name), {})))
        return self._defined(name, lambda: self._typed_dict(structure(name), {}))

    def _reference(self, targets: tuple[str, ...]) -> CoreSchema:
        of = reference_to(targets)
        return self._defined(of.name, lambda: self._typed_dict(of, {}))

    def _defined(self, name: str, build: Callable[[], CoreSchema]) -> CoreSchema:
        """Return a reference to the definition ``name``, which is built on first use."""
        if name not in self._open and name not in self._definitions:
            self._open.append(name)
            built = build()
            self._open.pop()
            self._definitions[name] = {**built, "ref": name}
        return definition_reference_schema(name)


@cache
def reference_to(targets: tuple[str, ...]) -> Structure:
    """Return the structure of a Reference with these targets, which two of its fields are checked against."""
    of = structure("Reference")
    fields = {
        name: replace(field, targets=targets) if name in {"reference", "type"} else field
        for name, field in of.fields.items()
    }
    return replace(of, name=f"Reference {' '.join(targets)}".strip(), fields=fields)


def _concept_check(system: str, codes: frozenset[str]) -> Callable[[Element], Element]:
    def check(concept: Element) -> Element:
        if bindings.has_code(concept, system, codes):
            return concept
        raise PydanticCustomError("required-binding", "A coding of the bound value set is required")

    return check


def _check(
    of: Structure, names: frozenset[str], valueless: Sequence[str], may_be_empty: bool
) -> Callable[[Element], Element] | None:
    """Generate the check of a structure: one expression decides; `_refuse` finds the errors if it is false."""
    rules = (*INVARIANTS.get(of.name, ()), *(OF_CONTAINED if "contained" in names else ()))
    scope: dict[str, Any] = {rule.__name__: rule for rule in rules} | {"single_value": _single_value}
    terms = ["e"] if may_be_empty else []
    for rule in rules:
        call = f"{rule.__name__}(e)"
        concern = concerned(rule, names)
        if of.name == "Extension":
            terms.append(f"((len(e) == 2 and 'id' not in e) or ({call} and single_value(e)))")
        elif concern is None:
            terms.append(call)
        elif concern:
            absent = " and ".join(f"{item!r} not in e" for item in concern)
            terms.append(f"({absent} or {call})")
    for name in valueless:
        terms.append(f"({name!r} in e or 'extension' in e.get({'_' + name!r}, ()))")
    for choice in of.choices:
        members = [_present(item, names) for item in choice.names if item in names or f"_{item}" in names]
        if len(members) > 1 and of.name != "Extension":
            terms.append(f"({' + '.join(members)}) < 2")
        if choice.required:
            terms.append(f"({' or '.join(f'{item!r} in e' for item in choice.names if item in names) or 'False'})")
    if not terms:
        return None
    scope["refuse"] = lambda element: _refuse(of, rules, valueless, element)
    exec(f"def check(e):\n    if {' and '.join(terms)}:\n        return e\n    refuse(e)\n", scope)
    check: Callable[[Element], Element] = scope["check"]
    return check


def _present(name: str, names: frozenset[str]) -> str:
    return f"({name!r} in e or {'_' + name!r} in e)" if f"_{name}" in names else f"({name!r} in e)"


def _single_value(extension: Element) -> bool:
    return len({item.removeprefix("_") for item in extension} - {"id", "url", "extension"}) < 2


def _refuse(of: Structure, rules: Sequence[Invariant], valueless: Sequence[str], element: Element) -> None:
    errors: list[InitErrorDetails] = []

    def error(code: str, message: str, *at: str) -> None:
        errors.append({"type": PydanticCustomError(code, message), "loc": at, "input": None})

    for name in valueless:
        if name not in element and "extension" not in element.get(f"_{name}", ()):
            error("missing", "Value, or an extension that says why there is none, required", name)
    for choice in of.choices:
        there = [item for item in choice.names if item in element or f"_{item}" in element]
        if len(there) > 1:
            error("choice", "Only one of a choice may be there", there[1])
        if choice.required and not any(item in element for item in choice.names):
            error("missing", "One of a choice is required", choice.names[0])
    for rule in rules:
        if not rule(element):
            error(key(rule), human(rule).replace("{", "(").replace("}", ")"))
    if not errors:
        error("empty", "An object must have content")
    raise ValidationError.from_exception_data(of.name, errors)
