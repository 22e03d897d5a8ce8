"""Traces through record headers (OpenTelemetry, W3C ``traceparent``). Off, at no cost, unless an endpoint is set.

One trace is one webhook: gateway, raw record, enrichment if any, worker, and the records that follow from it. Its spans
show where an event was and for how long, by positions, keys and codes, without anything of the payload.
"""

from typing import TYPE_CHECKING

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings

if TYPE_CHECKING:
    from fhirline.streams.observe.tracing.spans import Tracing


def tracing(settings: Settings, service: str) -> "Tracing | None":
    """Start the tracing of a process, which `stop` closes; None where it is off.

    The standard ``OTEL_*`` variables set headers, certificates, sampling and attributes. Raises ConfigurationError
    where OpenTelemetry is not installed.
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
