"""Checks of Infermedica's instances, on request only: that they answer and accept the credentials."""

import asyncio
from collections.abc import Iterator

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.config.vendors import load_vendors
from fhirline.streams.enrich.infermedica.client import CallFailed, Client, Instance, new_session
from fhirline.streams.enrich.infermedica.instances import VENDOR, instance_of
from fhirline.streams.enrich.service import SCOPES
from fhirline.streams.operate.doctor.configuration import enriched
from fhirline.streams.operate.doctor.finding import Finding, ok, problem
from fhirline.streams.step1_receive.credentials import Secrets, environment

TOKEN_BYTES = 1 << 20


def reached(settings: Settings) -> Iterator[Finding]:
    """Ask the instance of each tenant with enrichment for a token, and for nothing else."""
    vendors = load_vendors(settings.vendors_file)
    tenants = enriched(vendors[VENDOR]) if VENDOR in vendors.names else []
    if not tenants:
        yield ok("infermedica", "no tenant has `enrichment: true`, so no instance is contacted")
    for tenant in tenants:
        try:
            instance = instance_of(settings, tenant, Secrets(environment()), SCOPES)
        except ConfigurationError:
            continue  # a finding of `configuration.enrichment` already
        yield asyncio.run(_one(tenant, instance, settings))


async def _one(tenant: str, instance: Instance, settings: Settings) -> Finding:
    async with new_session() as session:
        try:
            await Client(session, instance, settings.infermedica_timeout, TOKEN_BYTES).token()
        except CallFailed as failure:
            refused = failure.status is not None and 400 <= failure.status < 500
            fix = "check client id, secret and scopes" if refused else "check the URL, and that the instance is running"
            return problem("infermedica", f"tenant {tenant}: {instance.url}: {failure.code}", fix)
    return ok("infermedica", f"tenant {tenant}: {instance.url} issues a token")
