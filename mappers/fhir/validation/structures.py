"""R4's structures, read from fhir.resources' R4B models without R4B's additions (validation.md §6)."""

import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import NoneType
from typing import Any

from fhir.resources.R4B import get_fhir_model_class
from fhir_core.types import FhirBase, FhirElementOrResourceBase
from pydantic import BaseModel

RESOURCE_TYPES = tuple(
    (
        "Organization Device Practitioner Patient Coverage EpisodeOfCare CareTeam Appointment Encounter "
        "AllergyIntolerance Condition MedicationStatement MedicationRequest Medication ServiceRequest Observation "
        "CarePlan QuestionnaireResponse RiskAssessment DocumentReference DiagnosticReport AuditEvent Schedule "
        "Slot List Composition Communication Task Provenance OperationOutcome Bundle "
    ).split()
)
"""Resource types that the mappings emit and the validator accepts."""

ANY_RESOURCE = "Resource"
"""Structure name of an element that holds any resource (``contained``, ``Bundle.entry.resource``)."""

COMPANION = "FHIRPrimitiveExtension"
"""fhir.resources' name of a primitive's companion (``_status``): an id and extensions."""

_R4B_ONLY = {("Extension", "valueCodeableReference"), ("Extension", "valueRatioRange")}


@dataclass(frozen=True, slots=True)
class Field:
    """An element of a structure. Either ``primitive`` (a FHIR type) or ``structure`` (a name) is set.

    ``targets`` are the resource types that a Reference may name.
    """

    name: str
    primitive: str | None
    structure: str | None
    listed: bool
    required: bool
    targets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """The names of a choice (``value[x]``): at most one of them may be present; exactly one if ``required``."""

    names: tuple[str, ...]
    required: bool


@dataclass(frozen=True, slots=True)
class Structure:
    """A resource, datatype or backbone element.

    ``required_primitives`` need a value, or a companion with the reason why there is none.
    """

    name: str
    fields: Mapping[str, Field]
    required_primitives: tuple[str, ...]
    choices: tuple[Choice, ...]
    is_resource: bool

    def companion(self, name: str) -> bool:
        """Return whether the primitive ``name`` may have a companion ``_name``."""
        return f"_{name}" in self.fields


@cache
def resource_structure(resource_type: str) -> Structure:
    """Return the structure of a resource type."""
    return _structure(get_fhir_model_class(resource_type), True)


@cache
def structure(name: str) -> Structure:
    """Return the structure of a datatype or backbone element of a structure that was returned before."""
    return _structure(_models[name], False)


_models: dict[str, type[BaseModel]] = {}


def _structure(model: Any, is_resource: bool) -> Structure:
    name = model.__resource_type__
    companions = dict(model.get_required_fields(model))
    fields = {}
    names = {}
    for python_name, info in model.model_fields.items():
        alias = info.alias or python_name
        if alias == "fhir_comments" or (name, alias) in _R4B_ONLY:
            continue
        names[python_name] = alias
        declared = (info.json_schema_extra or {}).get("enum_reference_types", ())
        must_have_value = alias in companions and companions[alias] is None
        fields[alias] = _field(alias, info.annotation, info.is_required() or must_have_value, tuple(declared))
    choices = []
    for members in model.get_one_of_many_fields(model).values():
        required = bool(model.model_fields[members[0]].json_schema_extra["one_of_many_required"])
        choices.append(Choice(tuple(names[member] for member in members if member in names), required))
    valueless = tuple(name for name, companion in companions.items() if companion)
    return Structure(name, fields, valueless, tuple(choices), is_resource)


def _field(name: str, annotation: Any, required: bool, targets: Sequence[str]) -> Field:
    inner, listed = _without_none(annotation), False
    if typing.get_origin(inner) is list:
        inner, listed = _without_none(typing.get_args(inner)[0]), True
    if isinstance(inner, type) and issubclass(inner, FhirBase):
        if issubclass(inner, FhirElementOrResourceBase):
            return Field(name, None, ANY_RESOURCE, listed, required)
        model: Any = inner.get_model_klass()
        _models[model.__resource_type__] = model
        return Field(name, None, model.__resource_type__, listed, required, tuple(targets))
    return Field(name, _primitive(inner), None, listed, required)


def _primitive(annotation: Any) -> str:
    if annotation is bool:
        return "boolean"
    for mark in reversed(getattr(annotation, "__metadata__", ())):
        if name := getattr(mark, "__visit_name__", None):
            return str(name)
    return "uuid"  # pydantic's UUID4, the only primitive that fhir.resources does not define itself


def _without_none(annotation: Any) -> Any:
    members = [arg for arg in typing.get_args(annotation) if arg is not NoneType]
    is_optional = NoneType in typing.get_args(annotation)
    return members[0] if is_optional and len(members) == 1 else annotation
