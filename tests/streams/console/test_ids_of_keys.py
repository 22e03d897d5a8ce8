"""Search by a vendor's own keys: the ids are those that mappings make, and the keys are in no URL and no log."""

import orjson
import pytest

from fhirline.config.settings import load_settings
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.mappers.pipeline.normalize import InMemoryState
from fhirline.mappers.registry import VENDORS, open_without_receipt
from fhirline.streams.console import ids_of_keys
from fhirline.streams.console.ids_of_keys import CONSULTATIONS, PATIENTS, resources_of
from fhirline.streams.demo.webhooks import samples
from tests.streams.console.conftest import Site
from tests.streams.console.test_access import audited
from tests.support.console_pages import Visitor


@pytest.fixture
def visitor(stack: Site) -> Visitor:
    return Visitor(stack.url).log_in()


def test_the_ids_are_those_that_mappings_make() -> None:
    settings, checked = load_settings(), set()
    normalize = build_normalizer(settings)
    for sample in samples():
        body, event = orjson.dumps(sample.body), sample.route.strip("/") or None
        envelope = open_without_receipt(sample.vendor, "default", body, event)
        made = {output.key: orjson.loads(output.value) for output in normalize(envelope, InMemoryState()).outputs}
        keys = {
            key: item["identifier"][0]["value"]
            for key, item in made.items()
            if isinstance(item.get("identifier"), list)
        }
        patient = next((value for key, value in keys.items() if key.startswith("Patient/")), None)
        for key, value in keys.items():
            resource_type = key.partition("/")[0]
            if patient and resource_type == "Patient":
                assert resources_of(settings, sample.vendor, "default", patient, "") == [key]
                checked.add((sample.vendor, resource_type))
            elif patient and resource_type in {kind.resource_type for kind in CONSULTATIONS[sample.vendor]}:
                assert key in resources_of(settings, sample.vendor, "default", f" {patient} ", str(value))
                checked.add((sample.vendor, resource_type))
        response = made.get("QuestionnaireResponse")
        if sample.vendor == "infermedica" and response:
            assert resources_of(settings, "infermedica", "default", "", response["identifier"]["value"])
    assert PATIENTS.keys() == {*VENDORS}
    shown = {sample.vendor for sample in samples()}
    assert {*VENDORS} >= CONSULTATIONS.keys() >= shown
    wanted = {(vendor, kind.resource_type) for vendor in shown for kind in CONSULTATIONS[vendor]}
    assert wanted | {(vendor, "Patient") for vendor in shown} == checked | {("infermedica", "QuestionnaireResponse")}


def test_a_vendor_without_a_row_is_searched_by_its_patients_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """``fhirline vendor new`` writes none: the samples do not say what a visit becomes."""
    settings = load_settings()
    monkeypatch.setattr(ids_of_keys, "CONSULTATIONS", {})
    assert resources_of(settings, "azodha", "default", "p", "c") == []
    assert len(resources_of(settings, "azodha", "default", "p", "")) == 1


def test_a_consultation_needs_the_patient_where_its_id_does() -> None:
    settings = load_settings()
    assert resources_of(settings, "altibbi", "default", "", "9001") == []
    assert len(resources_of(settings, "mediquo", "default", "p", "c")) == 2
    assert len(resources_of(settings, "infermedica", "default", "", "s")) == 1


def test_events_are_found_by_the_vendors_keys_for_a_reason(stack: Site, visitor: Visitor) -> None:
    form = {"vendor": "altibbi", "tenant": stack.load.tenant, "patient": "4711", "consultation": "4711"}
    token = {"form-token": visitor.form_token("/events")}
    page = visitor.get(f"/events?q={stack.prescription.position}").headers["Location"]
    assert visitor.post("/events/search", **form, reason="x").status == 403  # no form token
    assert visitor.post("/events/search", **form, reason=" ", **token).status == 400
    assert visitor.post("/events/search", **(form | {"patient": ""}), reason="x", **token).status == 400
    assert visitor.post("/events/search", **(form | {"vendor": "nobody"}), reason="x", **token).status == 400
    found = visitor.post("/events/search", **form, reason="ticket 47", **token)
    assert found.headers["Location"] == page
    assert (
        visitor.post("/events/search", **(form | {"consultation": ""}), reason="x", **token).headers["Location"] == page
    )
    first, second = audited(stack.process, "events of a patient searched", 2)
    assert (first["reason"], first["by"]) == ("ticket 47", "console")
    assert first["resources"].startswith("Encounter/")
    assert second["resources"].startswith("Patient/")
    assert "4711" not in first["resources"] + second["resources"]
    nobody = visitor.post("/events/search", **(form | {"patient": "nobody-9"}), reason="x", **token)
    assert nobody.status == 200
    assert "None." in nobody.text
    assert "nobody-9" not in nobody.text + stack.process.output
