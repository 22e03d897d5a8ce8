"""The registry of a process: its own, so that nothing is shared by accident."""

from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, disable_created_metrics

from fhirline.mappers import MAPPING_VERSION


def new_registry(service: str) -> CollectorRegistry:
    """An empty registry but for what is the same for every process: CPU, memory, files, and which build it is."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter and histogram, which nothing here asks for
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    build = Gauge(
        "fhirline_build_info",
        "Always 1; which service, version and mapping version this process is",
        ("service", "version", "mapping_version"),
        registry=registry,
    )
    build.labels(service, version("fhirline"), MAPPING_VERSION).set(1)
    return registry


def dead_letter_counter(registry: CollectorRegistry) -> Counter:
    """Register the counter of dead letters, which the worker and the enrichment share."""
    return Counter("fhirline_dead_letters", "Dead letters by error code", ("vendor", "code"), registry=registry)
