"""The worker with its mapping replaced by prepared bytes: what Faust, batches, barrier and librdkafka cost alone.

Everything else is `fhirline worker`'s own: app, agents, batches, restore, delivery reports, acks, commits.
"""

from typing import Any

from benchmarks.prepared import Prepared
from config.settings import Settings, load_settings
from mappers.registry import VENDORS
from streams import batch
from streams.cli.worker_command import require_topics, run
from streams.records import RawRecord
from streams.step4_normalize import Followed


def main() -> None:
    settings: Settings = load_settings()
    prepared = Prepared(settings)

    def follow(raw: RawRecord, *_: Any) -> Followed:
        return Followed(prepared(raw.topic))

    batch.follow = follow  # type: ignore[attr-defined]  # what is replaced is the worker's own import
    require_topics(settings)
    run(settings, VENDORS)


if __name__ == "__main__":
    main()
