"""Everything besides the events that decides the bytes of a replay, by name, with a digest of each.

A run stores it. Under other inputs the parts of a run would not fit together, so it is neither resumed nor published.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import PREFIX, Settings
from fhirline.config.table_digests import VERSION_DIGITS, digest, table_digests
from fhirline.config.terminology import load_terminology
from fhirline.config.vendors import TenantSettings, Vendor, load_vendors
from fhirline.mappers import MAP_SET_VERSION, MAPPING_VERSION

Inputs = Mapping[str, str]
"""Name → digest, or the version itself."""

VERSIONS = {"mapping version": MAPPING_VERSION, "version of the code tables": MAP_SET_VERSION}


class InputsChanged(ConfigurationError):
    """An input has changed since the run began, so its parts would not fit together. The message names it."""


NOT_DECIDING = (
    "bootstrap",
    "security_protocol",
    "sasl_",
    "ssl_",
    "replication_factor",
    "delivery_timeout",
    "erasure_key",  # another key is refused where patients are erased (`ErasureList`)
    "compaction_days",
    "gateway_",
    "max_body_bytes",
    "unverified_",
    "max_depth",
    "max_in_flight",
    "group",
    "vendors",  # those that a worker reads; the file's content has a digest of its own
    "terminology_dir",  # so have its rows
    "batch_",
    "console_",
    "deliver_",
    "encryption",  # the same records, sealed
    "fhir_",
    "stop_timeout",
    "session_timeout",
    "infermedica_",
    "enrich_",
    "cross_check_every",
    "replay_dir",
    "tables_",
    "research_",
    "log_",
    "metrics_",
    "tracing_",
)
"""Settings that decide no byte of a mapped record, by the beginnings of their names. All others do."""

NOT_OF_THE_MAPPING = frozenset({"credential", "rate_limit", "instance"})
"""A tenant's settings in vendors.yaml that only gateway and enrichment read."""


def inputs_of(settings: Settings) -> Inputs:
    """Return the inputs of a replay under these settings. Raises ConfigurationError where a file cannot be read."""
    tables = table_digests(load_terminology(settings.terminology_dir))
    vendors = load_vendors(settings.vendors_file).vendors
    return {
        **VERSIONS,
        **{f"table {name}": value for name, value in tables.items()},
        **{f"{name} in vendors.yaml": digest(_vendor(vendor)) for name, vendor in sorted(vendors.items())},
        **{f"{PREFIX}{name.upper()}": digest(value) for name, value in _settings(settings).items()},
    }


def differences(was: Inputs, now: Inputs) -> tuple[str, ...]:
    """Name the inputs that differ, without their values. Versions, which are no secret, are named with theirs."""
    return tuple(
        f"{name} ({was.get(name, 'none')}, now {now.get(name, 'none')})" if name in VERSIONS else name
        for name in {**was, **now}
        if was.get(name) != now.get(name)
    )


def short_digest(inputs: Inputs) -> str:
    """Return a digest of all inputs, for people to compare."""
    return digest(dict(inputs))[:VERSION_DIGITS]


def _settings(settings: Settings) -> dict[str, Any]:
    values = settings.model_dump()
    return {
        name: str(value) if value is not None else None
        for name, value in values.items()
        if not name.startswith(NOT_DECIDING) and not isinstance(value, SecretStr)
    }


def _vendor(vendor: Vendor) -> dict[str, Any]:
    """Return what the mapping reads of a vendor. A tenant with the defaults equals an unlisted one."""
    defaults = _tenant(vendor.defaults)
    tenants = {slug: _tenant(vendor.settings(slug)) for slug in vendor.tenants}
    return {
        "name": vendor.name,
        "defaults": defaults,
        "tenants": {slug: tenant for slug, tenant in tenants.items() if tenant != defaults},
    }


def _tenant(tenant: TenantSettings) -> dict[str, Any]:
    return tenant.model_dump(mode="json", exclude=set(NOT_OF_THE_MAPPING))
