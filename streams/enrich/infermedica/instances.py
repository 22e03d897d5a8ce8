"""The Infermedica instance of a tenant: its own in vendors.yaml, or that of the settings."""

from urllib.parse import urlsplit

from fhirline.config.errors import ConfigurationError
from fhirline.config.secret import secret
from fhirline.config.settings import PREFIX, Settings
from fhirline.config.vendors import TenantSettings, load_vendors
from fhirline.streams.enrich.infermedica.client import Instance
from fhirline.streams.step1_receive.credentials import Secrets

VENDOR = "infermedica"
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def tenant_settings(settings: Settings, tenant: str) -> TenantSettings:
    """Return an Infermedica tenant's settings. Raises ConfigurationError where vendors.yaml lacks the vendor."""
    vendors = load_vendors(settings.vendors_file)
    if VENDOR not in vendors.names:
        raise ConfigurationError(f"{settings.vendors_file or 'vendors.yaml'}: vendors.{VENDOR} is missing")
    return vendors[VENDOR].settings(tenant)


def instance_of(settings: Settings, tenant: str, secrets: Secrets, scopes: str | None) -> Instance:
    """Return the instance of a tenant; ``scopes`` apply where the settings name none. Raises ConfigurationError."""
    scopes = settings.infermedica_scopes or scopes
    if own := tenant_settings(settings, tenant).instance:
        name = own.client_secret

        def own_secret() -> str:
            held = secrets.valid([name])
            if not held:
                raise ConfigurationError(f"{name} (or {name}_FILE) is not set: the OAuth client secret of {tenant}")
            return held[-1].decode()

        own_secret()
        return Instance(_url(own.url, f"vendors.yaml: instance of {tenant}"), own.client_id, own_secret, scopes)
    missing = [
        name
        for name, value in (
            ("INFERMEDICA_URL", settings.infermedica_url),
            ("INFERMEDICA_CLIENT_ID", settings.infermedica_client_id),
            (
                "INFERMEDICA_CLIENT_SECRET (or _FILE)",
                settings.infermedica_client_secret or settings.infermedica_client_secret_file,
            ),
        )
        if not value
    ]
    if missing:
        raise ConfigurationError(f"{PREFIX}{missing[0]} is not set: Infermedica's API needs it")

    def settings_secret() -> str:
        return secret(settings, "infermedica_client_secret") or ""

    settings_secret()
    url = _url(settings.infermedica_url or "", f"{PREFIX}INFERMEDICA_URL")
    return Instance(url, settings.infermedica_client_id or "", settings_secret, scopes)


def _url(url: str, where: str) -> str:
    """Check for ``https://host[:port][/path]``. Plain http is allowed to this machine only: it carries the secret."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError(f"{where}: not a URL") from None
    safe = parts.scheme == "https" or (parts.scheme == "http" and host in LOOPBACK)
    if not safe or not host or parts.query or parts.fragment or parts.username:
        raise ConfigurationError(f"{where}: must be https://<host>, without user, query or fragment")
    return url.rstrip("/")
