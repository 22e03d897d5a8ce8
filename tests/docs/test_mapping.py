"""Compare docs/design/mapping.md with the code: ids, kinds, flags, settings, event types, code tables, samples."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import pytest
import yaml

from fhirline.config import tables
from fhirline.config.terminology import load_terminology
from fhirline.config.vendors import TenantSettings, load_vendors
from fhirline.mappers.fhir.validation.bindings import codes
from fhirline.mappers.identity import Naming, Part
from fhirline.mappers.registry import VENDORS, vendor_mapping
from tests.docs.test_specification import DESIGN, sections
from tests.support.cases import BASE, Case, cases
from tests.support.paths import CONFIG, GOLDEN, ROOT

DOCUMENT = DESIGN / "mapping.md"
NOT_OF_THE_MAPPING = {"instance", "credential", "rate_limit"}
"""Tenant settings that change no resource."""


def section(number: str) -> str:
    return sections(DOCUMENT)[number]


def rows(number: str) -> list[list[str]]:
    """The rows of a section's tables without their heads, cells as plain text; ``\\|`` is a bar."""
    found: list[list[str]] = []
    for line in section(number).splitlines():
        if line.startswith("|---"):
            found.pop()  # the head
        elif line.startswith("|"):
            cells = re.split(r"(?<!\\)\|", line)[1:-1]
            found.append([cell.replace("\\|", "|").replace("`", "").strip() for cell in cells])
    return found


def code_words(text: str) -> set[str]:
    return set(re.findall(r"`([^`\n]+)`", text))


# Ids


def test_ids_are_those_of_its_test_vectors() -> None:
    vectors = rows("4.1")
    assert len(vectors) == 10
    for name, id in vectors:
        version, vendor, tenant, resource_type, kind, parts = name.split("|")
        assert version == "v1"
        assert Naming(BASE).id(vendor, tenant, resource_type, kind, *parts.split("/")) == id


class Recorder(Naming):
    """Naming that records what ids are made of."""

    made: ClassVar[set[tuple[str, str, str]]] = set()

    def id(self, vendor: str, tenant: str, resource_type: str, kind: str, *parts: Part) -> str:
        self.made.add((vendor, resource_type, kind))
        return super().id(vendor, tenant, resource_type, kind, *parts)


def test_its_kinds_are_those_that_ids_are_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    made: set[tuple[str, str, str]] = set()
    monkeypatch.setattr("tests.support.cases.Naming", Recorder)
    monkeypatch.setattr(Recorder, "made", made)
    for case in cases():
        case.run()
    written = [(vendor, resource_type, kind) for vendor, resource_type, kind, _, _ in rows("4.5")]
    assert len(set(written)) == len(written)
    common = {(resource_type, kind) for vendor, resource_type, kind in written if vendor == "all"}
    named = {item for item in written if item[0] != "all"}
    expected = {item for item in made if item[1:] not in common}
    assert sorted(expected - named) == [], "mapping.md §4.5 has no row of these"
    assert sorted(named - expected) == [], "mapping.md §4.5 has rows of these, which no golden case makes"
    assert common <= {item[1:] for item in made}
    for *_, number in rows("4.5"):
        assert number in sections(DOCUMENT)


# Names


def test_every_flag_is_named_and_exists() -> None:
    text = section("")
    flags = set(tables.flags().flags)
    assert flags - code_words(text) == set()
    named = re.findall(r"[Ff]lags?((?: `[\w-]+`(?:,| and)?)+)", re.sub(r"\s+", " ", text))
    assert {match for group in named for match in re.findall(r"`([\w-]+)`", group)} - flags == set()


def test_every_setting_of_the_mapping_is_named_and_exists() -> None:
    settings = set(TenantSettings.model_fields)
    assert settings - NOT_OF_THE_MAPPING - code_words(section("").replace(": AIAST`", "`")) == set()
    assert set(re.findall(r"[Ss]etting `([a-z0-9_]+)", re.sub(r"\s+", " ", section("")))) - settings == set()


