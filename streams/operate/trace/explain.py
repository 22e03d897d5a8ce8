"""The source of each element of an event's resources, and the state that it found, by the present mapping."""

from collections.abc import Callable
from typing import NamedTuple

from fhirline.config.settings import Settings
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.mappers.pipeline.lineage import Lineage, lineage
from fhirline.mappers.pipeline.normalize import InMemoryState, StateUpdate
from fhirline.streams.kafka.records import ConsumerRecord
from fhirline.streams.operate.trace.find import Tracer
from fhirline.streams.step4_normalize.map_event import map_event
from fhirline.streams.step4_normalize.raw_event import envelope_of


class Explained(NamedTuple):
    """An event's lineage and state.

    ``earlier``: the number of earlier events of its key. ``before``: the state after them. ``updates``: its own.
    """

    lineage: list[Lineage]
    earlier: int
    before: InMemoryState
    updates: tuple[StateUpdate, ...]


def explain(settings: Settings, tracer: Tracer, raw: ConsumerRecord) -> list[Lineage]:
    """Find the lineage of each element, with the state of the earlier events of the same key.

    Raises UnreadableBody for a record that is no readable event, and KafkaAccessError.
    """
    return explain_with_state(settings, tracer, raw).lineage


def explain_with_state(
    settings: Settings, tracer: Tracer, raw: ConsumerRecord, proceed: Callable[[], None] = lambda: None
) -> Explained:
    """Find the lineage as `explain` does, with the state before the event and the updates that it makes.

    ``proceed`` is called before each mapping of an event, and for each record that is read. It ends the
    search by raising an exception.
    """
    normalize, state, earlier = build_normalizer(settings), InMemoryState(), 0
    for record in tracer.earlier(raw, proceed):
        state.apply(map_event(record, normalize, state, settings.partitions).state_updates)
        earlier += 1
    updates = map_event(raw, normalize, state, settings.partitions).state_updates
    return Explained(lineage(normalize, envelope_of(raw), state, proceed), earlier, state, updates)
