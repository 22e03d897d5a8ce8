"""Traces through record headers (OpenTelemetry, W3C ``traceparent``): off, and free, unless an endpoint is set.

One trace is one webhook: gateway, raw record, (enrichment,) worker, and the records that follow from it. Its spans say
where an event was and for how long, by coordinates, keys and codes; never anything of the payload.
"""

from typing import TYPE_CHECKING

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings

if TYPE_CHECKING:
    from fhirline.streams.observe.tracing.spans import Tracing


def tracing(settings: Settings, service: str) -> "Tracing | None":
    """The tracing of a process, to be closed with `stop`; None where it is off.

    Raises ConfigurationError where it is on and OpenTelemetry is not installed. What the endpoint needs besides
    (headers, certificates), how much is sampled and further attributes: the standard ``OTEL_*`` variables.
    """
    if settings.tracing_endpoint is None:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        from fhirline.streams.observe.tracing.spans import Tracing
    except ImportError:
        raise ConfigurationError(
            "FHIRLINE_TRACING_ENDPOINT is set, but OpenTelemetry is not installed: pip install 'fhirline[tracing]'"
        ) from None
    return Tracing(service, OTLPSpanExporter(endpoint=settings.tracing_endpoint))
