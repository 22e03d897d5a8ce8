"""The plan of ``fhirline vendor new``: the files that it would write, and what it refuses."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from fhirline.config.errors import ConfigurationError
from fhirline.streams.authoring.checkout import Checkout
from fhirline.streams.authoring.new_vendor import Options, Plan, plan
from fhirline.streams.authoring.samples import Sample
from tests.streams.authoring.events import LABS, PING, VISIT
from tests.support.cases import one_in
from tests.support.checkout import copied
from tests.support.paths import ROOT

HERE = Checkout(ROOT)


def planned(*bodies: dict[str, Any], **options: Any) -> Plan:
    return plan(
        HERE, Options("inventedcare", **options), [Sample(f"sample {n}", body) for n, body in enumerate(bodies)]
    )


ODD: dict[str, dict[str, Any]] = {
    "keys": {"visit-id": 1, "class": 2, "2nd": 3, "größe": 4, "予約": 5, "": 6, "Text": "x", "schema": 1, 'q"\\`|': 1},
    "unprintable": {"\u202e": 1, "a\nb": {"\t": 1}, "'''": {'"""': 1}},
    "nothing": {"null": None, "list": [], "object": {}, "lists": [[]], "nulls": [None]},
    "mixed": {"list": [1, "x", {"a": 1}, [2]], "other": [{"a": 1}, {"a": "x"}, {"a": None}]},
    "lists": {"matrix": [[1, 2], [[3]]], "objects": [[{"a": [{"b": [1]}]}]]},
    "numbers": {"101": {"a": 1}, "map": {"1": 1, "2": {"x": 1}}, "large": 10**30, "small": 1e-30},
    "names": {"people": {"build": 1}, "context": 1, "event_": 1, "import": {"None": 1}},
    "long": {"k" * 500: 1, "text": "x" * 100_000},
    "deep": {"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}},
}


@pytest.mark.parametrize("name", one_in(5, ODD))
def test_odd_samples_become_valid_modules(name: str) -> None:
    made = planned({**VISIT, **ODD[name]}, {**LABS[0], **ODD[name]}, {**PING, **ODD[name]})
    modules = {path: text for path, text in made.created.items() if path.endswith(".py")}
    assert len(modules) == 7
    for path, code in modules.items():
        ast.parse(code, path)
        at_most = max(len(line) for line in code.splitlines() if len(line.split()) > 1)
        assert at_most <= 120, path
    for path, text in made.created.items():
        if path.endswith(".json"):
            assert json.loads(text)["events"]


@pytest.mark.parametrize(
    "event", one_in(6, ["payload", "declarations", "import", "予約", "2nd", "Visit Completed!", "a" * 90])
)
def test_any_name_of_an_event_becomes_a_module(event: str) -> None:
    made = planned({**VISIT, "event": event}, {**VISIT, "event": f"{event}?"})
    modules = [Path(path).stem for path in made.created if path.startswith("mappers/")]
    assert len(set(modules)) == 5
    assert all(module.isidentifier() for module in modules)
    assert (
        ast.literal_eval(
            made.created["mappers/inventedcare/__init__.py"].partition("events={")[2].partition(":")[0].strip()
        )
        == event
    )


def test_an_event_takes_no_name_that_the_modules_import() -> None:
    names = ("time_at", "mapping_builder", "EventMapping", "vendor mapping", "MappingResult")
    made = planned(*({**VISIT, "event": name} for name in names))
    package = made.created["mappers/inventedcare/__init__.py"]
    assert "import time_at\n" not in package
    for name in ("EventMapping", "MappingBuilder", "MappingResult", "VendorMapping"):
        assert f"class {name}(" not in made.created["mappers/inventedcare/payload.py"]


def test_bytecode_of_a_removed_vendor_takes_no_name(tmp_path: Path) -> None:
    (tmp_path / "mappers" / "acme" / "__pycache__").mkdir(parents=True)
    (tmp_path / "mappers" / "registry.py").write_text('VENDORS = ("altibbi",)\n')
    (tmp_path / "mappers" / "acme" / "__pycache__" / "payload.pyc").write_bytes(b"")
    Checkout(tmp_path).check_name("acme")
    (tmp_path / "mappers" / "acme" / "payload.py").write_text("")
    with pytest.raises(ConfigurationError, match="is taken: mappers/acme exists already"):
        Checkout(tmp_path).check_name("acme")


def test_several_samples_of_one_event_are_one_model_and_one_case() -> None:
    made = planned(*LABS)
    assert [(event.type, len(event.samples)) for event in made.vendor.events] == [("lab.result", 2)]
    payload = made.created["mappers/inventedcare/payload.py"]
    assert "    value: Shortest = None\n    unit: Text = None\n" in payload
    assert json.loads(made.created["tests/golden/inventedcare/lab_result.in.json"]) == {"events": LABS}


def test_no_resource_but_the_patient_is_made_and_the_rest_is_listed() -> None:
    made = planned(VISIT)
    module = made.created["mappers/inventedcare/visit_completed.py"]
    assert (
        'NOT_MAPPED = (\n    "/patient/name",\n    "/visit-id",\n    "/class",\n    "/room",\n    "/doctor",\n)'
        in module
    )
    assert 'build.add(people.patient(context, "patient", patient))' in module


