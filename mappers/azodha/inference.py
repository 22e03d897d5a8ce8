"""Azodha's requests to a model → AuditEvent (mapping.md §11.6), and the wellbeing score (§11.7).

A request is not a fact about the patient: it makes nothing clinical.
"""

import hashlib
from collections.abc import Sequence

from fhirline.mappers import MAPPING_VERSION
from fhirline.mappers.azodha.event import start
from fhirline.mappers.azodha.payload import Inference
from fhirline.mappers.azodha.people import patient
from fhirline.mappers.azodha.reader import EMPTY, Found, Reader
from fhirline.mappers.azodha.score import scores
from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.context import Context, one_event
from fhirline.mappers.fhir.elements import coding, element, listed, reference
from fhirline.mappers.json_pointer import leaves_of
from fhirline.mappers.payload import Payload
from fhirline.mappers.pipeline.common_resources import engine_device
from fhirline.mappers.results import Element, MappingResult, NewResource

MAPPED, IGNORED = "mapped §11.6", "ignored §11.6"
LIFECYCLE = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle"
ENTITY_TYPE = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
OBJECT_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"

INPUTS = ("inputData", "goals", "keyFindings")
"""Fields with what a model is given. Only the raw event keeps it."""
RESULTS = ("observations", "findings", "careTasks", "tasks", "results")
"""Fields with what a model has answered, where an event contains it. It is not promoted (mapping.md §1, rule 6)."""


def inference(_: Payload, context: Context) -> MappingResult:
    """Map a request to read a file or a record → AuditEvent."""
    reader, build = start(context)
    _add_request(reader, build)
    names = (*RESULTS, "keyFindings") if context.event_type == "InferenceToKeyFindings" else RESULTS
    if results := _ignored(names, reader, build):
        build.flag("ai-result-not-promoted", *results)
    return build.result()


def wellbeing_score(_: Payload, context: Context) -> MappingResult:
    """Map a request to compute a score → AuditEvent; Observations, where the event contains a score."""
    reader, build = start(context)
    _add_request(reader, build)
    observations = scores(reader, build)
    if observations and reader.patient_id is None:
        build.refuse("Observation", "patient-missing")
    elif observations:
        build.add(patient(reader, build))
        for score in observations:
            build.add(score.observation)
            build.claim("mapped §11.7", *score.fields)
    return build.result()


def _add_request(reader: Reader, build: MappingBuilder) -> None:
    """Add the AuditEvent, and the Device of the model where one is named."""
    found = reader.find(Inference, reader.places())
    _ignored(INPUTS, reader, build)
    model = found.model.model
    build.add(engine_device(reader.context, model) if model else None, audit_event(found, reader, build))


def _ignored(names: Sequence[str], reader: Reader, build: MappingBuilder) -> list[str]:
    """Claim the values of fields as ignored by rule. Returns their pointers."""
    pointers = (f"{place}/{name}" for place in reader.places() for name in names)
    found = [pointer for pointer in pointers if reader.context.raw(pointer) not in EMPTY]
    build.claim(IGNORED, *found)
    return found


def audit_event(found: Found[Inference], reader: Reader, build: MappingBuilder) -> NewResource:
    """Make the AuditEvent: who asked which model, about whom, with which prompts."""
    context, sent = reader.context, found.model
    build.claim(MAPPED, *found.leaves(*(name for name in found.at if name != "prompts")))
    build.claim(MAPPED, reader.patient_id_at)
    resource = context.resource(
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
            _entity("Patient", "patient", reader.patient_id, "1", context, role="1"),
            _entity("DocumentReference", "file", sent.fileId, "2", context),
            _entity("CarePlan", "care-plan", sent.carePlanId, "2", context),
            _entity("QuestionnaireResponse", "assessment-response", sent.assessmentResponseId, "2", context),
            _details(found, reader, build),
        ),
    )
    return one_event(resource, reader.flags())


def _entity(
    resource_type: str, kind: str, id: str | None, type: str, context: Context, role: str | None = None
) -> Element | None:
    """Refer to something that the request is about by its identifier: the event makes no such resource."""
    if id is None:
        return None
    return element(
        what={"type": resource_type, "identifier": context.identifier(kind, id)},
        type=coding(ENTITY_TYPE, type),
        role=coding(OBJECT_ROLE, role) if role else None,
    )


def _details(found: Found[Inference], reader: Reader, build: MappingBuilder) -> Element | None:
    """Make the entity of the request's other fields; None where none is sent."""
    details = listed(
        _detail("useCaseName", found.model.useCaseName),
        _detail("eventEntity", found.model.eventEntity),
        *_prompts(found, reader, build),
    )
    return element(type=coding(ENTITY_TYPE, "4"), detail=details) if details else None


def _prompts(found: Found[Inference], reader: Reader, build: MappingBuilder) -> list[Element | None]:
    """Make the details of the prompts: id, and SHA-256 of the text. The text itself is withheld (mapping.md §7)."""
    context = reader.context
    details: list[Element | None] = []
    for place in reader.places():
        build.hide_keys(f"{place}/prompts")
        for pointer, _ in leaves_of(context.raw(f"{place}/prompts"), f"{place}/prompts"):
            if "/expectedOutputFormat" not in pointer:
                build.claim("withheld §7", pointer)
    for item in context.items(found.at.get("prompts", ""), found.model.prompts):
        details.append(_detail("promptId", item.model.promptId))
        if item.model.promptId:
            build.claim(MAPPED, f"{item.pointer}/promptId")
        text = context.raw(f"{item.pointer}/text")
        if isinstance(text, str) and item.model.text:
            details.append(_detail("prompt-sha256", hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()))
    return details


def _detail(type: str, value: str | None) -> Element | None:
    return {"type": type, "valueString": value} if value else None
