"""MediQuo ``professional_block_*`` → Schedule and Slot: a calendar, nobody's record (mapping.md §8.3)."""

from collections.abc import Callable

from fhirline.mappers.context import Context, constant, last_writer
from fhirline.mappers.fhir.elements import listed, reference
from fhirline.mappers.mediquo.appointment import moment
from fhirline.mappers.mediquo.compartment import WHOLE_EVENT, timestamp_unsaid
from fhirline.mappers.mediquo.payload import BlockEvent, BlockPayload
from fhirline.mappers.mediquo.professional import PROFESSIONAL, professional_key, professionals
from fhirline.mappers.results import Flag, Flags, MappingResult, NewResource, Refused
from fhirline.mappers.times import inverted


def block(status: str) -> Callable[[BlockEvent, Context], MappingResult]:
    """The mapping of the events after which a block's slot has ``status``."""

    def mapping(event: BlockEvent, context: Context) -> MappingResult:
        payload = event.payload or BlockPayload()
        sent = professionals(payload.professional, context)
        unsaid = (*timestamp_unsaid(context), *sent.unsaid)
        key = professional_key(payload.professional)
        if sent.practitioner is None or key is None:
            return MappingResult(
                refused=tuple(
                    Refused(each, Flag("resource-refused", (PROFESSIONAL,))) for each in ("Schedule", "Slot")
                ),
                omitted=(WHOLE_EVENT,),
            )
        people = (sent.practitioner, schedule(key, sent.literal, context))
        made = slot(payload, key, status, context)
        return MappingResult(
            resources=people if isinstance(made, Refused) else (*people, made),
            refused=(made,) if isinstance(made, Refused) else (),
            professional=sent.literal,
            omitted=(*unsaid, *(_BLOCK if isinstance(made, Refused) else ())),
        )

    return mapping


_BLOCK = tuple(f"/payload/{name}" for name in BlockPayload.model_fields if name != "professional")


def schedule(key: str, practitioner: str | None, context: Context) -> NewResource:
    """The calendar of a professional: identity only, so the same from every event."""
    return constant(context.resource("Schedule", "professional", (key,), actor=[reference(practitioner)]))


def slot(payload: BlockPayload, key: str, status: str, context: Context) -> NewResource | Refused:
    """A blocked time. ``start`` and ``end`` are required instants: without both, and in order, none is made."""
    flags = Flags()
    start = context.date_time(payload.starts_at, "/payload/starts_at", flags)
    end = context.date_time(payload.finishes_at, "/payload/finishes_at", flags)
    starts = moment(start, payload.starts_at, "/payload/starts_at", context)
    ends = moment(end, payload.finishes_at, "/payload/finishes_at", context)
    missing = [
        *(["/payload/id"] if payload.id is None else []),
        *(["/payload/starts_at"] if starts.text is None else []),
        *(["/payload/finishes_at"] if ends.text is None or (start and end and inverted(start, end)) else []),
    ]
    if missing:
        return Refused("Slot", Flag("resource-refused", tuple(missing)))
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
