"""Declare the settings of the worker: mapping and validation."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

Validation = Literal["spec", "fhir.resources", "both", "off"]


class WorkerSettings(BaseModel):
    """Settings to map events, and to validate the resources."""

    group: Annotated[
        str,
        Field(
            pattern=r"^[a-zA-Z0-9._-]{1,200}$",
            description="Consumer group of the workers; other groups' names begin with it",
        ),
    ] = "fhirline"
    vendors: Annotated[
        tuple[str, ...] | None,
        Field(description='Vendors whose events a worker reads, as JSON (["mediquo"]); default: all'),
    ] = None
    batch_size: Annotated[int, Field(ge=1, le=10_000, description="Most events of a batch")] = 500
    batch_within: Annotated[
        float, Field(gt=0, le=5, description="Seconds that the first event of a batch waits for more")
    ] = 0.005
    session_timeout: Annotated[
        float, Field(ge=3, le=300, description="Seconds without a heartbeat until a process loses its partitions")
    ] = 30.0
    stop_timeout: Annotated[
        float,
        Field(
            ge=1,
            le=3600,
            description="Seconds after SIGTERM in which a worker ends in order; then it exits without committing",
        ),
    ] = 25.0
    validation: Annotated[Validation, Field(description="Validator of each resource before it is published")] = "spec"
    cross_check_every: Annotated[
        int, Field(ge=0, description="With spec: one resource in so many is also validated by fhir.resources; 0: none")
    ] = 1_000
