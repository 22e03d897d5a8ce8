"""The metrics of ``fhirline tables``."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from fhirline.streams.observe.metrics.labels import LATENCY_BUCKETS


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