def test_the_specification_lists_what_each_event_sends() -> None:
    """The events share a model of their patient, which has the fields of both."""
    first = {**VISIT, "patient": {"id": "P-77", "name": "Ann Example", "phones": ["1"]}}
    second = {**LABS[0], "patient": {"id": "P-78", "born": "2000-01-01", "phones": "1"}}
    made = planned(first, second)
    [text] = [text for path, text in made.changed.items() if str(path).endswith("mapping.md")]
    visit, lab = (text.partition(f"`{name}`\n\n")[2].partition("\n\n")[0] for name in (VISIT["event"], "lab.result"))
    assert "| `/patient/name` |" in visit
    assert "| `/patient/born` |" not in visit
    assert "| `/patient/phones/*` |" in visit
    assert "| `/patient/born` |" in lab
    assert "| `/patient/name` |" not in lab
    assert "| `/patient/phones/*` |" in lab
    assert "| `/tests/*/code` |" in lab


def test_without_a_patient_the_event_makes_nothing() -> None:
    made = planned(PING)
    assert 'build.flag("not-supported")' in made.created["mappers/inventedcare/ping.py"]
    assert "patient_key=patient_at()," in made.created["mappers/inventedcare/__init__.py"]
    assert "Inventedcare's `ping`) stay in" in made.changed["README.md"]


def test_a_case_is_received_after_its_events_and_holds_no_secret() -> None:
    case = json.loads(planned(VISIT).created["tests/golden/inventedcare/visit_completed.in.json"])
    assert case["received_at"] == VISIT["sent_at"]
    later = planned({**VISIT, "sent_at": "2031-05-02T10:31:07.5+02:00"}, VISIT)
    case_of_both = json.loads(later.created["tests/golden/inventedcare/visit_completed.in.json"])
    assert case_of_both["received_at"] == "2031-05-02T10:31:07Z"
    earlier = planned({**VISIT, "sent_at": "2031-05-02T10:31:07.5Z"})
    assert (
        '"received_at": "2031-05-02T10:31:08Z"' in earlier.created["tests/golden/inventedcare/visit_completed.in.json"]
    )
    assert case["events"][0]["room"] == {"door": "https://meet.example/r?x=1", "access_token": "[redacted]"}


def test_a_large_sample_is_cut_in_the_case_and_not_in_the_model() -> None:
    items = [{"text": "x" * 500, f"field_{n % 10}": n} for n in range(2_000)]
    made = planned({**VISIT, "items": items, "scan": "y" * 10_000})
    case = made.created["tests/golden/inventedcare/visit_completed.in.json"]
    assert len(json.dumps(items)) > 1_000_000
    assert len(case) < 20_000
    assert "field_9: Number = None" in made.created["mappers/inventedcare/payload.py"]
    assert [notice.partition(" holds ")[2] for notice in made.notices] == [
        "the samples cut: lists to 3 items, texts to 2000 characters"
    ]


def test_options_override_what_would_be_guessed() -> None:
    made = planned(
        {**VISIT, "kind": "x", "who": "W-1"},
        display="Acme Care",
        header="X-Acme",
        event_field="/kind",
        patient_fields=("/who",),
        time_fields=("/sent_at",),
    )
    package = made.created["mappers/inventedcare/__init__.py"]
    assert 'type_at("/kind")' in package
    assert 'patient_at("/who")' in package
    assert not any(guess.guessed for guess in made.guesses.values())
    block = made.changed["config/vendors.yaml"]
    assert "    name: Acme Care\n" in block
    assert "header: x-acme, scheme: static, secrets: [FHIRLINE_INVENTEDCARE_SECRET]" in block


def test_a_document_without_a_place_is_named_and_left(tmp_path: Path) -> None:
    tree = copied(tmp_path, "golden", "benchmarks")
    (tree / "README.md").write_text("# Ours\n")
    made = plan(Checkout(tree), Options("inventedcare"), [Sample("x", VISIT)])
    assert made.notices == ["README.md: the place for a new vendor was not found; add Inventedcare by hand"]
    assert "README.md" not in made.changed


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("altibbi", "is taken"),
        ("fhir", "is taken: mappers/fhir"),
        ("answers", "is taken: mappers/answers.py"),
        ("golden", "is taken: tests/mappers/test_golden.py"),
        ("Acme", "cannot name a vendor"),
        ("acme-care", "cannot name a vendor"),
        ("acme_care", "cannot name a vendor"),
        ("1acme", "cannot name a vendor"),
        ("class", "cannot name a vendor: the code uses this word"),
        ("event", "cannot name a vendor: the code uses this word"),
        ("a" * 33, "cannot name a vendor"),
        ("../acme", "cannot name a vendor"),
    ],
)
def test_a_name_that_is_taken_or_none_is_refused(name: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^NAME: .*{reason}"):
        plan(HERE, Options(name), [Sample("x", VISIT)])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"display": "a|b"}, "^--name: "),
        ({"header": "x y"}, "^--header: "),
        ({"event_field": "/visit-id2"}, "^--event-field: /visit-id2: no sample has a value there"),
        ({"event_field": "/room/door", "patient_fields": ("/doctor",)}, "^--patient-field: /doctor: "),
        ({"event_field": "/notes"}, "^--event-field: /notes: no sample has a value there"),
    ],
)
def test_an_option_that_cannot_be_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        planned(VISIT, **options)


def test_a_sample_without_the_event_field_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"^--event-field: sample 1: /kind does not hold the name of an event"):
        planned({**VISIT, "kind": "x"}, VISIT, event_field="/kind")


def test_a_patient_that_is_a_list_as_well_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"^--patient-field: /patient/id: samples also have a list"):
        planned(VISIT, {**VISIT, "patient": [{"id": "P-1"}]})
