"""Declare the settings of console, replays, logs, metrics and traces."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, SecretStr


class OperationSettings(BaseModel):
    """Settings to look, replay, and observe: console, replays, logs, metrics and traces."""

    # Console (docs/console.md)
    console_host: Annotated[str, Field(description="Address that `fhirline console` listens on")] = "127.0.0.1"
    console_port: Annotated[int, Field(ge=0, le=65_535, description="Its port; 0 takes a free one")] = 8088
    console_token: Annotated[
        SecretStr | None, Field(description="Token that the console asks for; without one, each start makes its own")
    ] = None
    console_token_file: Annotated[Path | None, Field(description="File that holds the console's token")] = None
    console_user_header: Annotated[
        str | None,
        Field(
            pattern=r"^[A-Za-z0-9-]{1,64}$",
            description="Header in which a reverse proxy names the person; then no token is asked for",
        ),
    ] = None
    console_public_host: Annotated[
        str | None,
        Field(description="Host that a reverse proxy sends, if another; with its port, unless that is 80 or 443"),
    ] = None

    # Replay
    replay_dir: Annotated[
        Path, Field(description="Folder of unfinished replays: their resources, patient data included (mode 0700)")
    ] = Path("fhirline-data/replays")

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
            description="Port of these, another one for each process of a host; 0 takes a free one; unset: not served",
        ),
    ] = None
    tracing_endpoint: Annotated[
        str | None,
        Field(description="Address that traces are sent to (OTLP over HTTP, http://host:4318/v1/traces); unset: none"),
    ] = None
