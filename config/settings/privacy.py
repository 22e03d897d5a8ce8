"""Declare the settings of erasure (docs/erasure.md) and encryption (docs/encryption.md)."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, SecretStr


class PrivacySettings(BaseModel):
    """Settings to erase patients (docs/erasure.md), and encrypt what is kept of them (docs/encryption.md)."""

    erasure_key: Annotated[
        SecretStr | None,
        Field(
            description="Secret for hashing erased patients' keys, for worker, enrich, deliver and operators' commands "
            "only; the same for all of them, never changed"
        ),
    ] = None
    erasure_key_file: Annotated[Path | None, Field(description="File that holds the erasure key")] = None
    compaction_days: Annotated[
        int,
        Field(
            ge=1,
            le=3_650,
            description="Days until compaction removes values that were replaced or deleted",
        ),
    ] = 7
    encryption: Annotated[
        SecretStr | None,
        Field(description="Index secret and key-encryption keys, with which events are kept (docs/encryption.md)"),
    ] = None
    encryption_file: Annotated[
        Path | None, Field(description="File that holds these secrets; `fhirline keys new` makes one")
    ] = None
