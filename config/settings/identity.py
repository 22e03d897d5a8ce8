"""Declare the settings that name a deployment's resources, vendors and code tables."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

DEFAULT_BASE = "https://fhirline.example.org"


class IdentitySettings(BaseModel):
    """Settings to name resources, vendors and code tables of a deployment."""

    base: Annotated[
        str,
        Field(description="BASE of identifier systems and resource ids; never change it in a deployment"),
    ] = DEFAULT_BASE
    server_base: Annotated[str | None, Field(description="Base of Bundle.entry.fullUrl; default: BASE")] = None
    vendors_file: Annotated[
        Path | None, Field(description="vendors.yaml of this deployment; default: the packaged one")
    ] = None
    terminology_dir: Annotated[
        Path | None, Field(description="Folder of code tables that override or extend the packaged ones")
    ] = None
