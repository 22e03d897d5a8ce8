"""The fields that Azodha's guide names (vendor-payloads.md §4; all shapes are inferred until a payload is captured).

A model gives names and types of fields. `Reader` finds the objects that contain them.
"""

from typing import Annotated

from pydantic import AfterValidator

from fhirline.mappers.payload import Id, Items, Maybe, Number, OrAbsent, Payload, Shortest, Text, clean


class PatientFields(Payload):
    firstName: Text = None
    middleName: Text = None
    lastName: Text = None
    email: Text = None
    patientMobileNumber: Text = None
    mobileNumber: Text = None
    birthDate: Text = None
    gender: Text = None
    patientName: Text = None


class Contact(Payload):
    email: Text = None
    mobileNumber: Text = None
    phone: Text = None


class Provider(Payload):
    """A healthcare provider; ``contact`` may be an object, an e-mail address or a telephone number."""

    id: Id = None
    firstName: Text = None
    lastName: Text = None
    name: Text = None
    email: Text = None
    mobileNumber: Text = None
    phone: Text = None
    contact: Annotated[Contact | Annotated[str, AfterValidator(clean)] | None, OrAbsent()] = None
    role: Text = None


class Providers(Payload):
    participants: Items[Provider] = ()
    providers: Items[Provider] = ()
    assignedServiceProviders: Items[Provider] = ()


class AppointmentType(Payload):
    name: Text = None
    description: Text = None
    durationInMinutes: Number = None


class Identified(Payload):
    id: Id = None


class AppointmentId(Payload):
    appointmentId: Id = None


class AppointmentFields(Payload):
    date: Text = None
    startTime: Text = None
    endTime: Text = None
    timeZone: Text = None
    status: Text = None
    appointmentType: Maybe[AppointmentType] = None
    durationInMinutes: Number = None
    cancellationReason: Text = None


class AppointmentAttributes(Payload):
    chiefComplaint: Text = None


class EventMetadata(Payload):
    """The sub-type of an event; the guide names these fields for SurveyAssessment only."""

    eventSubType: Text = None
    eventType: Text = None


class CareTask(Payload):
    id: Id = None
    name: Text = None
    type: Text = None
    status: Text = None


class CareTaskMention(Payload):
    careTaskId: Id = None
    taskId: Id = None
    careTaskName: Text = None
    taskName: Text = None
    careTaskStatus: Text = None
    taskStatus: Text = None


class Activity(Payload):
    text: Text = None
    description: Text = None
    note: Text = None
    activity: Text = None
    message: Text = None


class ActivityLog(Payload):
    """``activityLog``: an object, a list of them, or just the text."""

    activityLog: Items[Activity | Annotated[str, AfterValidator(clean)]] = ()


class Assessment(Payload):
    id: Id = None
    status: Text = None
    assessmentResponseId: Id = None
    responseId: Id = None
    completedAt: Text = None
    submittedAt: Text = None
    respondedAt: Text = None


class Response(Payload):
    """The question of a question/answer pair, under any of its usual names (mapping.md §11.3)."""

    linkId: Shortest = None
    questionId: Shortest = None
    id: Shortest = None
    question: Text = None
    questionText: Text = None
    label: Text = None
    text: Text = None


class Question(Payload):
    """A question of ``assessmentQuestionnaireObject`` (names from the vendor's survey configuration guide)."""

    linkId: Shortest = None
    label: Text = None


class Prompt(Payload):
    """A prompt. ``text`` is withheld from FHIR, its hash is not (mapping.md §7)."""

    promptId: Shortest = None
    text: Text = None


class Inference(Payload):
    fileId: Id = None
    useCaseName: Text = None
    model: Text = None
    prompts: Items[Prompt] = ()
    carePlanId: Id = None
    assessmentResponseId: Id = None
    eventEntity: Text = None


class Score(Payload):
    wellbeingScore: Number = None
    score: Number = None
    computedAt: Text = None
    calculatedAt: Text = None


class Program(Payload):
    programId: Id = None
    healthProgramId: Id = None
    programName: Text = None
    healthProgramName: Text = None


class NamedProgram(Payload):
    id: Id = None
    name: Text = None


class File(Payload):
    id: Id = None
    name: Text = None
    cloudId: Id = None
    mimeType: Text = None
    contentType: Text = None


class FileKind(Payload):
    type: Text = None
    fileType: Text = None
