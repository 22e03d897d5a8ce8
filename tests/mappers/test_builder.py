"""Rules by which `MappingBuilder` derives omissions and claims; its docstring has further examples."""

from fhirline.config import tables
from fhirline.mappers.builder import EVENT_TYPE_READ, WHOLE_EVENT, MappingBuilder
from fhirline.mappers.context import last_writer
from fhirline.mappers.results import BuiltResource, Flag, Flags, Fold, Version

ENCOUNTER = {"resourceType": "Encounter", "id": "1"}


def test_an_event_without_a_resource_omits_its_whole_body() -> None:
    build = MappingBuilder()
    build.add(None)
    build.refuse("Encounter", "resource-refused", "/id")
    build.omit("/note")
    result = build.result()
    assert result.omitted == (WHOLE_EVENT,)
    assert result.claims is None
    assert [(refused.resource_type, refused.flag) for refused in result.refused] == [
        ("Encounter", Flag("resource-refused", ("/id",)))
    ]


def test_an_event_without_a_resource_has_mapped_nothing_but_its_type() -> None:
    build = MappingBuilder()
    build.claim(EVENT_TYPE_READ, "/event")
    build.claim("mapped §11.4", "/data/status", None)
    build.claim("ignored §11.6", "/data/goals")
    assert build.result().claims == {"/event": EVENT_TYPE_READ, "/data/goals": "ignored §11.6"}
    build.add(last_writer(ENCOUNTER))
    assert build.result().claims == {
        "/event": EVENT_TYPE_READ,
        "/data/status": "mapped §11.4",
        "/data/goals": "ignored §11.6",
    }


def test_claiming_nothing_still_means_that_the_model_declares_nothing() -> None:
    build = MappingBuilder()
    build.claim("mapped §2", None)
    assert build.result().claims == {}


def test_flags_of_a_resource_omit_values_and_those_of_a_fold_do_not() -> None:
    flags = Flags(Flag("period-inverted", ("/end",)), Flag("unmapped-code", ("/code",), "form"))
    build = MappingBuilder()
    build.add(last_writer(ENCOUNTER, flags))
    build.add(
        Fold(
            "Patient/1",
            {},
            lambda _: [BuiltResource({"resourceType": "Patient", "id": "1"}, Version((0, ""), ""), tuple(flags))],
        )
    )
    assert build.result().omitted == ("/end",)
    assert build.added_types == {"Encounter", "Patient"}


def test_only_flags_of_values_that_were_not_used_omit() -> None:
    """A new flag with ``omits`` changes what every mapping keeps: read the golden files before adding it here."""
    omitting = {code for code, definition in tables.flags().flags.items() if definition.omits}
    assert omitting == {"item-empty", "period-inverted", "value-unreadable"}
