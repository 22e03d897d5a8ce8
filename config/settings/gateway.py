"""Declare the settings of the gateway."""

from typing import Annotated

from pydantic import BaseModel, Field


class GatewaySettings(BaseModel):
    """Settings to receive webhooks."""

    gateway_host: Annotated[str, Field(description="Address that the gateway listens on")] = "127.0.0.1"
    gateway_port: Annotated[int, Field(ge=0, le=65_535, description="Port of the gateway; 0 takes a free one")] = 8080
    max_body_bytes: Annotated[int, Field(ge=1_024, description="Largest webhook body, bytes (then 413)")] = 4_194_304
    max_depth: Annotated[int, Field(ge=8, le=96, description="Deepest nesting of a webhook body (then 400)")] = 64
    max_in_flight: Annotated[int, Field(ge=1, description="Requests that a gateway handles at once (then 429)")] = 1_000
    unverified_bodies: Annotated[
        int,
        Field(
            ge=1,
            description="Bodies of a vendor being read before their signature is checked; then the oldest gets 429",
        ),
    ] = 100
    unverified_body_bytes: Annotated[
        int, Field(ge=1, description="Bytes of these unverified bodies together, at least FHIRLINE_MAX_BODY_BYTES")
    ] = 16_777_216
    gateway_delivery_timeout: Annotated[
        float, Field(gt=0, description="Seconds that a webhook waits for Kafka's acknowledgement (then 503)")
    ] = 10.0
    gateway_read_timeout: Annotated[
        float,
        Field(
            gt=0,
            description="Seconds that a sender has for the headers of a request, and again for its body (then 408)",
        ),
    ] = 30.0
