"""Lineage: what some values are known to have come from, and that every value has come from somewhere."""

import re
from collections.abc import Mapping

import orjson
import pytest

from fhirline.mappers.json_pointer import leaves_of
from fhirline.mappers.pipeline.lineage import Lineage, lineage, unused
from fhirline.mappers.pipeline.normalize import InMemoryState
from tests.support.cases import Case, cases, one_in

CASES = {f"{case.vendor}/{case.name}": case for case in cases()}

KNOWN: Mapping[str, Mapping[str, set[str]]] = {
    "altibbi/recommendation": {
        "Patient.id": {"/user_id"},
        "Patient.identifier[0].value": {"/user_id"},
        "Encounter.id": {"/user_id, /consultation_id"},
        "Encounter.status": {"rule"},
        "Encounter.meta.security[0].code": {"configuration confidentiality"},
        "Condition.code.coding[0].system": {"configuration icd10_system"},
        "Condition.code.coding[0].code": {"/data/icd10/diagnosis/0/code"},
        "Condition.code.text": {"/data/icd10/diagnosis/0/name"},
        "Condition.recordedDate": {"/datetime"},
        "Condition.meta.tag[0].code": {"vendor"},
        "Condition.meta.tag[1].code": {"/type"},
        "MedicationRequest.intent": {"/data/dispense"},
        "MedicationRequest.dosageInstruction[0].timing.code.coding[0].code": {
            "/data/drug/fdaDrug/0/frequency",
            "/data/drug/fdaDrug/1/frequency",
        },
        "Medication.ingredient[0].itemCodeableConcept.text": {
            "/data/drug/fdaDrug/0/name",
            "/data/drug/fdaDrug/1/name",
        },
        "ServiceRequest.performerType.text": {"/data/doctorReferral/name"},
        "Coverage.identifier[0].type.text": {"rule, given /insurance_id"},
        "Provenance.recorded": {"received at"},
        "Provenance.entity[0].what.identifier.value": {"event key"},
    },
    "mediquo/consultation": {
        "Organization.name": {"configuration vendor's name"},
        "Organization.identifier[0].value": {"vendor"},
        "Patient.id": {"/payload/patient/code"},
        "Practitioner.photo[0].url": {"/payload/professional/avatar"},
        "Encounter.period.start": {"/payload/consultation/start_date"},
        "Encounter.participant[0].individual.display": {"/payload/professional/name"},
        # Two equal prescriptions are taken as one: it came from both.
        "MedicationRequest.groupIdentifier.value": {"/payload/prescriptions/0/id, /payload/prescriptions/1/id"},
        "MedicationStatement.dosage[0].text": {
            "/payload/patient/medications/0/posology",
            "/payload/patient/medications/1/posology",
        },
    },
    "infermedica/enriched-published": {
        "Patient.id": {"/summary/patient/id"},
        "RiskAssessment.id": {"/content/survey_id"},
        "RiskAssessment.prediction[0].probabilityDecimal": {"/evidence_assessment/conditions/0/probability"},
        "Provenance.occurredDateTime": {"received at"},
    },
    "azodha/book-appointment-nested": {
        "Appointment.id": {"/data/appointment/id, /data/appointment/patientId"},
        "Appointment.status": {"/data/appointment/status"},
        "Appointment.participant[1].actor.reference": {"/data/appointment/participants/0/id"},
        "Patient.gender": {"/data/patient/gender"},
        "Patient.telecom[0].system": {"rule, given /data/patient/email"},
    },
}


NOT_USED = {
    "azodha/route-event-named": ["/eventName"],  # the route names the event (mapping.md §2.2)
}
"""Golden case → values that its first event's mapping reads, that no resource needs, and that need not be kept."""


def of_first(case: Case) -> list[Lineage]:
    return lineage(case.normalizer(), case.envelopes()[0], InMemoryState())


@pytest.mark.parametrize("name", KNOWN)
def test_known_values_come_from_where_they_come_from(name: str) -> None:
    found = of_first(CASES[name])
    told = {path: {item.source for item in found if item.path == path} for path in KNOWN[name]}
    expected = {path: {_sorted(source) for source in sources} for path, sources in KNOWN[name].items()}
    assert {path: {_sorted(source) for source in sources} for path, sources in told.items()} == expected


def _sorted(source: str) -> str:
    return ", ".join(sorted(source.split(", "))) if source.startswith("/") else source


@pytest.mark.parametrize("name", one_in(12, CASES))
def test_every_value_comes_from_somewhere(name: str) -> None:
    """Each leaf once, with a source; the body's own words from where they stand in the body; every read value used."""
    case = CASES[name]
    envelope = case.envelopes()[0]
    result = case.normalizer()(envelope, InMemoryState())
    outputs = {output.key: orjson.loads(output.value) for output in result.outputs}
    found = of_first(case)
    lost = unused(found, result.ledger) if outputs else NOT_USED.get(name, [])
    assert lost == NOT_USED.get(name, []), "read by the mapping, and in no resource: map them, or build.omit them"
    leaves = {
        (key, _path(resource["resourceType"], pointer)): value
        for key, resource in outputs.items()
        for pointer, value in leaves_of(resource)
    }
    assert [(item.resource, item.path) for item in found] == list(leaves)
    assert all(item.sources for item in found)
    sent = dict(leaves_of(envelope.body))
    spoken = {str(value) for value in sent.values() if isinstance(value, str) and len(value) > 8 and " " in value}
    for item in found:
        if (value := leaves[item.resource, item.path]) in spoken:
            assert value in {sent.get(source) for source in item.sources}, item.path


def _path(resource_type: str, pointer: str) -> str:
    """A pointer as FHIRPath writes it; no FHIR element's name is a number."""
    return resource_type + re.sub(r"/(\d+)(?=/|$)", r"[\1]", pointer).replace("/", ".")


def test_what_earlier_events_left_is_told() -> None:
    case = CASES["altibbi/recommendation_before_status"]
    normalize, memory, told = case.normalizer(), InMemoryState(), []
    for envelope in case.envelopes():
        told = [item for item in lineage(normalize, envelope, memory) if item.path.startswith("Encounter.diagnosis")]
        memory.apply(normalize(envelope, memory).state_updates)
    assert [item.source for item in told] == ["/consultation_id, /user_id, earlier events"]


def test_a_value_that_a_mapping_reads_and_drops_is_unused() -> None:
    """The ledger alone cannot tell: it counts every field of the model that could be read as mapped."""
    case = CASES["mediquo/consultation"]
    result = case.normalizer()(case.envelopes()[0], InMemoryState())
    found = of_first(case)
    avatar = "/payload/professional/avatar"
    dropped = [leaf for leaf in found if avatar not in leaf.affecting]
    assert 0 < len(dropped) < len(found)
    assert unused(found, result.ledger) == []
    assert unused(dropped, result.ledger) == [avatar]
