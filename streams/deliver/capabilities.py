"""The CapabilityStatement of the FHIR server: is it one, of which kind, and what does it lack (fhir-delivery.md §5)."""

import asyncio
from dataclasses import dataclass
from typing import Any

import structlog

from fhirline.config.errors import ConfigurationError
from fhirline.config.fhir_servers import ProfileName, fhir_servers, profile_of
from fhirline.config.settings import PREFIX, Settings
from fhirline.streams.deliver.fhir_client import FhirServer, ServerUnavailable
from fhirline.topics.declared import RESOURCE_TYPES

log = structlog.get_logger("deliver")

FHIR_R4 = "4.0"
AWAY = (408, 425, 429)
"""Statuses below 500 that say nothing of the server."""
AGAIN_SECONDS = 1.0
LONGEST_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The findings in a CapabilityStatement: a line for each thing that the server lacks, and the profile that fits."""

    lacks: list[str]
    profile: ProfileName
    software: str


async def require_capabilities(server: FhirServer, settings: Settings) -> Capabilities:
    """Read the statement, waiting for a server that does not answer, and set the server's profile.

    Raises ConfigurationError where what answers is no FHIR R4 server.
    """
    wait = AGAIN_SECONDS
    while True:
        try:
            answer = await server.request("GET", "metadata")
        except ServerUnavailable as error:
            reason = str(error)
        else:
            if answer.status < 500 and answer.status not in AWAY:
                found = lacks(server.base, answer.status, answer.body)
                chosen = settings.fhir_profile
                name = profile_of(answer.body, server.base) if chosen == "auto" else chosen
                server.profile = fhir_servers().profiles[name]
                return Capabilities(found, name, software(answer.body))
            reason = f"status {answer.status}"
        log.warning("the FHIR server does not answer yet", server=server.base, reason=reason)
        await asyncio.sleep(wait)
        wait = min(LONGEST_SECONDS, wait * 2)


def lacks(base: str, status: int, statement: Any) -> list[str]:
    """Return what a server lacks by its CapabilityStatement, one line each. Raises ConfigurationError."""
    where = f"{PREFIX}FHIR_SERVER: {base}"
    if status != 200 or not isinstance(statement, dict) or statement.get("resourceType") != "CapabilityStatement":
        raise ConfigurationError(
            f"{where} answers {status} to GET metadata, without a CapabilityStatement: give a FHIR server's base URL"
        )
    version = statement.get("fhirVersion")
    if not isinstance(version, str) or not version.startswith(FHIR_R4):
        shown = version if isinstance(version, str) and len(version) < 20 else "none"
        raise ConfigurationError(f"{where} is a server of FHIR version {shown}, and fhirline makes R4 (4.0.1)")
    rest = next((part for part in _dicts(statement.get("rest")) if part.get("mode") == "server"), {})
    found = []
    if "transaction" not in _codes(rest.get("interaction")):
        found.append("transactions")
    types = {str(item.get("type")): item for item in _dicts(rest.get("resource"))}
    for name in RESOURCE_TYPES:
        known = types.get(name)
        if known is None:
            found.append(f"{name}: the type")
            continue
        if missing := sorted({"update", "delete", "read"} - _codes(known.get("interaction"))):
            found.append(f"{name}: {', '.join(missing)}")
        if known.get("updateCreate") is False:
            found.append(f"{name}: ids that the client assigns (updateCreate)")
    return found


def software(statement: dict[str, Any]) -> str:
    """Return the software and version that a statement names, for the log."""
    found = statement.get("software")
    words = [found.get("name"), found.get("version")] if isinstance(found, dict) else []
    return " ".join(word for word in words if isinstance(word, str))[:100] or "unknown"


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _codes(interactions: Any) -> set[str]:
    return {code for item in _dicts(interactions) if isinstance(code := item.get("code"), str)}
