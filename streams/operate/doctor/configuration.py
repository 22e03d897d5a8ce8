"""Checks of the configuration, in this machine's files and environment only."""

import os
import zoneinfo
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import PREFIX, Settings
from fhirline.config.tables import flags, secrets
from fhirline.config.terminology import Row, load_terminology, overrides
from fhirline.config.vendors import Credential, TenantSettings, Vendor, Vendors, load_vendors
from fhirline.streams.observe.terminal import counted, printable
from fhirline.streams.operate.doctor.finding import Finding, ok, problem, several, unusable, warning

SHORT = 16
"""Fewest characters of a secret: a sender of webhooks may try many, and guess a shorter one."""

EXAMPLE_BASE = Settings.model_fields["base"].default
PLACEHOLDERS = ("change-me", "changeme", "replace-me", "secret", "password", "example")
SECRET_SETTINGS = (
    "sasl_password",
    "sasl_oauth_client_secret",
    "ssl_key_password",
    "erasure_key",
    "research_key",
    "encryption",
    "ssl_key",
)
"""Settings whose ``_file`` only this user should be able to read."""


def changed_settings(settings: Settings) -> Finding:
    """List the settings that are not at their defaults, with secrets masked."""
    changed = [
        f"{PREFIX}{name.upper()}={getattr(settings, name)}"
        for name, field in Settings.model_fields.items()
        if getattr(settings, name) != field.default
    ]
    return ok("settings", several(changed, most=len(changed)) or "all at their defaults")


def unknown_variables(vendors: Vendors, environment: Mapping[str, str]) -> Finding:
    """Find variables with our prefix that nothing reads."""
    if unknown := unread_variables(vendors, environment):
        return warning(
            "variables", f"nothing reads {several(unknown)}", "check the spelling against `fhirline settings`"
        )
    return ok("variables", f"every {PREFIX}* variable is a setting or a secret that vendors.yaml names")


def unread_variables(vendors: Vendors, environment: Mapping[str, str]) -> list[str]:
    """Return the names of variables with our prefix that nothing reads. Most are mistyped."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    named = {secret for tenant in _tenants(vendors) for secret in _secret_names(tenant)}
    known |= named | {f"{name}_FILE" for name in named}
    return sorted(name for name in environment if name.startswith(PREFIX) and name not in known)


def identity(settings: Settings) -> Finding:
    """Check that ids, which never change, are not made from the example's base URL."""
    if settings.base == EXAMPLE_BASE:
        return warning(
            "identity",
            f"{PREFIX}BASE is the example's {EXAMPLE_BASE}, and every id is made from it",
            f"set {PREFIX}BASE to a URL of your own before the first event; it cannot be changed after that",
        )
    return ok("identity", f"ids are made from {settings.base}")


def vendors_file(settings: Settings) -> Finding:
    """Check that vendors.yaml loads, and has the vendors in FHIRLINE_VENDORS."""
    try:
        vendors = load_vendors(settings.vendors_file)
    except ConfigurationError as error:
        return unusable("vendors", str(error), "correct the file; nothing starts without it")
    if strange := sorted(set(settings.vendors or ()) - set(vendors.names)):
        return unusable(
            "vendors", f"{PREFIX}VENDORS names {several(strange)}, which vendors.yaml lacks", "correct either"
        )
    tenants = sum(len(vendors[name].tenants) for name in vendors.names)
    return ok("vendors", f"{counted(len(vendors.names), 'vendor')} with {counted(tenants, 'tenant')}")


def credentials(vendors: Vendors, environment: Mapping[str, str], gateway: bool = False) -> Iterator[Finding]:
    """Check every tenant's secrets. Tenants that share a credential have one finding.

    ``gateway``: a gateway runs here. It may have secrets in an environment of its own, as that of `fhirline dev` does.
    """
    seen: set[tuple[str, ...]] = set()
    for name in vendors.names:
        for tenant in vendors[name].tenants:
            credential = vendors[name].settings(tenant).credential
            if credential is None:
                where = f"{name}, tenant {tenant}"
                yield problem("credentials", f"{where}: none; all its webhooks are refused", "add one to vendors.yaml")
            elif credential.secrets not in seen:
                seen.add(credential.secrets)
                yield from _credential(name, credential, environment, gateway)


def _credential(
    vendor: str, credential: Credential, environment: Mapping[str, str], gateway: bool
) -> Iterator[Finding]:
    found: list[str] = []
    for name in credential.secrets:
        if own := environment.get(name, "").strip():
            found.append(own)
        if path := environment.get(f"{name}_FILE"):
            text, finding = _read_secret(f"{name}_FILE", Path(path))
            found += [line.strip() for line in text.splitlines() if line.strip()]
            if finding:
                yield finding
    names = " or ".join(credential.secrets)
    if not found and gateway:
        yield warning(
            "credentials",
            f"{vendor}: {names} is not set here. The gateway that runs here may have it in its own environment, which "
            "doctor cannot see; without it all webhooks of the vendor are refused",
            f"set {names} here, too, to have it checked",
        )
    elif not found:
        yield problem("credentials", f"{vendor}: {names} is not set; all its webhooks are refused", f"set {names}")
    elif any(item.lower().startswith(PLACEHOLDERS) for item in found):
        yield problem("credentials", f"{vendor}: {names} is a placeholder that anybody knows", _NEW)
    elif any(len(item) < SHORT for item in found):
        yield warning("credentials", f"{vendor}: {names} has fewer than {SHORT} characters", _NEW)
    else:
        count = "a secret" if len(found) == 1 else f"{len(found)} secrets, each valid"
        yield ok("credentials", f"{vendor}: {count} for header {credential.header}")


