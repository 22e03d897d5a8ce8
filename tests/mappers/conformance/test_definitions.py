"""The definitions are those of the outputs: all that a golden output contains is defined, and nothing else."""

import io
import json
import subprocess
import tarfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

import fhirline
from fhirline.config.own_command import own_command
from fhirline.config.vendors import Vendors, load_vendors
from fhirline.mappers import MAPPING_VERSION, declarations
from fhirline.mappers.conformance import formats
from fhirline.mappers.conformance.code_systems import TIME_ZONES, declared_code_systems
from fhirline.mappers.conformance.concept_maps import words_name
from fhirline.mappers.conformance.definition import Deployment
from fhirline.mappers.conformance.guide import definitions, definitions_version, package_name
from fhirline.mappers.fhir.validation import fhir_resources
from fhirline.mappers.times import TZ_CODE
from tests.mappers.conformance.made import deployment, made
from tests.mappers.conformance.outputs import elements as all_elements
from tests.mappers.conformance.outputs import found_codings, found_extensions, found_identifiers
from tests.support.cases import BASE, with_settings
from tests.support.receiving import environment
from tests.support.waiting import LIMIT

Resource = dict[str, Any]


def of(resource_type: str) -> dict[str, Resource]:
    """The definitions of a type by their URL; NamingSystems by the system that they name."""
    return {
        resource.get("url") or resource["uniqueId"][0]["value"]: resource
        for resource in made()
        if resource["resourceType"] == resource_type
    }


def elements(definition: Resource) -> dict[str, Resource]:
    return {element["id"]: element for element in definition["snapshot"]["element"]}


def codes(value_set: str) -> set[str] | None:
    """The codes of a value set; None where its code system does not list them."""
    [include] = of("ValueSet")[value_set]["compose"]["include"]
    system = of("CodeSystem")[include["system"]]
    return {concept["code"] for concept in system["concept"]} if system["content"] == "complete" else None


# All that is emitted is defined


def test_every_extension_is_defined_with_its_context_and_its_value() -> None:
    wrong = []
    for found in found_extensions():
        definition = of("StructureDefinition").get(found.value["url"])
        if definition is None:
            wrong.append(f"{found.case}: {found.value['url']} is not defined")
            continue
        contexts = {context["expression"] for context in definition["context"]}
        if not contexts & {"Element", found.path}:
            wrong.append(f"{found.case}: {found.value['url']} is not defined on {found.path}")
        wrong += [f"{found.case}: {found.path}: {problem}" for problem in against(found.value, elements(definition))]
    assert wrong == []
    assert len(found_extensions()) > 1000


def test_an_extension_that_does_not_repeat_is_once_on_an_element() -> None:
    repeating = {
        url for url, definition in of("StructureDefinition").items() if elements(definition)["Extension"]["max"] == "*"
    }
    wrong = []
    for case, path, element in all_elements():
        urls = [extension["url"] for extension in element.get("extension", ())]
        wrong += [f"{case}: {path}: {url}" for url in set(urls) - repeating if urls.count(url) > 1]
    assert wrong == []


def against(extension: Resource, defined: dict[str, Resource], at: str = "Extension") -> list[str]:
    """Compare an extension, or a part of one, with its definition."""
    url, value, nested = (defined[f"{at}.{name}"] for name in ("url", "value[x]", "extension"))
    problems = [] if extension["url"] == url["fixedUri"] else [f"url {extension['url']}"]
    values = {name: content for name, content in extension.items() if name.startswith("value")}
    allowed = {f"value{type['code'].capitalize()}" for type in value["type"]} if value["max"] != "0" else set()
    if set(values) - allowed or len(values) < value["min"]:
        problems.append(f"{at} has {sorted(values)}, defined is {sorted(allowed)}")
    if (binding := value.get("binding")) and (listed := codes(binding["valueSet"])) is not None:
        problems += [f"{at}: {code} is not in {binding['valueSet']}" for code in set(values.values()) - listed]
    parts = [part["url"] for part in extension.get("extension", ())]
    slices = {
        element["sliceName"]: element for element in defined.values() if "sliceName" in element and at == "Extension"
    }
    if nested["max"] == "0" and parts:
        problems.append(f"{at} has parts {parts}")
    problems += [f"part {name} is not defined" for name in set(parts) - slices.keys()]
    for name, element in slices.items():
        if not element["min"] <= parts.count(name) <= int(element["max"]):
            problems.append(f"part {name} is there {parts.count(name)} times")
    for part in extension.get("extension", ()):
        if part["url"] in slices:
            problems += against(part, defined, f"Extension.extension:{part['url']}")
    return problems


