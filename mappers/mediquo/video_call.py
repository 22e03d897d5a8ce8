"""MediQuo ``patient_immediate_video_call_assigned`` → Encounter ``planned`` (mapping.md §8.3)."""

from fhirline.mappers.context import Context
from fhirline.mappers.mediquo.appointment import unidentified
from fhirline.mappers.mediquo.compartment import compartment
from fhirline.mappers.mediquo.encounter import CONSULTATION, planned_encounter
from fhirline.mappers.mediquo.payload import VideoCall, VideoCallAssigned, VideoCallPayload
from fhirline.mappers.results import MappingResult


def video_call_assigned(event: VideoCallAssigned, context: Context) -> MappingResult:
    payload = event.payload or VideoCallPayload()
    patient = compartment(payload.patient, payload.professional, context)
    call = payload.consultation or VideoCall()
    if call.id is None:
        patient.skip(CONSULTATION)
        return patient.mapped((), (unidentified("Encounter"),))
    return patient.mapped([planned_encounter(call, patient)])
