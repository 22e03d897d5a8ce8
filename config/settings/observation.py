"""Declare the settings of logs, metrics and traces."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field


class ObservationSettings(BaseModel):
    """Settings of logs, of the address of metrics, and of the address that traces are sent to."""

    # Logs
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="Lowest severity that is logged")
    ] = "info"
    log_format: Annotated[
        Literal["auto", "json", "pretty"], Field(description="auto: pretty on a terminal, else JSON")
    ] = "auto"

    # Metrics and traces
    metrics_host: Annotated[str, Field(description="Address of /metrics, /healthz and /readyz")] = "127.0.0.1"
    metrics_port: Annotated[
        int | None,
        Field(
            ge=0,
            le=65_535,
            description="Port of these paths, another one for each process of a host; 0 takes a free one; "
            "unset: not served",
        ),
    ] = None
    tracing_endpoint: Annotated[
        str | None,
        Field(description="Address that traces are sent to (OTLP over HTTP, http://host:4318/v1/traces); unset: none"),
    ] = None