def test_every_code_of_ours_is_defined_with_its_display() -> None:
    wrong = []
    for found in found_codings():
        system = of("CodeSystem").get(found.value["system"])
        if system is None:
            wrong.append(f"{found.case}: {found.value['system']} is not defined")
            continue
        displays = {concept["code"]: concept["display"] for concept in system.get("concept", ())}
        if found.value["code"] not in displays and system["content"] == "complete":
            wrong.append(f"{found.case}: {found.value['system']}#{found.value['code']} is not defined")
        if found.value.get("display", displays.get(found.value["code"])) != displays.get(found.value["code"]):
            wrong.append(f"{found.case}: {found.value['system']}#{found.value['code']} has another display")
    assert wrong == []
    assert len(found_codings()) > 1000


def test_every_identifier_system_of_ours_is_defined() -> None:
    systems = {found.value["system"]: found.case for found in found_identifiers()}
    assert systems.keys() - of("NamingSystem").keys() == set(), "declare it in mappers/<vendor>/declarations.py"
    assert len(systems) > 30


def test_every_time_zone_that_a_tenant_with_tz_code_gets_is_listed() -> None:
    """The setting is off by default; the CodeSystem is made for those who turn it on."""
    emitted = {
        (case, extension["valueCode"])
        for case, _, element in all_elements()
        for extension in element.get("extension", ())
        if extension["url"] == TZ_CODE
    }
    assert {case for case, _ in emitted} == {"azodha/appointment-times-tz-code", "mediquo/tz_code"}
    listed = {concept["code"] for concept in of("CodeSystem")[TIME_ZONES]["concept"]}
    assert {zone for _, zone in emitted} - listed == set()


# Nothing else is defined

NOT_IN_A_GOLDEN_CASE = {"source-data.issue"}
"""An entry of what was cut from an event has it (mapping.md §1.1): tests/mappers/pipeline/test_bounds.py."""


def test_every_extension_is_emitted_on_each_element_that_it_names_and_with_each_part() -> None:
    contexts, parts = defaultdict(set), set()
    for found in found_extensions():
        name = found.value["url"].rpartition("/")[2]
        contexts[name].add(found.path)
        parts |= {f"{name}.{part['url']}" for part in found.value.get("extension", ())}
    for extension in declarations.EXTENSIONS:
        assert contexts[extension.name], extension.name
        assert set(extension.contexts) - {"Element"} - contexts[extension.name] == set(), extension.name
        assert {f"{extension.name}.{part.name}" for part in extension.parts} - parts <= NOT_IN_A_GOLDEN_CASE


def test_every_code_system_is_emitted_or_bound_or_the_source_of_a_map() -> None:
    emitted = {found.value["system"] for found in found_codings()}
    bound = {f"{BASE}/CodeSystem/{declarations.VALUE_BASIS.name}"}
    mapped = {f"{BASE}/CodeSystem/{words_name(url.rpartition('/')[2])}" for url in of("ConceptMap")}
    ours = {url for url in of("CodeSystem") if url.startswith(BASE)}
    assert ours == emitted | bound | mapped
    assert {f"{BASE}/CodeSystem/{system.name}" for system in declared_code_systems()} == ours - mapped


def test_every_kind_of_identifier_is_emitted() -> None:
    emitted = {found.value["system"] for found in found_identifiers()}
    tenant = {system for system in of("NamingSystem") if "/acme/" in system}
    assert {system.rpartition("/")[2] for system in tenant - emitted} == {"erased"}  # by `fhirline forget`


# As FHIR has it