@pytest.mark.parametrize("vendor", VENDORS)
def test_every_event_type_is_named_in_its_vendors_section(vendor: str) -> None:
    declared = vendor_mapping(vendor)
    title = re.escape(load_vendors()[vendor].name)
    [number] = re.findall(rf"^## (\d+)\. {title}$", section(""), re.M)
    named = code_words(section(number)) | code_words(section("2.2"))
    assert {*declared.events, *declared.unmapped} - named == set()


def test_the_golden_cases_it_names_exist() -> None:
    named = re.findall(rf"`((?:{'|'.join(VENDORS)})/[\w-]+)`", section(""))
    assert len(named) > 60
    assert [item for item in named if not (GOLDEN / f"{item}.in.json").exists()] == []


def test_the_tests_it_names_exist() -> None:
    named = re.findall(r"`(test_\w+)`(?:\s+and\s+`(test_\w+)`)?\s+in\s+`(tests/[\w/]+\.py)`", section(""))
    assert len(named) >= 4
    for *names, file in named:
        code = (ROOT / file).read_text("utf-8")
        assert [name for name in names if name and f"def {name}(" not in code] == []


def test_its_extensions_and_code_systems_are_those_that_are_emitted() -> None:
    emitted = "".join(path.read_text("utf-8") for path in GOLDEN.glob("*/*.out.json"))
    extensions = set(re.findall(rf'"{BASE}/StructureDefinition/([\w-]+)"', emitted))
    assert {name for name, *_ in rows("5.2")} == extensions
    systems = set(re.findall(rf'"{BASE}/CodeSystem/([\w-]+)"', emitted))
    assert set(re.findall(r"`BASE/CodeSystem/([\w-]+)", section(""))) == systems


# Code tables


def test_every_code_table_is_named() -> None:
    named = code_words(section("12").partition("### 12.1")[0])
    assert sorted(set(load_terminology().names) - named) == [], "mapping.md §12 does not name these"


def by_words(number: str) -> Mapping[str, list[str]]:
    """The vendor's words of a section's table → the cells beside them."""
    return {words: row[1:] for row in rows(number) for words in row[0].split(", ")}


def test_its_frequencies_are_those_of_the_table() -> None:
    found = {}
    for words, row in rows_of("frequency"):
        means = row.get("means", {})
        repeat = f"{means['frequency']} per {means['period']} {means['period_unit']}" if means else "–"
        found[words] = [repeat, row["codings"][0]["code"]]
    assert by_words("12.1") == found


def test_its_dose_units_are_those_of_the_table() -> None:
    found = by_words("12.2")
    assert set(found) == {words for words, _ in rows_of("dose-unit")}
    for words, row in rows_of("dose-unit"):
        dose_class, unit, code = found[words]
        assert dose_class == row["means"]["dose_class"]
        assert unit == row["means"].get("unit", "as sent")
        assert code.split(":")[0] == ("".join(coding["code"] for coding in row.get("codings", [])) or "none")


def test_its_routes_and_forms_are_those_of_the_tables() -> None:
    found = {(table, words): cell for table, words, cell in rows("12.3")}
    assert set(found) == {(table, words) for table in ("route", "form") for words, _ in rows_of(table)}
    for (table, words), cell in found.items():
        row = dict(rows_of(table))[words]
        for coding in row["codings"]:
            assert f'{coding["system"]}#{coding["code"]} "{coding["display"]}"' in cell
        assert row.get("means", {}).get("dose_class", "") in cell


def test_its_follow_up_labels_are_those_of_the_table() -> None:
    assert {words for words, _ in rows_of("follow-up")} - code_words(section("9.2.7")) == set()


def test_its_denials_are_those_of_the_table() -> None:
    phrases: dict[str, list[str]] = defaultdict(list)
    for words, row in rows_of("denials"):
        phrases[row["means"]["language"]].append(words)
    written = {row[0]: row[1:] for row in rows("8.1.4") if len(row) == 3}
    assert {language: int(number) for language, (number, _) in written.items()} == {
        language: len(found) for language, found in phrases.items()
    }
    for language, (_, examples) in written.items():
        assert set(examples.split(", ")) <= set(phrases[language])


