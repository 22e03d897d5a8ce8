"""A StructureDefinition for each extension (mapping.md §5.2), with its snapshot: many servers make none."""

from collections.abc import Iterator
from typing import Any

from fhirline.mappers.conformance.definition import FHIR_VERSION, Deployment, definition
from fhirline.mappers.declarations import EXTENSIONS, CodeSystem, Extension, Part
from fhirline.mappers.results import Element, Resource

_STRING_URL = "http://hl7.org/fhirpath/System.String"
_FHIR_TYPE = "http://hl7.org/fhir/StructureDefinition/structuredefinition-fhir-type"

_ELE_1 = {
    "key": "ele-1",
    "severity": "error",
    "human": "All FHIR elements must have a @value or children",
    "expression": "hasValue() or (children().count() > id.count())",
    "xpath": "@value|f:*|h:div",
    "source": "http://hl7.org/fhir/StructureDefinition/Element",
}
_EXT_1 = {
    "key": "ext-1",
    "severity": "error",
    "human": "Must have either extensions or value[x], not both",
    "expression": "extension.exists() != value.exists()",
    "xpath": "exists(f:extension)!=exists(f:*[starts-with(local-name(.), 'value')])",
    "source": "http://hl7.org/fhir/StructureDefinition/Extension",
}


def structure_definitions(deployment: Deployment) -> list[Resource]:
    """Make the StructureDefinitions."""
    return [_structure_definition(extension, deployment) for extension in EXTENSIONS]


def _structure_definition(extension: Extension, deployment: Deployment) -> Resource:
    return definition(
        "StructureDefinition",
        deployment,
        extension.name,
        extension.title,
        extension.definition,
        fhirVersion=FHIR_VERSION,
        kind="complex-type",
        abstract=False,
        context=[{"type": "element", "expression": path} for path in extension.contexts],
        type="Extension",
        baseDefinition="http://hl7.org/fhir/StructureDefinition/Extension",
        derivation="constraint",
        snapshot={"element": list(_snapshot(extension, deployment))},
        differential={"element": list(_differential(extension, deployment))},
    )


def _differential(extension: Extension, deployment: Deployment) -> Iterator[Element]:
    """List the elements in which an extension differs from R4's own definition of Extension."""
    yield _root(extension)
    yield from (
        [_element("Extension.extension", max="0")]
        if not extension.parts
        else [_element("Extension.extension", slicing=_SLICING, min=_required(extension))]
    )
    for part in extension.parts:
        path = f"Extension.extension:{part.name}"
        yield _slice(part)
        yield _element(f"{path}.extension", max="0")
        yield _element(f"{path}.url", fixedUri=part.name)
        yield _value(f"{path}.value[x]", part.type, part.codes, deployment)
    yield _element("Extension.url", fixedUri=deployment.naming.extension(extension))
    if extension.value:
        yield _value("Extension.value[x]", extension.value, extension.codes, deployment)
    else:
        yield _element("Extension.value[x]", max="0")


def _snapshot(extension: Extension, deployment: Deployment) -> Iterator[Element]:
    """List all elements: R4's own definition of Extension, changed by the differential."""
    stated = {element["id"]: element for element in _differential(extension, deployment)}
    paths = ["Extension", "Extension.id", "Extension.extension"]
    for part in extension.parts:
        path = f"Extension.extension:{part.name}"
        paths += [path, f"{path}.id", f"{path}.extension", f"{path}.url", f"{path}.value[x]"]
    for path in (*paths, "Extension.url", "Extension.value[x]"):
        yield {**_base(path), **stated.get(path, {})}


def _base(id: str) -> Element:
    """Return R4's own definition of an element of Extension."""
    name = "Extension" if id == "Extension" else id.rpartition(".")[2].partition(":")[0]
    common: Element = {"id": id, "path": _path(id)}
    extension = {
        "min": 0,
        "max": "*",
        "base": {"path": "Element.extension", "min": 0, "max": "*"},
        "constraint": [_ELE_1, _EXT_1],
        "isModifier": False,
        "isSummary": False,
    }
    match name:
        case "Extension":
            own = {**extension, "base": {"path": "Extension", "min": 0, "max": "*"}}
        case "extension":
            own = {
                **extension,
                "short": "Additional content defined by implementations",
                "definition": "Additional information that is not part of the basic definition of the element.",
                "type": [{"code": "Extension"}],
                "slicing": _SLICING,
            }
            if ":" in id.rpartition(".")[2]:
                del own["slicing"]
        case "id":
            own = {
                "representation": ["xmlAttr"],
                "short": "Unique id for inter-element referencing",
                "definition": "Unique id for the element within a resource (for internal references).",
                "min": 0,
                "max": "1",
                "base": {"path": "Element.id", "min": 0, "max": "1"},
                "type": [_system_string("string")],
                "isModifier": False,
                "isSummary": False,
            }
        case "url":
            own = {
                "representation": ["xmlAttr"],
                "short": "identifies the meaning of the extension",
                "definition": "Source of the definition for the extension code - a logical name or a URL.",
                "min": 1,
                "max": "1",
                "base": {"path": "Extension.url", "min": 1, "max": "1"},
                "type": [_system_string("uri")],
                "isModifier": False,
                "isSummary": False,
            }
        case _:
            own = {
                "short": "Value of extension",
                "definition": "Value of extension.",
                "min": 0,
                "max": "1",
                "base": {"path": "Extension.value[x]", "min": 0, "max": "1"},
                "type": [{"code": "string"}, {"code": "code"}],
                "constraint": [_ELE_1],
                "isModifier": False,
                "isSummary": False,
            }
    return {**common, **own}


_SLICING = {"discriminator": [{"type": "value", "path": "url"}], "ordered": False, "rules": "open"}


def _root(extension: Extension) -> Element:
    return _element(
        "Extension",
        short=extension.title,
        definition=extension.definition,
        min=0,
        max="*" if extension.repeats else "1",
    )


def _slice(part: Part) -> Element:
    return _element(
        f"Extension.extension:{part.name}",
        sliceName=part.name,
        short=part.definition,
        definition=part.definition,
        min=int(part.required),
        max="1",
    )


def _value(id: str, type: str, codes: CodeSystem | None, deployment: Deployment) -> Element:
    binding = codes and {"strength": "required", "valueSet": deployment.url("ValueSet", codes.name)}
    return _element(id, min=1, type=[{"code": type}], **({"binding": binding} if binding else {}))


def _required(extension: Extension) -> int:
    return sum(part.required for part in extension.parts)


def _element(id: str, **content: Any) -> Element:
    return {"id": id, "path": _path(id), **content}


def _path(id: str) -> str:
    """Return the path of an element's id: without the names of slices."""
    return ".".join(step.partition(":")[0] for step in id.split("."))


def _system_string(type: str) -> Element:
    return {"extension": [{"url": _FHIR_TYPE, "valueUrl": type}], "code": _STRING_URL}
