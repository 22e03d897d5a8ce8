"""Settings of every process, from ``FHIRLINE_*`` environment variables or an ``.env`` file: a module per subject.

``fhirline settings`` prints every field with its description; docs/settings.md lists them.
"""

from urllib.parse import urlsplit

from pydantic import ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings.console import ConsoleSettings
from fhirline.config.settings.delivery import DeliverySettings
from fhirline.config.settings.gateway import GatewaySettings
from fhirline.config.settings.identity import DEFAULT_BASE, IdentitySettings
from fhirline.config.settings.infermedica import InfermedicaSettings
from fhirline.config.settings.kafka import KafkaSettings
from fhirline.config.settings.limits import LimitSettings
from fhirline.config.settings.observation import ObservationSettings
from fhirline.config.settings.privacy import PrivacySettings
from fhirline.config.settings.tables import TablesSettings
from fhirline.config.settings.worker import Validation, WorkerSettings
from fhirline.config.wrong_values import message_of

__all__ = ["DEFAULT_BASE", "PREFIX", "Settings", "Validation", "absolute_url", "load_settings"]

PREFIX = "FHIRLINE_"


class Settings(
    ObservationSettings,
    ConsoleSettings,
    TablesSettings,
    DeliverySettings,
    InfermedicaSettings,
    LimitSettings,
    WorkerSettings,
    GatewaySettings,
    PrivacySettings,
    IdentitySettings,
    KafkaSettings,
    BaseSettings,
):  # pydantic takes the fields of the last base first
    """All settings; immutable once read. Units are in the descriptions."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True)

    @field_validator("base", "server_base", "tracing_endpoint")
    @classmethod
    def _absolute_url(cls, value: str | None) -> str | None:
        return absolute_url(value) if value is not None else None

    @field_validator("fhir_server")
    @classmethod
    def _fhir_server(cls, value: str | None) -> str | None:
        return base_url(value) if value is not None else None


def absolute_url(value: str) -> str:
    """Return an absolute http(s) URL without slashes at its end; raise ValueError for another text."""
    if not value.startswith(("http://", "https://")):
        raise ValueError("must be an absolute http(s) URL")
    return value.rstrip("/")


def base_url(value: str) -> str:
    """Return the base URL of a server, which paths are appended to; raise ValueError for another text."""
    url = absolute_url(value)
    try:
        parts = urlsplit(url)
        complete = bool(parts.hostname) and parts.port != 0
    except ValueError:
        complete = False
    if not complete or not url.isprintable() or " " in url:
        raise ValueError("must be an absolute http(s) URL with a host")
    if "@" in parts.netloc:
        raise ValueError(f"must be without user and password: set {PREFIX}FHIR_AUTH=basic, and both of them, instead")
    if "?" in url or "#" in url:
        raise ValueError("must be without a query and a fragment: paths are appended to it")
    return url


def load_settings(**overrides: object) -> Settings:
    """Read the settings; raise ConfigurationError with one line that names the first wrong one."""
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # pydantic checks them; callers pass field values
    except ValidationError as error:
        first, *more = error.errors(include_input=False, include_url=False, include_context=False)
        name = PREFIX + str(first["loc"][0]).upper() if first["loc"] else "settings"
        others = f" (and {len(more)} more)" if more else ""
        raise ConfigurationError(f"{name}: {message_of(first)}{others}") from None
    except ValueError as error:  # pydantic-settings, for a value that must be JSON and is not
        raise ConfigurationError(f"{PREFIX}*: {str(error).splitlines()[0]}") from None