def test_its_statuses_are_those_of_the_tables() -> None:
    consultation = {words: status for words, status, _ in rows("9.1.1") if words != "any other"}
    assert consultation == {words: row["means"]["status"] for words, row in rows_of("altibbi-status")}
    text = section("11.4")
    appointment = {
        word: status
        for words, status in re.findall(r"([A-Z_]+(?:, [A-Z_]+)*) → `([a-z-]+)`", text)
        for word in words.split(", ")
    }
    assert appointment == {words: row["means"]["status"] for words, row in rows_of("azodha-appointment-status")}


def rows_of(table: str) -> list[tuple[str, dict[str, Any]]]:
    """A code table's words, each with its row."""
    loaded = yaml.safe_load((CONFIG / "terminology" / f"{table}.yaml").read_text("utf-8"))
    return [(words, row) for row in loaded["rows"] for words in row["source"]]


def test_its_required_vocabularies_are_r4s() -> None:
    assert {element: sorted(words.split(", ")) for element, words in rows("12.4")} == {
        element: codes()[element] for element, _ in rows("12.4")
    }
    assert len(rows("12.4")) == 7


def test_codes_of_loinc_and_snomed_are_those_that_are_emitted() -> None:
    """A code is followed by its display where one is emitted."""
    emitted = dict(codings("http://loinc.org")) | dict(codings("http://snomed.info/sct"))
    text = " ".join(section("").replace("`", "").split())
    displayed = [f'{code} "{display}"' for code, display in emitted.items() if display]
    assert [item for item in displayed if item not in text] == [], "codes that mapping.md does not mention in this form"
    assert len(emitted) > 15
    codes_of_loinc = {code for code, _ in codings("http://loinc.org")}
    assert {code for code in codes_of_loinc if not re.search(rf"(?<![\w.-]){code}(?![\w-])", text)} == set()
    assert set(re.findall(r"(?<![\w.-])\d{5,6}-\d(?![\w-])", text)) <= codes_of_loinc


def codings(system: str) -> Iterator[tuple[str, str | None]]:
    """Code and display of all codings of a system in the golden files."""

    def below(value: Any) -> Iterator[tuple[str, str | None]]:
        if isinstance(value, dict):
            if value.get("system") == system:
                yield value["code"], value.get("display")
            value = list(value.values())
        for item in value if isinstance(value, list) else ():
            yield from below(item)

    for path in GOLDEN.glob("*/*.out.json"):
        yield from below(json.loads(path.read_text("utf-8")))


# Samples


def golden(vendor: str, name: str) -> Case:
    return next(case for case in cases() if (case.vendor, case.name) == (vendor, name))


@pytest.mark.parametrize(
    ("number", "vendor", "case"),
    [
        ("8.1", "mediquo", "consultation"),
        ("8.2", "mediquo", "report_sent"),
        ("9.1", "altibbi", "status_update"),
        ("9.2", "altibbi", "recommendation"),
    ],
)
def test_the_samples_make_what_it_lists(number: str, vendor: str, case: str) -> None:
    found = re.search(r"sample gives (.+?): \*\*(\d+)\*\*\s+resources", section(number), re.S)
    assert found is not None
    listed: dict[str, int] = {}
    for entry in re.split(r",\s+", found[1]):
        resource_type, _, count = entry.partition(" ")
        listed[resource_type] = int(count or 1)
    made: dict[str, int] = defaultdict(int)
    for output in golden(vendor, case).run()[0].outputs:
        made[output.resource["resourceType"]] += 1
    assert listed == made
    assert sum(made.values()) == int(found[2])


def test_its_dosage_is_that_of_the_sample() -> None:
    block = re.search(r"^```json\n(.+?)^```", DOCUMENT.read_text("utf-8").partition("#### 9.2.4")[2], re.M | re.S)
    assert block is not None
    requests = [
        output.resource
        for output in golden("altibbi", "recommendation").run()[0].outputs
        if output.resource["resourceType"] == "MedicationRequest"
    ]
    assert json.loads(block[1]) in [request["dosageInstruction"] for request in requests]
