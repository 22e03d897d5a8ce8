"""Azodha's requests to a model, and the wellbeing score (mapping.md §11.6, §11.7).

A request is not a fact about the patient: it becomes an AuditEvent, and nothing clinical.
"""

import hashlib
from collections.abc import Sequence

from fhirline.mappers import MAPPING_VERSION
from fhirline.mappers.azodha.payload import Inference
from fhirline.mappers.azodha.people import patient, patient_missing
from fhirline.mappers.azodha.reader import Found, Reader
from fhirline.mappers.azodha.score import scores
from fhirline.mappers.context import Context, one_event
from fhirline.mappers.fhir.elements import coding, element, listed, reference
from fhirline.mappers.json_pointer import leaves_of
from fhirline.mappers.payload import Payload
from fhirline.mappers.pipeline.common_resources import engine_device
from fhirline.mappers.results import Element, Flag, Fold, MappingResult, NewResource, Refused

PARAGRAPH = "§11.6"
LIFECYCLE = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle"
ENTITY_TYPE = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
OBJECT_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"

INPUTS = ("inputData", "goals", "keyFindings")
"""What a model is given: stays in the raw store."""
RESULTS = ("observations", "findings", "careTasks", "tasks", "results")
"""What a model has answered, where an event carries it after all: not promoted."""


def inference(_: Payload, context: Context) -> MappingResult:
    """A model is asked to read a file or a record → AuditEvent."""
    reader = Reader(context)
    made = _request(reader)
    names = (*RESULTS, "keyFindings") if context.event_type == "InferenceToKeyFindings" else RESULTS
    results = _left_in_raw(reader, names)
    return reader.result(made, (), *([Flag("ai-result-not-promoted", results)] if results else []))


def wellbeing_score(_: Payload, context: Context) -> MappingResult:
    """A score is to be computed → AuditEvent; an Observation only of a score that is there."""
    reader = Reader(context)
    made = _request(reader)
    refused: list[Refused] = []
    if observations := scores(reader):
        if person := patient(reader):
            made.extend([person, *(each.made for each in observations)])
            for each in observations:
                reader.claim("mapped §11.7", *each.claims)
        else:
            refused = patient_missing("Observation")
    return reader.result(made, refused)


def _request(reader: Reader) -> list[NewResource | Fold]:
    found = reader.find(Inference, reader.places())
    _left_in_raw(reader, INPUTS)
    engine: list[NewResource | Fold] = [engine_device(reader.context, found.model.model)] if found.model.model else []
    return [*engine, audit_event(reader, found)]


def _left_in_raw(reader: Reader, names: Sequence[str]) -> tuple[str, ...]:
    """Ignore by rule what stands under these names: the raw store keeps it; the pointers of what was there."""
    pointers = (f"{place}/{name}" for place in reader.places() for name in names)
    found = tuple(pointer for pointer in pointers if reader.context.raw(pointer) not in (None, "", [], {}))
    reader.claim(f"ignored {PARAGRAPH}", *found)
    return found


def audit_event(reader: Reader, found: Found[Inference]) -> NewResource:
    """Who asked which model, about whom, with which prompts; the prompts' words only as hashes (mapping.md §7)."""
    context, sent = reader.context, found.model
    reader.mapped(found, PARAGRAPH, *(name for name in found.at if name != "prompts"))
    if reader.patient_id:
        reader.claim(f"mapped {PARAGRAPH}", reader.patient_id_at)
    details = [
        _detail("useCaseName", sent.useCaseName),
        _detail("eventEntity", sent.eventEntity),
        *_prompts(reader, found),
    ]
    return one_event(
        context.resource(
            "AuditEvent",
            "request",
            (context.event_key,),
            type=coding(LIFECYCLE, "transmit"),
            action="E",
            recorded=context.envelope.received_at.text,
            outcome="0",
            agent=listed(
                {"who": reference(context.organization), "requestor": True},
                {"who": reference(context.reference("Device", "engine", sent.model)), "requestor": False}
                if sent.model
                else None,
            ),
            source={"observer": reference(context.reference("Device", "mapper", MAPPING_VERSION))},
            entity=listed(
                _mention(reader, "Patient", "patient", reader.patient_id, "1", role="1"),
                _mention(reader, "DocumentReference", "file", sent.fileId, "2"),
                _mention(reader, "CarePlan", "care-plan", sent.carePlanId, "2"),
                _mention(reader, "QuestionnaireResponse", "assessment-response", sent.assessmentResponseId, "2"),
                element(type=coding(ENTITY_TYPE, "4"), detail=listed(*details)) if any(details) else None,
            ),
        ),
        reader.flags(),
    )


def _mention(
    reader: Reader, type: str, kind: str, id: str | None, entity: str, role: str | None = None
) -> Element | None:
    """Something the request is about, by its identifier: the event makes nothing of it."""
    if id is None:
        return None
    return element(
        what={"type": type, "identifier": reader.context.identifier(kind, id)},
        type=coding(ENTITY_TYPE, entity),
        role=coding(OBJECT_ROLE, role) if role else None,
    )


def _prompts(reader: Reader, found: Found[Inference]) -> list[Element | None]:
    details: list[Element | None] = []
    for place in reader.places():
        for pointer, _ in leaves_of(reader.context.raw(f"{place}/prompts"), f"{place}/prompts"):
            if "/expectedOutputFormat" not in pointer:
                reader.claim("withheld §7", pointer)
    for item in reader.context.items(found.at.get("prompts", ""), found.model.prompts):
        details.append(_detail("promptId", item.model.promptId))
        if item.model.promptId:
            reader.claim(f"mapped {PARAGRAPH}", f"{item.pointer}/promptId")
        text = reader.context.raw(f"{item.pointer}/text")
        if isinstance(text, str) and item.model.text:
            details.append(_detail("prompt-sha256", hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()))
    return details


def _detail(type: str, value: str | None) -> Element | None:
    return {"type": type, "valueString": value} if value else None
