"""The worker with its mapping replaced by prepared bytes: what Faust, batches, barrier and librdkafka cost alone.

Everything else is `fhirline worker`'s own: app, agents, batches, restore, delivery reports, acks, commits.
"""

from typing import Any

from benchmarks.prepared import Prepared
from fhirline.config.settings import Settings, load_settings
from fhirline.mappers.registry import VENDORS
from fhirline.streams.cli.connection import require_topics
from fhirline.streams.cli.worker import run
from fhirline.streams.kafka.records import ConsumerRecord
from fhirline.streams.step2_consume import batch
from fhirline.streams.step4_normalize.map_event import MappedEvent


def main() -> None:
    settings: Settings = load_settings()
    prepared = Prepared(settings)

    def map_event(raw: ConsumerRecord, *_: Any) -> MappedEvent:
        return MappedEvent(prepared(raw.topic))

    batch.map_event = map_event  # type: ignore[assignment, attr-defined]  # replaces the worker's own import
    require_topics(settings)
    run(settings, VENDORS)


if __name__ == "__main__":
    main()
