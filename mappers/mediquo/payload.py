"""MediQuo's webhook bodies, both editions (vendor-payloads.md §1).

A model declares only what the mapping of its event reads, so that the ledger keeps the rest.
"""

from typing import Annotated, Any

from pydantic import AfterValidator

from fhirline.mappers.payload import DOCUMENT, Id, Items, Maybe, Number, Payload, Shortest, Text, clean
from fhirline.mappers.pipeline.ledger import Rule

Withheld = Annotated[Text, Rule("withheld", "§7")]
SourceData = Annotated[Text, Rule("kept", "§8.3")]


class Event(Payload):
    """The fields of all events."""

    type: Text = None
    occurred_on: Number = None


class Patient(Payload):
    code: Id = None


class Professional(Payload):
    """A professional; the calendar events call its id ``hash``."""

    id: Id = None
    hash: Id = None
    name: Text = None
    avatar: Text = None


class Speciality(Payload):
    id: Shortest = None
    name: Text = None


class ScheduledConsultation(Payload):
    """A consultation as an appointment."""

    id: Id = None
    channel: Text = None
    service_type: SourceData = None
    consultation_url: Withheld = None
    scheduled_start_date: Text = None
    scheduled_end_date: Text = None
    previous_scheduled_start_date: SourceData = None
    previous_scheduled_end_date: SourceData = None
    created_at: Text = None
    speciality: Maybe[Speciality] = None


class Consultation(ScheduledConsultation):
    """A consultation that took place."""

    type: Text = None
    start_date: Text = None
    end_date: Text = None


class VideoCall(Payload):
    """A consultation to which a room has been assigned; ``url`` opens it."""

    id: Id = None
    speciality: Maybe[Speciality] = None
    url: Withheld = None
    consultation_url: Withheld = None


Content = Annotated[Maybe[dict[str, Any]], Rule("mapped", "§8.1.3")]
"""A report's parts by key. The keys are not fixed: each part becomes a section."""


class Report(Payload):
    id: Id = None
    type: Text = None
    content: Content = None


class HistoryItem(Payload):
    """An allergy or a disease of the medical history."""

    id: Id = None
    name: Text = None
    description: Text = None


class Medication(HistoryItem):
    posology: Text = None


class PatientHistory(Patient):
    allergies: Items[HistoryItem] = ()
    diseases: Items[HistoryItem] = ()
    medications: Items[Medication] = ()


class Substance(Payload):
    """A substance as an object. The vendor's samples have bare names."""

    name: Text = None


class Prescription(Payload):
    id: Id = None
    active_substances: Items[Substance | Annotated[str, AfterValidator(clean)]] = ()


class Derivation(Payload):
    id: Id = None
    description: Text = None


class RecordPayload(Payload):
    """The record that is sent with a consultation: history, reports and prescriptions."""

    reports: Annotated[Items[Report], DOCUMENT] = ()
    patient: Maybe[PatientHistory] = None
    professional: Maybe[Professional] = None
    prescriptions: Items[Prescription] = ()


class FinishedPayload(RecordPayload):
    consultation: Maybe[Consultation] = None
    derivation: Maybe[Derivation] = None


class ConsultationFinished(Event):
    """``patient_consultation_finished``."""

    payload: Maybe[FinishedPayload] = None


class AppointmentPayload(RecordPayload):
    consultation: Maybe[ScheduledConsultation] = None


class AppointmentEvent(Event):
    """``patient_consultation_created``, ``_rescheduled``, ``_cancelled`` and ``_no_show``."""

    payload: Maybe[AppointmentPayload] = None


class VideoCallPayload(Payload):
    consultation: Maybe[VideoCall] = None
    patient: Maybe[Patient] = None
    professional: Maybe[Professional] = None


class VideoCallAssigned(Event):
    """``patient_immediate_video_call_assigned``."""

    payload: Maybe[VideoCallPayload] = None


class ReportSentPayload(Payload):
    type: Text = None
    content: Content = None
    patient: Maybe[Patient] = None


class ReportSent(Event):
    """``patient_report_sent``."""

    payload: Maybe[ReportSentPayload] = None


class MessagePayload(Payload):
    patient: Maybe[Patient] = None
    professional: Maybe[Professional] = None


class MessageEvent(Event):
    """``patient_message_received`` and ``_sent``. Any body is read as this one to find its patient (mapping.md §2)."""

    payload: Maybe[MessagePayload] = None


class BlockPayload(Payload):
    id: Id = None
    name: Text = None
    starts_at: Text = None
    finishes_at: Text = None
    professional: Maybe[Professional] = None


class BlockEvent(Event):
    """``professional_block_created``, ``_updated`` and ``_deleted``."""

    payload: Maybe[BlockPayload] = None
