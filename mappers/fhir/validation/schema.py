"""Compiles R4's structures into one pydantic-core schema a resource type: strict typed dicts that Rust walks.

Extra elements are forbidden, references know their targets, bound codes their codes. What a typed dict cannot say (a
required primitive or its companion, one of a choice, the invariants) is a straight-line function, generated for just
the structures that have any.

`Builder(narrow)` compiles the *narrow* schema: only the elements our mappings emit (``narrow``: structure → elements),
everything inlined. What it accepts the whole schema accepts too, for every field's schema is the same and it knows
fewer; what it refuses the whole schema, `Builder()`, decides. It is what makes validation fast: a typed dict looks up
every element it knows, and Extension alone knows a hundred.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, SchemaValidator, ValidationError
from pydantic_core.core_schema import (
    TypedDictField,
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

from mappers.contract import Element
from mappers.fhir.validation import bindings, references
from mappers.fhir.validation.invariants import INVARIANTS, OF_CONTAINED, Invariant, human, key
from mappers.fhir.validation.primitives import primitive
from mappers.fhir.validation.structures import (
    ANY_RESOURCE,
    RESOURCE_TYPES,
    Field,
    Structure,
    resource_structure,
    structure,
)

Narrow = Mapping[str, Sequence[str]]

_NOT_IN_CONTAINED = frozenset({"contained"})  # dom-2


class Builder:
    """Builds the schemas of resource types; see the module."""

    def __init__(self, narrow: Narrow | None = None) -> None:
        self._narrow = narrow
        self._definitions: dict[str, CoreSchema] = {}
        self._open: list[str] = []
        self._recursive: set[str] = set()

    def compiled(self, resource_type: str) -> SchemaValidator:
        """The validator of a resource type."""
        root = self._resource(resource_structure(resource_type))
        return SchemaValidator(definitions_schema(root, list(self._definitions.values())))

    def _resource(self, of: Structure, without: frozenset[str] = frozenset()) -> CoreSchema:
        fields = {"resourceType": typed_dict_field(literal_schema([of.name]), required=True)}
        return self._typed_dict(of, fields, without)

    def _typed_dict(
        self, of: Structure, fields: dict[str, TypedDictField], without: frozenset[str] = frozenset()
    ) -> CoreSchema:
        kept = self._narrow.get(of.name, ()) if self._narrow is not None else of.fields
        names = frozenset(of.fields) & frozenset(kept) - without
        valueless = [each for each in of.required_primitives if f"_{each}" in names]
        needed = set(of.required_primitives) - set(valueless)
        for name in of.fields:
            if name in names:
                field = of.fields[name]
                required = field.required or name in needed
                fields[name] = typed_dict_field(self._element(of, field), required=required)
        if self._narrow is not None:
            # What is required but not in `narrow` still is: no element of that name can be there.
            for name in {each.name for each in of.fields.values() if each.required} | needed:
                if name not in fields:
                    fields[name] = typed_dict_field(self._element(of, of.fields[name]), required=True)
        schema: CoreSchema = typed_dict_schema(fields, strict=True, extra_behavior="forbid")
        check = _check(of, names, valueless)
        return no_info_after_validator_function(check, schema) if check else schema

    def _element(self, of: Structure, field: Field) -> CoreSchema:
        one = self._single(of, field)
        if not field.listed:
            return one
        is_primitive = field.primitive is not None or field.name.startswith("_")
        if is_primitive and self._narrow is None:
            one = nullable_schema(one)  # a place without a value, or without a companion; `empties` looks closer
        return list_schema(one, min_length=1, strict=True)

    def _single(self, of: Structure, field: Field) -> CoreSchema:
        path = f"{of.name}.{field.name}"
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
        types = [each for each in RESOURCE_TYPES if self._narrow is None or each == "Medication"]
        choices: dict[Any, CoreSchema] = {each: self._contained(each) for each in types}
        return tagged_union_schema(choices, "resourceType")

    def _contained(self, resource_type: str) -> CoreSchema:
        of = resource_structure(resource_type)
        return self._defined(f"contained {resource_type}", lambda: self._resource(of, _NOT_IN_CONTAINED))

    def _primitive(self, name: str) -> CoreSchema:
        return primitive(name) if self._narrow is not None else self._defined(name, lambda: primitive(name))

    def _complex(self, name: str) -> CoreSchema:
        return self._defined(name, lambda: self._typed_dict(structure(name), {}))

    def _reference(self, targets: tuple[str, ...]) -> CoreSchema:
        of = structure("Reference")

        def build() -> CoreSchema:
            overridden = {
                "reference": references.reference_text(targets),
                "type": references.reference_type(targets),
            }
            kept = self._narrow.get(of.name, ()) if self._narrow is not None else of.fields
            fields = {
                name: typed_dict_field(overridden.get(name) or self._element(of, field), required=False)
                for name, field in of.fields.items()
                if name in kept
            }
            return typed_dict_schema(fields, strict=True, extra_behavior="forbid")

        return self._defined(f"Reference {' '.join(targets)}", build)

    def _defined(self, name: str, build: Callable[[], CoreSchema]) -> CoreSchema:
        """A reference to the definition ``name``; in the narrow schema the definition itself unless it recurs."""
        if name in self._open:
            self._recursive.add(name)
            return definition_reference_schema(name)
        if name in self._definitions:
            return definition_reference_schema(name)
        self._open.append(name)
        built = build()
        self._open.pop()
        if self._narrow is not None and name not in self._recursive:
            return built
        self._definitions[name] = {**built, "ref": name}
        return definition_reference_schema(name)


def _concept_check(system: str, codes: frozenset[str]) -> Callable[[Element], Element]:
    def check(concept: Element) -> Element:
        if bindings.has_code(concept, system, codes):
            return concept
        raise PydanticCustomError("required-binding", "A coding of the bound value set is required")

    return check


def _check(of: Structure, names: frozenset[str], valueless: Sequence[str]) -> Callable[[Element], Element] | None:
    """The generated function of a structure: one expression that decides, and the finding of the errors if it fails."""
    rules = (*INVARIANTS.get(of.name, ()), *(OF_CONTAINED if "contained" in names else ()))
    scope: dict[str, Any] = {rule.__name__: rule for rule in rules}
    terms = [f"{rule.__name__}(e)" for rule in rules]
    for name in valueless:
        terms.append(f"({name!r} in e or 'extension' in e.get({'_' + name!r}, ()))")
    for choice in of.choices:
        members = [_present(each, names) for each in choice.names if each in names or f"_{each}" in names]
        if len(members) > 1 and of.name != "Extension":
            terms.append(f"({' + '.join(members)}) < 2")
        if choice.required:
            terms.append(f"({' or '.join(f'{each!r} in e' for each in choice.names if each in names) or 'False'})")
    if of.name == "Extension":
        terms.append("(len(e) == 2 or single_value(e))")
        scope["single_value"] = _single_value
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
    raise ValidationError.from_exception_data(of.name, errors)
