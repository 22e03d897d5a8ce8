"""Profiles of FHIR servers, the table ``fhir-servers.yaml``: limits, headers, and how deleted resources are purged."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fhirline.config.tables import Table, read_table

ProfileName = Literal["hapi", "medplum", "azure", "google", "healthlake", "generic"]
GENERIC: ProfileName = "generic"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PurgeRequest(_Strict):
    """The request that removes what a server keeps of a deleted resource. ``path``: with ``{key}`` for ``Type/id``."""

    method: Literal["POST", "DELETE"]
    path: str = Field(pattern=r"^\{key\}")
    body: Mapping[str, Any] | None = None
    background: bool = False


class ServerProfile(_Strict):
    """A kind of FHIR servers, and what it does differently. ``tried``: by our tests; else from ``sources`` only."""

    title: str
    software: tuple[str, ...] = ()
    hosts: tuple[re.Pattern[str], ...] = ()
    entries: int | None = Field(default=None, ge=1)
    transactions: Literal["atomic", "batch"]
    headers: Mapping[str, str] = {}
    purge: PurgeRequest | None = None
    tried: bool
    sources: tuple[str, ...] = Field(min_length=1)
    notes: tuple[str, ...] = ()

    def is_of(self, software: str, host: str) -> bool:
        """Tell whether a server with this software's name, at this host, is one of these."""
        named = any(part in software.lower() for part in self.software)
        return named or any(pattern.fullmatch(host) for pattern in self.hosts)


class FhirServers(Table):
    """``fhir-servers.yaml``: every profile, by its name."""

    profiles: dict[ProfileName, ServerProfile]

    @model_validator(mode="after")
    def _has_the_generic_one(self) -> Self:
        if GENERIC not in self.profiles:
            raise ValueError("the profile generic is missing")
        return self


@cache
def fhir_servers() -> FhirServers:
    """Return the packaged ``fhir-servers.yaml``."""
    return read_table("fhir-servers.yaml", FhirServers)


def profile_of(statement: Mapping[str, Any], base: str) -> ProfileName:
    """Return the profile of the server with a CapabilityStatement at a base URL; `GENERIC` where none fits.

    >>> profile_of({"software": {"name": "HAPI FHIR Server"}}, "http://127.0.0.1:8080/fhir")
    'hapi'
    >>> profile_of({}, "https://healthcare.googleapis.com/v1/projects/p/fhirStores/s/fhir")
    'google'
    """
    host = urlsplit(base).hostname or ""
    software = f"{_name(statement, 'software', 'name')} {_name(statement, 'implementation', 'description')}"
    profiles = fhir_servers().profiles.items()
    return next((name for name, profile in profiles if profile.is_of(software, host)), GENERIC)


def _name(statement: Mapping[str, Any], part: str, name: str) -> str:
    value = statement.get(part)
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""
