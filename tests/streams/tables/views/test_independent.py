"""Seven shipped views against rows computed by hand from the resources' JSON, not by the engine of the views."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fhirline.streams.tables.views import load_views
from tests.support.cases import BASE
from tests.support.goldens import golden_resources, golden_resources_of

Resource = dict[str, Any]
Expected = Iterator[dict[str, Any]]

VIEWS = load_views(base=BASE)


def key(reference: Resource | None, resource_type: str) -> str | None:
    kind, _, id = (reference or {}).get("reference", "").partition("/")
    return id if id and kind == resource_type else None


def first(items: list[Any] | None) -> Any:
    return items[0] if items else {}


def extensions(element: Resource | None, name: str) -> list[Resource]:
    return [extension for extension in (element or {}).get("extension", []) if extension["url"].endswith(f"/{name}")]


def source_value(companion: Resource | None) -> str | None:
    for found in extensions(companion, "source-value"):
        for part in found["extension"]:
            if part["url"] == "value":
                return str(part["valueString"])
    return None


def common(resource: Resource) -> dict[str, Any]:
    [vendor] = [tag["code"] for tag in resource["meta"]["tag"] if tag["system"] == f"{BASE}/CodeSystem/vendor"]
    place, _, _ = resource["meta"]["source"].partition("#")
    start, base_vendor, tenant = place.rsplit("/", 2)
    assert (start, base_vendor) == (f"{BASE}/source", vendor)
    return {"resource_id": resource["id"], "vendor": vendor, "tenant": tenant}


def patient(resource: Resource) -> Expected:
    names = resource.get("name", [])
    apart: Resource = next((name for name in names if "family" in name), {})
    telecom: dict[str, str] = {}
    for point in resource.get("telecom", []):
        telecom.setdefault(point["system"], point["value"])
    yield {
        **common(resource),
        "identifier": resource["identifier"][0]["value"],
        "identifier_system": resource["identifier"][0]["system"],
        "name": first(names).get("text") if names else None,
        "family": apart.get("family"),
        "given": first(apart.get("given")) or None,
        "gender": resource.get("gender"),
        "birth_date": resource.get("birthDate"),
        "email": telecom.get("email"),
        "phone": telecom.get("phone"),
    }


def encounter_status_history(resource: Resource) -> Expected:
    for number, entry in enumerate(resource.get("statusHistory", []), 1):
        yield {
            "resource_id": resource["id"],
            "ordinal": number,
            "status": entry.get("status"),
            "vendor_status": source_value(entry.get("_status")),
            "period_start": entry["period"].get("start"),
            "period_end": entry["period"].get("end"),
        }


def appointment(resource: Resource) -> Expected:
    actors = [participant["actor"] for participant in resource["participant"]]
    professionals = [
        actor
        for actor in actors
        if actor.get("type") == "Practitioner" or actor.get("reference", "").startswith("Practitioner/")
    ]
    absent = extensions(resource.get("_status"), "data-absent-reason")
    service = first(resource.get("serviceType"))
    yield {
        **common(resource),
        "identifier": resource["identifier"][0]["value"],
        "patient_id": next((found for actor in actors if (found := key(actor, "Patient"))), None),
        "practitioner_id": next((found for actor in actors if (found := key(actor, "Practitioner"))), None),
        "practitioner_name": next((actor["display"] for actor in professionals if "display" in actor), None),
        "status": resource.get("status"),
        "status_absent": absent[0]["valueCode"] if absent else None,
        "vendor_status": next((extension["valueString"] for extension in extensions(resource, "vendor-status")), None),
        "starts": resource.get("start"),
        "ends": resource.get("end"),
        "start_sent": source_value(resource.get("_start")),
        "end_sent": source_value(resource.get("_end")),
        "minutes": resource.get("minutesDuration"),
        "created": resource.get("created"),
        "service_code": first(service.get("coding")).get("code"),
        "service_text": service.get("text"),
        "channel": resource.get("appointmentType", {}).get("text"),
        "reason": first(resource.get("reasonCode")).get("text"),
        "cancellation_reason": resource.get("cancelationReason", {}).get("text"),
        "description": resource.get("description"),
        "comment": resource.get("comment"),
    }


def observation(resource: Resource) -> Expected:
    concept = resource.get("valueCodeableConcept", {})
    quantity = resource.get("valueQuantity", {})
    surveys = (key(derived_from, "QuestionnaireResponse") for derived_from in resource.get("derivedFrom", []))
    yield {
        **common(resource),
        "patient_id": key(resource.get("subject"), "Patient"),
        "encounter_id": key(resource.get("encounter"), "Encounter"),
        "status": resource["status"],
        "category": first(first(resource.get("category")).get("coding")).get("code"),
        "code_system": first(resource["code"].get("coding")).get("system"),
        "code": first(resource["code"].get("coding")).get("code"),
        "code_text": resource["code"].get("text"),
        "effective": resource.get("effectiveDateTime"),
        "issued": resource.get("issued"),
        "value_code_system": first(concept.get("coding")).get("system"),
        "value_code": first(concept.get("coding")).get("code"),
        "value_code_sent": source_value(concept),
        "value_text": concept.get("text"),
        "value_string": resource.get("valueString"),
        "value_number": quantity.get("value"),
        "value_unit": quantity.get("unit"),
        "value_boolean": resource.get("valueBoolean"),
        "absent_reason": first(resource.get("dataAbsentReason", {}).get("coding")).get("code"),
        "note": "\n".join(note["text"] for note in resource.get("note", [])) or None,
        "device_id": key(resource.get("device"), "Device"),
        "questionnaire_response_id": next((survey for survey in surveys if survey), None),
    }


def dosage(resource: Resource) -> Expected:
    for number, entry in enumerate(resource.get("dosageInstruction", []), 1):
        dose = first(entry.get("doseAndRate")).get("doseQuantity", {})
        route, timing = entry.get("route", {}), entry.get("timing", {})
        repeat, timing_code = timing.get("repeat", {}), timing.get("code", {})
        bounds = repeat.get("boundsDuration", {})
        yield {
            "resource_id": resource["id"],
            "ordinal": number,
            "text": entry.get("text"),
            "dose": dose.get("value"),
            "dose_unit": dose.get("unit"),
            "dose_code": dose.get("code"),
            "route_code": first(route.get("coding")).get("code"),
            "route_text": route.get("text"),
            "frequency": repeat.get("frequency"),
            "period": repeat.get("period"),
            "period_unit": repeat.get("periodUnit"),
            "timing_code": first(timing_code.get("coding")).get("code"),
            "timing_text": timing_code.get("text"),
            "duration": bounds.get("value"),
            "duration_unit": bounds.get("code"),
            "patient_instruction": entry.get("patientInstruction"),
            "additional_instruction": first(entry.get("additionalInstruction")).get("text"),
        }


def questionnaire_answer(resource: Resource) -> Expected:
    def walk(items: list[Resource]) -> Iterator[Resource]:
        for item in items:
            yield item
            yield from walk(item.get("item", []))

    for number, item in enumerate(walk(resource.get("item", [])), 1):
        for place, answer in enumerate(item.get("answer") or [{}], 1):
            yield {
                "resource_id": resource["id"],
                "question_ordinal": number,
                "link_id": item["linkId"],
                "question_text": item.get("text"),
                "is_group": "item" in item,
                "answer_ordinal": place,
                "answer_text": answer.get("valueString"),
                "answer_number": answer.get("valueInteger", answer.get("valueDecimal")),
                "answer_boolean": answer.get("valueBoolean"),
            }


def lineage(resource: Resource) -> Expected:
    [event_type] = [tag["code"] for tag in resource["meta"]["tag"] if tag["system"] == f"{BASE}/CodeSystem/event-type"]
    if [coding["code"] for coding in resource["activity"]["coding"]] != ["UPDATE"]:
        return  # the Provenance of an erasure, which has no events
    for number, target in enumerate(resource["target"], 1):
        target_type, _, target_id = target["reference"].partition("/")
        yield {
            **common(resource),
            "event_type": event_type,
            "event_key": resource["entity"][0]["what"]["identifier"]["value"],
            "occurred": resource["occurredDateTime"],
            "received": resource["recorded"],
            "ordinal": number,
            "target_type": target_type,
            "target_id": target_id,
        }


def resource_flag(resource: Resource) -> Expected:
    flags = [tag["code"] for tag in resource["meta"]["tag"] if tag["system"] == f"{BASE}/CodeSystem/data-quality"]
    for number, flag in enumerate(flags, 1):
        yield {**common(resource), "resource_type": resource["resourceType"], "ordinal": number, "flag": flag}


@pytest.mark.parametrize(
    ("resource_type", "compute"),
    [
        ("Patient", patient),
        ("Encounter", encounter_status_history),
        ("Appointment", appointment),
        ("Observation", observation),
        ("MedicationRequest", dosage),
        ("QuestionnaireResponse", questionnaire_answer),
        ("Provenance", lineage),
        ("Resource", resource_flag),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_view_gives_what_a_person_reads(resource_type: str, compute: Callable[[Resource], Expected]) -> None:
    view = VIEWS[compute.__name__]
    names = [column.name for column in view.columns]
    resources = golden_resources() if resource_type == "Resource" else golden_resources_of(resource_type)
    for resource in resources:
        assert [dict(zip(names, row, strict=True)) for row in view.rows(resource)] == [*compute(resource)]
