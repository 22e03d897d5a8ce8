"""Compiles R4's structures into one pydantic-core schema: strict typed dicts that Rust walks.

Extra elements are forbidden, references know their targets, bound codes their codes. What a typed dict cannot say (a
required primitive or its companion, one of a choice, the invariants) is a straight-line function, generated for just
the structures that have any.

The *narrow* schema knows only the elements our mappings emit, and requires those they always do. It is what makes
validation fast: a typed dict looks up every element it knows, and Extension alone knows a hundred. What passes it is
valid, for its every part is the whole schema's or stricter; what does not, the whole schema decides:

* an element that is always there makes ``{}`` impossible; structures without one ask whether they are empty;
* extra elements are dropped from what it returns, and the caller compares that with what went in. That costs half of
  what ``extra_behavior="forbid"`` does.
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
    """The elements of a structure that the mappings emit: always, or sometimes."""

    always: frozenset[str]
    sometimes: frozenset[str]


NOTHING = Emitted(frozenset(), frozenset())

_CONTAINED = "Medication"
"""The type of all resources that the mappings put into another."""

_NEVER_NARROW = {"BundleEntry": frozenset({"resource"})}
"""Elements that only the whole schema's caller looks into."""

_NOT_IN_CONTAINED = frozenset({"contained"})  # dom-2


class Builder:
    """Builds the whole schema, or the narrow one of what is emitted (structure → elements)."""

    def __init__(self, emitted: Mapping[str, Emitted] | None = None) -> None:
        self._emitted = emitted
        self._definitions: dict[str, CoreSchema] = {}
        self._open: list[str] = []

    def compiled(self, resource_types: Sequence[str]) -> SchemaValidator:
        """The validator of the types, told apart by ``resourceType``."""
        choices: dict[Any, CoreSchema] = {each: self._resource(resource_structure(each)) for each in resource_types}
        root = tagged_union_schema(choices, "resourceType")
        return SchemaValidator(definitions_schema(root, list(self._definitions.values())))

    def _resource(self, of: Structure, without: frozenset[str] = frozenset()) -> CoreSchema:
        fields = {"resourceType": typed_dict_field(any_schema(), required=True)}  # the union has seen to it
        return self._typed_dict(of, fields, without)

    def _typed_dict(
        self, of: Structure, fields: dict[str, TypedDictField], without: frozenset[str] = frozenset()
    ) -> CoreSchema:
        names = frozenset(of.fields) - without
        always: frozenset[str] = frozenset()
        if self._emitted is not None:
            emitted = self._emitted.get(of.name, NOTHING)
            # What R4 requires stays required even where no mapping emits it: without it nothing passes.
            always = emitted.always | {each.name for each in of.fields.values() if each.required}
            names &= always | emitted.sometimes | frozenset(of.required_primitives)
            names -= _NEVER_NARROW.get(of.name, frozenset())
        valueless = [each for each in of.required_primitives if f"_{each}" in names]
        required = always | (set(of.required_primitives) - set(valueless))
        for name, field in of.fields.items():
            if name in names:
                needed = field.required or name in required
                fields[name] = typed_dict_field(self._element(of, field), required=needed)
        may_be_empty = self._emitted is not None and not any(each["required"] for each in fields.values())
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
            one = nullable_schema(one)  # a place without a value, or without a companion; `empties` looks closer
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
        """Of ``contained``; a Bundle's resources are validated one by one, for each has its own ``#x``."""
        if of.name == "BundleEntry":
            return dict_schema(strict=True)
        types = RESOURCE_TYPES if self._emitted is None else (_CONTAINED,)
        choices: dict[Any, CoreSchema] = {each: self._contained(each) for each in types}
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
        """A reference to the definition ``name``, which is built when first asked for."""
        if name not in self._open and name not in self._definitions:
            self._open.append(name)
            built = build()
            self._open.pop()
            self._definitions[name] = {**built, "ref": name}
        return definition_reference_schema(name)


@cache
def reference_to(targets: tuple[str, ...]) -> Structure:
    """Reference as a structure for each set of targets, which two of its fields have to know."""
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
    """The generated function of a structure: one expression that decides, and the finding of the errors if it fails."""
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
            absent = " and ".join(f"{each!r} not in e" for each in concern)
            terms.append(f"({absent} or {call})")
    for name in valueless:
        terms.append(f"({name!r} in e or 'extension' in e.get({'_' + name!r}, ()))")
    for choice in of.choices:
        members = [_present(each, names) for each in choice.names if each in names or f"_{each}" in names]
        if len(members) > 1 and of.name != "Extension":
            terms.append(f"({' + '.join(members)}) < 2")
        if choice.required:
            terms.append(f"({' or '.join(f'{each!r} in e' for each in choice.names if each in names) or 'False'})")
    if not terms:
        return None
    scope["refuse"] = lambda element: _refuse(of, rules, valueless, element)
    exec(f"def check(e):\n    if {' and '.join(terms)}:\n        return e\n    refuse(e)\n", scope)
    check: Callable[[Element], Element] = scope["check"]
    return check


def _present(name: str, names: frozenset[str]) -> str:
    return f"({name!r} in e or {'_' + name!r} in e)" if f"_{name}" in names else f"({name!r} in e)"


def _single_value(extension: Element) -> bool:
    return len({each.removeprefix("_") for each in extension} - {"id", "url", "extension"}) < 2


def _refuse(of: Structure, rules: Sequence[Invariant], valueless: Sequence[str], element: Element) -> None:
    errors: list[InitErrorDetails] = []

    def error(code: str, message: str, *at: str) -> None:
        errors.append({"type": PydanticCustomError(code, message), "loc": at, "input": None})

    for name in valueless:
        if name not in element and "extension" not in element.get(f"_{name}", ()):
            error("missing", "Value, or an extension that says why there is none, required", name)
    for choice in of.choices:
        there = [each for each in choice.names if each in element or f"_{each}" in element]
        if len(there) > 1:
            error("choice", "Only one of a choice may be there", there[1])
        if choice.required and not any(each in element for each in choice.names):
            error("missing", "One of a choice is required", choice.names[0])
    for rule in rules:
        if not rule(element):
            error(key(rule), human(rule).replace("{", "(").replace("}", ")"))
    if not errors:
        error("empty", "An object must have content")
    raise ValidationError.from_exception_data(of.name, errors)
