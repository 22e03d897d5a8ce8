"""Payload models are inferred from any JSON, and the code that they become reads the samples that they come from."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhirline.mappers.payload import Payload
from fhirline.mappers.pipeline.ledger import UNRULED, read_ledger
from fhirline.mappers.results import MappingResult
from fhirline.streams.authoring import names
from fhirline.streams.authoring.inference import in_order, payload_models
from fhirline.streams.authoring.package import Event, NewVendor, not_mapped, payload_module

Body = dict[str, Any]


def written(*bodies: Body, ids: tuple[str, ...] = ()) -> tuple[type[Payload], str]:
    """Infer the model of samples of one event, and return it as written: the class, and the module's code."""
    model = payload_models({"sent": list(bodies)}, ids)["sent"]
    event = Event("sent", "sent", model, (), None, None)
    code = payload_module(NewVendor("v", "V", "x-v", "/event", (), (), (event,)))
    module: dict[str, Any] = {"__name__": "written"}
    exec(compile(code, "payload.py", "exec"), module)
    found = module[model.name]
    assert issubclass(found, Payload)
    return found, code


def fields(*bodies: Body, ids: tuple[str, ...] = ()) -> dict[str, str]:
    """Infer the fields of samples of one event: ``Class.attribute`` → type."""
    models = in_order(payload_models({"sent": list(bodies)}, ids).values())
    return {f"{model.name}.{field.attribute}": field.type for model in models for field in model.fields}


@pytest.mark.parametrize(
    ("bodies", "expected"),
    [
        ([{"a": "x"}], {"Sent.a": "Text"}),
        ([{"a": 1}, {"a": 1.5}], {"Sent.a": "Number"}),
        ([{"a": True}, {"a": None}], {"Sent.a": "Flagged"}),
        ([{"a": 1}, {"a": "x"}], {"Sent.a": "Shortest"}),
        ([{"visit_id": 1, "code": "x", "mobile": 4711}], {"Sent.visit_id": "Id", "Sent.code": "Shortest"}),
        ([{"a": {"b": 1}}], {"A.b": "Number", "Sent.a": "Maybe[A]"}),
        ([{"tests": [{"b": 1}, {"c": "x"}]}], {"Test.b": "Number", "Test.c": "Text", "Sent.tests": "Items[Test]"}),
        ([{"a": ["x"]}, {"a": []}], {"Sent.a": "Items[Text]"}),
        ([{"a": {"b": 1}}, {"a": [{"c": 2}]}], {"A.b": "Number", "A.c": "Number", "Sent.a": "Items[A]"}),
        ([{"a": "x"}, {"a": ["y"]}], {"Sent.a": "Items[Text]"}),
        ([{"a": {}}, {"a": []}], {}),
        ([{"a": {}}, {"a": []}, {"a": "x"}], {"Sent.a": "Items[Text]"}),
        ([{"a": [{}, []]}, {"a": None}], {}),
        ([{"a": {"b": 1}}, {"a": []}], {"A.b": "Number", "Sent.a": "Items[A]"}),
        ([{"a": [[1, 2], [3]]}], {"Sent.a": "Items[Items[Number]]"}),
        ([{"a": [[{"b": 1}], []]}], {"A.b": "Number", "Sent.a": "Items[Items[A]]"}),
        ([{"a": None, "b": {}, "c": [], "d": [[]], "e": [None], "f": [{}]}], {}),
        ([{"a": {"101": {"x": 1}, "102": {}}}], {"Sent.a": "Maybe[dict[str, Any]]"}),
        ([{"a": [{"2024-05-01": 1}]}], {"Sent.a": "Items[dict[str, Any]]"}),
        ([{"class": "x", "2nd": 1, "visit-id": 1}], {"Sent.class_": "Text", "Sent.n2nd": "Number"}),
        ([{"Größe": 1, "予約": 1, "🙂": 1}], {"Sent.grosse": "Number", "Sent.unnamed_2": "Number"}),
        ([{"schema": 1, "copy": 1, "model_x": 1}], {"Sent.schema_": "Number", "Sent.model_x_": "Number"}),
        ([{"a-b": 1, "a_b": 1}], {"Sent.a_b": "Number", "Sent.a_b_2": "Number"}),
        ([{"Text": "x", "Sent": {"Any": [{"y": 1}]}}], {"Sent.text": "Text", "Sent.sent": "Maybe[SentSent]"}),
        ([{"a": True}, {"a": "no"}, {"a": None}], {"Sent.a": "Any"}),
        ([{"a": True, "b_id": True}, {"a": 1, "b_id": "x"}], {"Sent.a": "Any", "Sent.b_id": "Id"}),
        ([{"a": [True, "no"]}], {"Sent.a": "Items[Any]"}),
        ([{"k" * 61: 1, "": 1}], {}),
        ([{"a": {"a": {"a": 1}}}], {"AA.a": "Number", "A.a": "Maybe[AA]", "Sent.a": "Maybe[A]"}),
    ],
)
def test_fields_have_the_kind_that_was_sent(bodies: list[Body], expected: dict[str, str]) -> None:
    found = fields(*bodies)
    assert {name: found.get(name) for name in expected} == expected
    if not expected:
        assert found == {}
    written(*bodies)