@pytest.mark.parametrize(
    "given",
    [
        deployment(),
        deployment(with_settings("mediquo", {"snomed": False}), "https://fhir.clinic.example"),
        deployment(
            Vendors.model_validate({"vendors": {"altibbi": {"name": "A", "defaults": {}, "tenants": {"b" * 32: {}}}}})
        ),
    ],
    ids=["packaged", "another base", "one vendor, long tenant"],
)
def test_they_are_valid_and_consistent(given: Deployment) -> None:
    all_made = definitions(given)
    assert [(r["resourceType"], r["id"], problems) for r in all_made if (problems := fhir_resources(r))] == []
    keys = [f"{resource['resourceType']}/{resource['id']}" for resource in all_made]
    assert len(set(keys)) == len(keys)
    assert all(len(resource["id"]) <= 64 for resource in all_made)
    assert [listed["reference"]["reference"] for listed in all_made[-1]["definition"]["resource"]] == keys[:-1]
    urls = {resource.get("url") for resource in all_made}
    named = set(_canonicals(all_made[:-1], given.naming.base))
    assert named - urls == set()


def _canonicals(value: Any, base: str) -> list[str]:
    if isinstance(value, dict):
        return [url for name, member in value.items() if name != "text" for url in _canonicals(member, base)]
    if isinstance(value, list):
        return [url for item in value for url in _canonicals(item, base)]
    is_one = isinstance(value, str) and value.startswith(base) and "/sid/" not in value and " " not in value
    return [value] if is_one else []


def test_a_snapshot_has_all_that_its_differential_says() -> None:
    for definition in of("StructureDefinition").values():
        snapshot = elements(definition)
        assert len(snapshot) == len(definition["snapshot"]["element"])
        for element in definition["differential"]["element"]:
            assert element.items() <= snapshot[element["id"]].items()


def test_a_tenant_without_snomed_ct_gets_none_of_its_codes() -> None:
    def uses_snomed(given: Deployment) -> bool:
        return "http://snomed.info/sct" in json.dumps(definitions(given))

    without = load_vendors().model_dump()
    for vendor in without["vendors"].values():
        vendor["defaults"]["snomed"] = False
    assert uses_snomed(deployment())
    assert not uses_snomed(deployment(Vendors.model_validate(without)))


# As they are written


def test_a_package_has_the_layout_of_npm_and_an_index_of_all() -> None:
    with tarfile.open(fileobj=io.BytesIO(formats.as_package(made()))) as tar:
        contents = {member.name: json.load(tar.extractfile(member) or io.BytesIO()) for member in tar}
        assert {(member.mtime, member.uid, member.uname) for member in tar} == {(0, 0, "")}
    manifest = contents.pop("package/package.json")
    index = contents.pop("package/.index.json")
    assert (manifest["name"], manifest["canonical"]) == (package_name(BASE), BASE)
    assert manifest["version"] == f"1.0.0-{MAPPING_VERSION}" == made()[-1]["version"]
    assert [*contents] == [f"package/{entry['filename']}" for entry in index["files"]]
    assert [*contents.values()] == [*made()]


def test_the_time_zones_can_be_left_out() -> None:
    without = [
        json.loads(line) for line in formats.as_ndjson(definitions(deployment(), time_zone_codes=False)).splitlines()
    ]
    assert [resource.get("url") for resource in made() if resource not in (*without, made()[-1])] == [TIME_ZONES]


def test_a_bundle_puts_each_definition_under_its_id() -> None:
    bundle = json.loads(formats.as_bundle(made(), BASE))
    assert fhir_resources({**bundle, "entry": bundle["entry"][:3]}) == []
    assert [entry["request"] for entry in bundle["entry"]] == [
        {"method": "PUT", "url": f"{entry['resource']['resourceType']}/{entry['resource']['id']}"}
        for entry in bundle["entry"]
    ]


@pytest.mark.long
def test_the_command_writes_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    def run(seed: str, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
        settings = environment("127.0.0.1:9", PYTHONHASHSEED=seed, FHIRLINE_BASE="https://fhir.clinic.example")
        command = own_command("conformance", *arguments)
        return subprocess.run(command, cwd=tmp_path, env=settings, capture_output=True, timeout=LIMIT, check=False)

    written = run("1")
    [file] = tmp_path.iterdir()
    assert (written.returncode, written.stderr) == (0, b"")
    assert file.name == f"fhirline.example.clinic.fhir-{definitions_version(fhirline.__version__)}.tgz"
    assert written.stdout.decode().startswith(f"{file.name}: ")
    assert run("2", "--output", "-").stdout == file.read_bytes()
    refused = run("3", "--output", "missing/file")
    assert (refused.returncode, [*tmp_path.iterdir()]) == (2, [file])
    assert b"--output: cannot write missing/file" in refused.stderr
