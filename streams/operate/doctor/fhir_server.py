"""Checks of the FHIR server, on request only: that it answers, and what it lacks; and of what waits for it."""

import asyncio
from collections.abc import Iterator

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import PREFIX, Settings
from fhirline.streams.deliver.auth import authorization
from fhirline.streams.deliver.capabilities import lacks
from fhirline.streams.deliver.fhir_client import Answer, FhirServer, ServerUnavailable
from fhirline.streams.observe.terminal import counted
from fhirline.streams.operate.deliveries.parked import Parked
from fhirline.streams.operate.doctor.finding import Finding, ok, problem, several, warning

CHECK = "fhir server"

HINTS = {
    "no-token": "the token endpoint gave no answer: see its line above, and the settings "
    f"{PREFIX}FHIR_OAUTH_TOKEN_URL and {PREFIX}FHIR_OAUTH_CA_FILE",
    "tls": f"the certificate is not trusted, or not the host's, or the server speaks no TLS: check the URL, and "
    f"{PREFIX}FHIR_CA_FILE",
}
"""The remedy where there is no answer, by its code."""


def reached(settings: Settings) -> Iterator[Finding]:
    """Read the server's CapabilityStatement, with the credentials that deliver uses."""
    if settings.fhir_server is None:
        yield ok(CHECK, f"{PREFIX}FHIR_SERVER is not set, so none is contacted")
        return
    try:
        answer = asyncio.run(_statement(settings))
        lacking = lacks(settings.fhir_server, answer.status, answer.body)
    except ServerUnavailable as error:
        fix = HINTS.get(str(error), "check the URL, and that the server runs")
        yield problem(CHECK, f"{settings.fhir_server}: no answer ({error})", fix)
    except ConfigurationError as error:
        yield problem(CHECK, str(error), "correct what it names (docs/delivery.md)")
    else:
        if lacking:
            fix = "allow it at the server, or nothing that needs it arrives (docs/delivery.md)"
            yield warning(CHECK, f"{settings.fhir_server} lacks, by its CapabilityStatement: {several(lacking)}", fix)
        else:
            yield ok(CHECK, f"{settings.fhir_server} answers, and has what deliver needs, by its CapabilityStatement")


async def _statement(settings: Settings) -> Answer:
    async with FhirServer(settings, authorization(settings)) as server:
        return await server.request("GET", "metadata")


def waiting(found: Parked) -> Finding:
    """Check that nothing waits for an operator."""
    if found.patients:
        text = f"{counted(found.patients, 'patient')} parked, {counted(found.bundles, 'Bundle')} waiting"
        return warning("delivery", text, "see `fhirline deliver waiting` and docs/operations.md#patients-are-parked")
    return ok("delivery", "nobody is parked")