def test_other_kinds_that_were_sent_are_named() -> None:
    _, code = written({"a": {"b": 1}}, {"a": "x"}, {"a": True})
    assert "    a: Maybe[A] = None  # also sent as boolean and string\n" in code


def test_a_pointer_of_a_patient_is_read_as_an_id() -> None:
    assert fields({"patient": {"number": 7}}, ids=("/patient/number",))["Patient.number"] == "Id"


def test_what_the_samples_leave_empty_is_named() -> None:
    _, code = written({"a": 1, "gone": None, "tags": []})
    assert "    # Without a value in every sample: gone, tags\n" in code


def test_objects_that_are_alike_are_one_class_and_others_are_not() -> None:
    doctor, other = {"id": 1, "name": "x"}, {"id": "D", "name": "x", "phone": "1"}
    models = payload_models(
        {
            "visit": [{"event": "visit", "doctor": doctor, "data": {"visit": 1, "place": {"city": "x"}}}],
            "lab": [{"event": "lab", "doctor": other, "data": {"value": 1, "place": {"city": "y", "zip": "1"}}}],
        },
        (),
    )
    assert {model.name for model in in_order(models.values())} == {
        *("Event", "Doctor", "Place", "Visit", "VisitData", "Lab", "LabData")
    }
    assert models["visit"].base is models["lab"].base
    assert [field.key for field in models["visit"].all_fields()] == ["event", "doctor", "data"]
    assert [field.key for field in models["lab"].fields] == ["data"]


def test_a_field_that_means_different_things_in_two_events_is_two() -> None:
    models = payload_models({"one": [{"result": "fine"}], "two": [{"result": {"value": 1}}]}, ())
    assert [model.fields[0].type for model in models.values()] == ["Text", "Maybe[TwoResult]"]


def test_pointers_that_are_not_mapped_lead_to_all_but_the_used() -> None:
    body = {"event": "x", "patient": {"id": 1, "name": {"first": "x"}}, "a/b": 1, "tests": [{"c": 1}], "empty": None}
    model = payload_models({"x": [body]}, ())["x"]
    assert not_mapped(model, {"/event", "/patient/id"}) == ["/patient/name", "/a~1b", "/tests"]


# Any JSON

PLAIN = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=12)
SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.decimals(-9, 9, places=3).map(float) | PLAIN
KEYS = PLAIN | st.sampled_from(["id", "class", "2nd", "visit-id", "Text", "None", "schema", "__init__", "7", "patient"])


def one_kind(scalar: Any) -> str:
    return "number" if isinstance(scalar, int | float) and not isinstance(scalar, bool) else type(scalar).__name__


LISTS = st.lists(SCALARS, max_size=4).map(
    lambda items: [item for item in items if one_kind(item) == one_kind(items[0])]
)
VALUES = st.recursive(SCALARS | LISTS, lambda inner: st.dictionaries(KEYS, inner, max_size=4), max_leaves=25)


@pytest.mark.long
@settings(max_examples=150)
@given(body=st.dictionaries(KEYS, VALUES, min_size=1, max_size=6))
def test_the_models_of_any_body_read_that_body(body: Body) -> None:
    """Every value has a field that can hold it, so that none is counted as schema drift."""
    model, _ = written(body)
    rows = [*read_ledger(body, model.model_validate(body), MappingResult())]
    assert [leaf.pointer for leaf in rows if leaf.rule == UNRULED] == []


@settings(max_examples=100)
@given(text=st.text(max_size=30))
def test_any_text_becomes_a_name(text: str) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]*", names.snake(text))
    assert names.snake(text).isidentifier()
    assert names.camel(text).isidentifier()
    assert names.attribute(text, ()).isidentifier()
