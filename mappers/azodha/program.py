"""Azodha ``HealthProgramActivated`` → EpisodeOfCare, CareTeam (mapping.md §11.8)."""

from collections.abc import Sequence

from fhirline.mappers.azodha.event import source_data, start
from fhirline.mappers.azodha.payload import NamedProgram, Program
from fhirline.mappers.azodha.people import Professional, add_people
from fhirline.mappers.azodha.reader import Reader
from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.context import Context, last_writer, one_event
from fhirline.mappers.fhir.elements import codeable_concept, element, listed, reference
from fhirline.mappers.identity import Part, norm
from fhirline.mappers.payload import Payload
from fhirline.mappers.results import MappingResult, Resource

MAPPED = "mapped §11.8"


def health_program_activated(_: Payload, context: Context) -> MappingResult:
    """Map an enrolment in a health program → EpisodeOfCare, CareTeam, Patient, Practitioners."""
    reader, build = start(context)
    providers = add_people(reader, build)
    if reader.patient_id is None:
        build.refuse("EpisodeOfCare", "patient-missing")
    else:
        _add_enrolment(providers, reader, build)
    return build.result()


def _add_enrolment(providers: Sequence[Professional], reader: Reader, build: MappingBuilder) -> None:
    """Add EpisodeOfCare and CareTeam. Without id and name of the program, each event is an enrolment of its own."""
    context = reader.context
    named = reader.find(NamedProgram, reader.places("program", "healthProgram", bare=False))
    found = reader.find(Program, reader.places("program", "healthProgram"))
    id = named.model.id or found.model.programId or found.model.healthProgramId
    name = named.model.name or found.model.programName or found.model.healthProgramName
    id_at = named.at.get("id") or found.at.get("programId") or found.at.get("healthProgramId")
    name_at = named.at.get("name") or found.at.get("programName") or found.at.get("healthProgramName")
    build.claim(MAPPED, id_at, name_at)
    key = reader.key(id or (norm(name) if name else context.event_key))
    new = last_writer if id or name else one_event
    flags = reader.flags()
    duration = []
    if duration_at := reader.locate("duration", reader.places("program", "healthProgram")):
        duration = source_data(duration_at, "kept §11.8", reader, build)
        flags.add("duration-unit-unknown", duration_at)
    episode = context.resource(
        "EpisodeOfCare",
        "program",
        key,
        extension=duration,
        identifier=listed(context.identifier("program", id) if id else None),
        status="active",
        type=listed(codeable_concept(text=name)),
        patient=reader.subject,
        managingOrganization=reference(context.organization),
        period=element(start=context.time.instant.text, _start=context.basis_event_time),
        team=listed(reference(context.reference("CareTeam", "program", *key)) if providers else None),
    )
    build.add(new(episode, flags))
    if providers:
        build.add(new(care_team(key, providers, reader, build), reader.flags()))


def care_team(
    key: Sequence[Part], providers: Sequence[Professional], reader: Reader, build: MappingBuilder
) -> Resource:
    """Make the CareTeam of the event's providers."""
    for provider in providers:
        build.claim("mapped §11.1", *provider.fields, provider.role_at if provider.role else None)
    return reader.context.resource(
        "CareTeam",
        "program",
        key,
        status="active",
        subject=reader.subject,
        participant=[
            element(role=listed(codeable_concept(text=provider.role)), member=provider.reference)
            for provider in providers
        ],
    )
