"""The metrics of ``fhirline tables``."""

from collections.abc import Sequence

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from fhirline.streams.kafka.records import ConsumerRecord
from fhirline.streams.observe.metrics.labels import LATENCY_BUCKETS
from fhirline.streams.tables.batch import Batch

log = structlog.get_logger("tables")


class TablesMetrics:
    """Counts what was committed to the database."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.records = Counter(
            "fhirline_tables_records", "Records whose rows and positions are committed", registry=registry
        )
        self.removed = Counter(
            "fhirline_tables_removed", "Tombstones among these: resources whose rows were deleted", registry=registry
        )
        self.unreadable = Counter(
            "fhirline_tables_unreadable",
            "Records among these that are no resource of their key, and have no rows",
            registry=registry,
        )
        self.rows = Counter("fhirline_tables_rows", "Rows inserted", ("table",), registry=registry)
        self.seconds = Histogram(
            "fhirline_tables_batch_seconds",
            "From the last record of a batch to the commit of its transaction",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.newest = Gauge(
            "fhirline_tables_newest_seconds",
            "Timestamp of the newest committed record, UNIX seconds",
            registry=registry,
        )
        self.away = Gauge("fhirline_tables_away", "1 while the database does not answer", registry=registry)

    def count(self, records: Sequence[ConsumerRecord], batch: Batch, seconds: float) -> None:
        """Count a committed batch. ``seconds``: from its last record to the commit."""
        self.records.inc(batch.records)
        self.removed.inc(sum(map(len, batch.removed.values())))
        self.unreadable.inc(len(batch.unreadable))
        self.seconds.observe(seconds)
        self.newest.set(max(record.timestamp_ms for record in records) / 1000)
        for name, change in batch.changes.items():
            self.rows.labels(name).inc(len(change.rows))
        if batch.unreadable:
            log.warning(
                "records that are no resource of their key have no rows",
                records=len(batch.unreadable),
                first=batch.unreadable[0],
            )
        log.debug("committed", records=batch.records, rows=batch.rows, seconds=round(seconds, 3))
