"""Azodha ``HealthProgramActivated`` → EpisodeOfCare, CareTeam (mapping.md §11.8)."""

from collections.abc import Sequence

from fhirline.mappers.azodha.payload import NamedProgram, Program
from fhirline.mappers.azodha.people import Professional, patient, patient_missing, professionals
from fhirline.mappers.azodha.reader import Reader
from fhirline.mappers.context import Context, last_writer, one_event
from fhirline.mappers.fhir.elements import codeable_concept, element, listed, reference
from fhirline.mappers.identity import Part, norm
from fhirline.mappers.payload import Payload
from fhirline.mappers.results import Fold, MappingResult, NewResource

PARAGRAPH = "§11.8"


def health_program_activated(_: Payload, context: Context) -> MappingResult:
    """A patient was enrolled in a health program → EpisodeOfCare, CareTeam, Patient, Practitioners."""
    reader = Reader(context)
    person, providers = patient(reader), professionals(reader)
    made: list[NewResource | Fold] = [each.made for each in providers if each.made]
    if person is None:
        return reader.result(made, patient_missing("EpisodeOfCare"))
    return reader.result([*made, person, *_enrolment(reader, providers)])


def _enrolment(reader: Reader, providers: Sequence[Professional]) -> list[NewResource]:
    """The guide names neither an id nor a name of the program: without either, each event is an enrolment."""
    context = reader.context
    named = reader.find(NamedProgram, reader.places("program", "healthProgram", bare=False))
    found = reader.find(Program, reader.places("program", "healthProgram"))
    id = named.model.id or found.model.programId or found.model.healthProgramId
    name = named.model.name or found.model.programName or found.model.healthProgramName
    id_at = named.at.get("id") or found.at.get("programId") or found.at.get("healthProgramId")
    name_at = named.at.get("name") or found.at.get("programName") or found.at.get("healthProgramName")
    reader.claim(f"mapped {PARAGRAPH}", id_at, name_at)
    key = reader.key(id or (norm(name) if name else context.event_key))
    make = last_writer if id or name else one_event
    flags = reader.flags()
    kept = []
    if duration_at := reader.locate("duration", reader.places("program", "healthProgram")):
        kept = reader.keep(duration_at, PARAGRAPH)
        flags.add("duration-unit-unknown", duration_at)
    team = make(_care_team(reader, key, providers), reader.flags()) if providers else None
    episode = context.resource(
        "EpisodeOfCare",
        "program",
        key,
        extension=kept,
        identifier=listed(context.identifier("program", id) if id else None),
        status="active",
        type=listed(codeable_concept(text=name)),
        patient=reference(reader.patient),
        managingOrganization=reference(context.organization),
        period=element(start=context.time.instant.text, _start=context.basis_event_time),
        team=listed(reference(context.reference("CareTeam", "program", *key)) if team else None),
    )
    return [make(episode, flags), *([team] if team else [])]


def _care_team(reader: Reader, key: Sequence[Part], providers: Sequence[Professional]) -> dict[str, object]:
    for each in providers:
        reader.claim("mapped §11.1", *each.claims, *([each.role_at] if each.role else []))
    return reader.context.resource(
        "CareTeam",
        "program",
        key,
        status="active",
        subject=reference(reader.patient),
        participant=[
            element(role=listed(codeable_concept(text=each.role)), member=each.reference) for each in providers
        ],
    )
