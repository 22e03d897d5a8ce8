"""The metrics registry of a process. Not the global one, so that nothing is shared by accident."""

from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, disable_created_metrics

from fhirline.mappers import MAPPING_VERSION


def new_registry(service: str) -> CollectorRegistry:
    """Create a registry with the metrics that every process has: CPU, memory, files, and its build."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # drops the second series of each counter and histogram
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
