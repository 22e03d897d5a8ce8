"""The record that MediQuo sends with a consultation: reports, history, prescriptions (mapping.md §8.1.3 to §8.1.8)."""

from collections.abc import Iterator

from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.duplicates import distinct
from fhirline.mappers.identity import Part
from fhirline.mappers.mediquo.composition import Note, documents, fingerprint
from fhirline.mappers.mediquo.history import history
from fhirline.mappers.mediquo.patient import PatientEvent
from fhirline.mappers.mediquo.payload import PatientHistory, RecordPayload, Report
from fhirline.mappers.mediquo.prescriptions import medication_requests
from fhirline.mappers.results import Element, NewResource
from fhirline.mappers.unread import unread

REPORTS = "/payload/reports"


def record(
    payload: RecordPayload,
    consultation_id: str | None,
    encounter: Element | None,
    patient: PatientEvent,
    build: MappingBuilder,
) -> Iterator[NewResource]:
    """Make the resources of the record: the same ids whichever event sends it.

    ``encounter`` is a Reference to the Encounter.
    """
    yield from _reports(payload, encounter, patient, build)  # §8.1.3
    yield from history(payload.patient or PatientHistory(), patient, build)  # §8.1.4 to §8.1.6, §8.1.8
    yield from medication_requests(payload, consultation_id, encounter, patient, build)  # §8.1.7


def _reports(
    payload: RecordPayload, encounter: Element | None, patient: PatientEvent, build: MappingBuilder
) -> Iterator[NewResource]:
    """Make the documents of each report. The vendor's table calls ``reports`` an object, its sample is an array."""
    context = patient.context

    def key(report: Report) -> tuple[Part, ...]:
        return (report.id,) if report.id else (None, fingerprint(report.content))

    if unreadable := unread(REPORTS, payload.reports, context.raw(REPORTS)):
        build.flag("value-unreadable", *unreadable)
    for report in distinct(context.items(REPORTS, payload.reports), key):
        if report.model.content is None:
            build.omit(f"{report.pointer}/content")
        sent = Note(
            type=report.model.type,
            content=report.model.content or {},
            pointer=report.pointer,
            kind="report",
            key=report.key,
            identifier=context.identifier("report", report.model.id) if report.model.id else None,
            encounter=encounter,
        )
        made = documents(sent, patient, report.flags)
        if not made:
            build.flag("report-empty", report.pointer)
            build.omit(report.pointer)
        yield from made
