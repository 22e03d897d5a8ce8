"""MediQuo ``patient_immediate_video_call_assigned`` → Encounter ``planned`` (mapping.md §8.3)."""

from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.context import Context
from fhirline.mappers.mediquo.appointment import refuse_without_id
from fhirline.mappers.mediquo.encounter import planned_encounter
from fhirline.mappers.mediquo.patient import PatientEvent
from fhirline.mappers.mediquo.payload import VideoCall, VideoCallAssigned, VideoCallPayload
from fhirline.mappers.results import MappingResult


def video_call_assigned(event: VideoCallAssigned, context: Context) -> MappingResult:
    """Map a video call that has got a room (mapping.md §8.3)."""
    payload = event.payload or VideoCallPayload()
    patient = PatientEvent.of(payload.patient, payload.professional, context)
    build = MappingBuilder()
    build.add(*patient.people())
    call = payload.consultation or VideoCall()
    if call.id is None:
        refuse_without_id(build, "Encounter")
    else:
        build.add(planned_encounter(call, patient, build))
    return patient.result(build)
