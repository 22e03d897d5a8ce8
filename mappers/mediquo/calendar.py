"""MediQuo ``professional_block_*`` → Schedule and Slot: a professional's calendar, no patient's (mapping.md §8.3)."""

from collections.abc import Callable

from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.context import Context, constant, last_writer
from fhirline.mappers.fhir.elements import listed, reference
from fhirline.mappers.mediquo.patient import unread_time
from fhirline.mappers.mediquo.payload import BlockEvent, BlockPayload
from fhirline.mappers.mediquo.professional import PROFESSIONAL, professional_key, professionals
from fhirline.mappers.results import Flags, MappingResult, NewResource
from fhirline.mappers.times import inverted

_BLOCK = tuple(f"/payload/{name}" for name in BlockPayload.model_fields if name != "professional")


def block(status: str) -> Callable[[BlockEvent, Context], MappingResult]:
    """Return the mapping of the events after which a block's slot has ``status`` (mapping.md §8.3)."""

    def mapping(event: BlockEvent, context: Context) -> MappingResult:
        payload = event.payload or BlockPayload()
        sent, key = professionals(payload.professional, context), professional_key(payload.professional)
        build = MappingBuilder()
        if sent.practitioner is None or key is None:
            build.refuse("Schedule", "resource-refused", PROFESSIONAL)
            build.refuse("Slot", "resource-refused", PROFESSIONAL)
            return build.result()
        build.omit(*unread_time(context), *sent.omitted)
        build.add(sent.practitioner, schedule(key, sent.literal, context), slot(payload, key, status, context, build))
        return build.result(professional=sent.literal)

    return mapping


def schedule(key: str, practitioner: str | None, context: Context) -> NewResource:
    """Make the calendar of a professional: identity only, so the same from every event."""
    return constant(context.resource("Schedule", "professional", (key,), actor=[reference(practitioner)]))


def slot(payload: BlockPayload, key: str, status: str, context: Context, build: MappingBuilder) -> NewResource | None:
    """Make the Slot of a blocked time. Refused without id, start or end: both instants are required, and in order."""
    flags = Flags()
    start = context.date_time(payload.starts_at, "/payload/starts_at", flags)
    end = context.date_time(payload.finishes_at, "/payload/finishes_at", flags)
    starts = context.instant(start, payload.starts_at, "/payload/starts_at")
    ends = context.instant(end, payload.finishes_at, "/payload/finishes_at")
    missing = [
        *(["/payload/id"] if payload.id is None else []),
        *(["/payload/starts_at"] if starts.text is None else []),
        *(["/payload/finishes_at"] if ends.text is None or (start and end and inverted(start, end)) else []),
    ]
    if missing:
        build.refuse("Slot", "resource-refused", *missing)
        build.omit(*_BLOCK)
        return None
    resource = context.resource(
        "Slot",
        "block",
        (key, payload.id),
        identifier=listed(payload.id and context.identifier("block", payload.id)),
        schedule=reference(context.reference("Schedule", "professional", key)),
        status=status,
        start=starts.text,
        _start=starts.companion,
        end=ends.text,
        _end=ends.companion,
        comment=payload.name,
    )
    return last_writer(resource, flags)