_NEW = "agree on a random one with the vendor: python -c 'import secrets; print(secrets.token_urlsafe(32))'"


def secret_files(settings: Settings) -> Iterator[Finding]:
    """Check that the settings' secret files are readable to this user, and to nobody else."""
    for name in Settings.model_fields:
        path = getattr(settings, name)
        if isinstance(path, Path) and name.removesuffix("_file") in (*SECRET_SETTINGS, "infermedica_client_secret"):
            text, finding = _read_secret(PREFIX + name.upper(), path)
            if finding is None and not text.strip():
                finding = problem(
                    "secret files", f"{PREFIX}{name.upper()}: the file is empty", "write the secret to it"
                )
            yield finding or ok("secret files", f"{PREFIX}{name.upper()}: readable to this user only")


def _read_secret(setting: str, path: Path) -> tuple[str, Finding | None]:
    """Read a secret's file. Returns a finding where it cannot be read, or others can read it."""
    try:
        text, mode, owner = path.read_text("utf-8"), path.stat().st_mode, path.stat().st_uid
    except OSError as error:
        return "", problem(
            "secret files", f"{setting}: {error.strerror}", "correct the path, or the file's permissions"
        )
    except UnicodeDecodeError:
        return "", problem("secret files", f"{setting}: the file is not UTF-8", "write it as UTF-8 text")
    # Docker and Kubernetes mount root's files readable to all, in a container without other users: that is fine.
    if mode & 0o002 or (mode & 0o044 and owner == os.geteuid()):
        return text, warning(
            "secret files", f"{setting}: other users of this machine can read it", "chmod 600 the file"
        )
    return text, None


def tables(settings: Settings) -> Iterator[Finding]:
    """Check that the tables load; list the words whose shipped row is overridden by another, and count equal ones."""
    try:
        terminology = load_terminology(settings.terminology_dir)
        own = overrides(settings.terminology_dir) if settings.terminology_dir else []
        secrets()
        flags()
    except ConfigurationError as error:
        yield unusable("tables", str(error), "correct what it names; nothing is mapped without the tables")
        return
    text = f"{len(terminology.names)} code tables"
    if settings.terminology_dir:
        added = sum(word.shipped is None for word in own)
        text += f"; {settings.terminology_dir} adds rows for {counted(added, 'word')}, and overrides "
        text += counted(len(own) - added, "word")
    yield ok("tables", text)
    same: Counter[str] = Counter()  # of a table that was copied whole, most
    for word in own:
        if word.shipped is not None:
            shipped, new = _meaning(word.shipped), _meaning(word.own)
            if shipped == new:
                same[word.table] += 1
            else:
                yield ok("tables", f"{word.table}: {printable(word.words)}: {shipped} -> {new}")
    for table, words in same.items():
        yield ok("tables", f"{table}: {counted(words, 'word')} as shipped")


def _meaning(row: Row) -> str:
    """Describe a row of a code table: its meaning, then its codes."""
    parts = [f"{name}={value}" for name, value in row.means.items()]
    parts += [f"{coding.system}#{coding.code}" for coding in row.codings]
    return " ".join(parts) or "text only"


def time_zones(vendors: Vendors, path: Iterable[str] = zoneinfo.TZPATH) -> Finding:
    """Check the tenants' time zones, and name the release of their data: another may give an event another time."""
    zones = sorted({tenant.source_time_zone for tenant in _tenants(vendors) if tenant.source_time_zone})
    try:
        for zone in zones:
            zoneinfo.ZoneInfo.no_cache(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        return problem("time zones", f"no data for {zone}", "pip install tzdata, or correct the zone in vendors.yaml")
    source = next((item for item in path if Path(item, "UTC").exists()), None)
    try:
        packaged = f"tzdata {version('tzdata')}"
    except PackageNotFoundError:
        packaged = "no tzdata package"
    return ok("time zones", f"{', '.join(zones) or 'none used'}; data from {source or packaged}")


def enrichment(settings: Settings, vendors: Vendors) -> Iterator[Finding]:
    """Check that each tenant with ``enrichment: true`` has an instance and its client's secret."""
    from fhirline.streams.enrich.infermedica.instances import VENDOR, instance_of
    from fhirline.streams.step1_receive.credentials import Secrets, environment

    if VENDOR not in vendors.names:
        return
    for tenant in enriched(vendors[VENDOR]):
        try:
            found = instance_of(settings, tenant, Secrets(environment()), None)
        except ConfigurationError as error:
            yield problem("enrichment", f"tenant {tenant}: {error}", "set it, or `enrichment: false` in vendors.yaml")
        else:
            yield ok("enrichment", f"tenant {tenant}: {found.url} (contacted with --online only)")


def enriched(vendor: Vendor) -> list[str]:
    """Return the tenants whose thin events are completed."""
    return [tenant for tenant in vendor.tenants if vendor.settings(tenant).enrichment]


def _tenants(vendors: Vendors) -> Iterator[TenantSettings]:
    for name in vendors.names:
        yield vendors[name].defaults
        for tenant in vendors[name].tenants:
            yield vendors[name].settings(tenant)


def _secret_names(tenant: TenantSettings) -> Iterator[str]:
    if tenant.credential:
        yield from tenant.credential.secrets
    if tenant.instance:
        yield tenant.instance.client_secret
