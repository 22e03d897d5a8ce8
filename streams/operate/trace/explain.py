"""The source of each element of an event's resources, by the present mapping."""

from fhirline.config.settings import Settings
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.mappers.pipeline.lineage import Lineage, lineage
from fhirline.mappers.pipeline.normalize import InMemoryState
from fhirline.streams.kafka.records import ConsumerRecord
from fhirline.streams.operate.trace.find import Tracer
from fhirline.streams.step4_normalize.map_event import map_event
from fhirline.streams.step4_normalize.raw_event import envelope_of


def explain(settings: Settings, tracer: Tracer, raw: ConsumerRecord) -> list[Lineage]:
    """Find the lineage of each element, with the state of the earlier events of the same key.

    Raises UnreadableBody for a record that is no readable event, and KafkaAccessError.
    """
    normalize, state = build_normalizer(settings), InMemoryState()
    for earlier in tracer.earlier(raw):
        state.apply(map_event(earlier, normalize, state, settings.partitions).state_updates)
    return lineage(normalize, envelope_of(raw), state)
