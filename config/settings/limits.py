"""Declare the limits of what one event may become (mapping.md §1.1)."""

from typing import Annotated

from pydantic import BaseModel, Field


class LimitSettings(BaseModel):
    """Settings to bound what one event may become (mapping.md §1.1)."""

    max_event_values: Annotated[
        int, Field(ge=100, le=100_000, description="Values (leaves) of an event that are read; the others are cut")
    ] = 10_000
    max_list_items: Annotated[
        int, Field(ge=10, le=100_000, description="Items of a list; documents are cut there, clinical lists refused")
    ] = 1_000
    max_event_resources: Annotated[
        int,
        Field(
            ge=50,
            le=100_000,
            description="Resources of an event, constant ones not counted, then a dead letter too-complex",
        ),
    ] = 2_000
    max_event_bytes: Annotated[
        int,
        Field(
            ge=1_048_576,
            description="Bytes of an event's resources together, then a dead letter too-complex; less than "
            "FHIRLINE_MESSAGE_MAX_BYTES, since the Bundle holds them all",
        ),
    ] = 16_777_216
    max_kept_values: Annotated[
        int, Field(ge=10, le=100_000, description="Values without a FHIR element that a Provenance holds")
    ] = 500
    max_kept_bytes: Annotated[int, Field(ge=4_096, description="Bytes of these values and of their paths together")] = (
        1_048_576
    )
    max_state_entries: Annotated[
        int, Field(ge=10, le=100_000, description="Stored updates of one kind for one resource, the latest ones")
    ] = 1_000
