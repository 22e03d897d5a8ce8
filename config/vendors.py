"""Vendors and tenants (``vendors.yaml``): settings per vendor, which a tenant may override."""

import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from fhirline.config.errors import ConfigurationError
from fhirline.config.wrong_values import message_of

SLUG = r"^[a-z0-9-]{1,32}$"
DEFAULT_TENANT = "default"
ABSOLUTE_URI = r"^[A-Za-z][A-Za-z0-9+.-]*:[!-~]+$"

ICD10 = "http://hl7.org/fhir/sid/icd-10"
"""System of WHO's edition. R4 names a national one ``http://hl7.org/fhir/sid/icd-10-<x>``."""
_EDITION = re.compile(r"icd-10(-[a-z]{2,8})?")
_OTHER_EDITIONS = {"icd-10-gm": "http://fhir.de/CodeSystem/bfarm/icd-10-gm"}
"""Editions whose publisher has a system of its own."""


def _edition(value: Any) -> Any:
    """Return the system of an edition's name; any other value as it is."""
    if isinstance(value, str) and _EDITION.fullmatch(value):
        return _OTHER_EDITIONS.get(value, f"http://hl7.org/fhir/sid/{value}")
    return value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Freshness(_Strict):
    """The window of a signed request's time. ``header``: the header with the time. ``seconds``: how far it may be off.

    ``signed_before_body``: the text between secret and body that the vendor signs, with the time as ``{time}``. Empty:
    the time is not signed, so that only an unaltered copy of a request is refused.
    """

    header: str
    seconds: float = Field(300, gt=0, le=86_400)
    signed_before_body: str = "{time}."


class Credential(_Strict):
    """The authentication of a vendor's webhooks: the header, its scheme, and the names of the secrets.

    ``secrets`` are names of environment variables, each of which may also be set as ``<NAME>_FILE``. All of them are
    accepted, so that a secret can be rotated without a gap. ``freshness`` refuses old requests, where the vendor sends
    their time.
    """

    header: str
    scheme: Literal["static", "hmac-sha256"] = "static"
    prefix: str = ""
    secrets: tuple[str, ...] = Field(min_length=1)
    freshness: Freshness | None = None

    @model_validator(mode="after")
    def _signed(self) -> Self:
        if self.freshness is not None and self.scheme != "hmac-sha256":
            raise ValueError("freshness needs scheme hmac-sha256: with a static secret anybody could set the time")
        return self


class Instance(_Strict):
    """A tenant's own instance of a vendor's API (Infermedica), instead of that of the ``FHIRLINE_*`` settings.

    ``client_secret`` is the name of an environment variable, which may also be set as ``<NAME>_FILE``.
    """

    url: str
    client_id: str
    client_secret: str


class RateLimit(_Strict):
    """A token bucket: requests per second, and its size (default: the requests of one second)."""

    per_second: float = Field(gt=0, le=1_000_000)
    burst: int | None = Field(None, ge=1, le=1_000_000)


class TenantSettings(_Strict):
    """A tenant's settings, most of them for the mapping; mapping.md names each where it matters."""

    source_time_zone: str | None = "UTC"
    confidentiality: Literal["N", "R"] = "N"
    sandbox: bool = False
    ai_security: Literal["DEVAST", "AIAST"] = "DEVAST"
    snomed: bool = True
    narratives: bool = False
    note_documents: bool = False
    mrn_system: Annotated[str, StringConstraints(pattern=ABSOLUTE_URI)] | None = None
    """An absolute URI. It is checked because a mistake would stay in each Patient's state."""
    icd10_system: Annotated[str, BeforeValidator(_edition), StringConstraints(pattern=ABSOLUTE_URI)] = ICD10
    """The edition of ICD-10: ``icd-10`` (WHO's), a national one such as ``icd-10-cm``, or an absolute URI."""
    duration_unit: Literal["d", "wk"] | None = None
    lab_intent: Literal["plan", "order"] = "plan"
    unknown_status: Literal["data-absent-reason", "refuse"] = "data-absent-reason"
    """The treatment of a resource whose status has no code, where R4 has no code for "unknown"."""
    tz_code: bool = False
    """True where times that were read in a configured or named zone have the zone in the extension ``tz-code``."""
    enrichment: bool = False
    instance: Instance | None = None
    payload_confirmed: tuple[str, ...] = ()
    waiting_room_subtypes: tuple[str, ...] = ()
    credential: Credential | None = None
    rate_limit: RateLimit | None = None

    @field_validator("source_time_zone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                ZoneInfo(value)
            except (ZoneInfoNotFoundError, ValueError):
                raise ValueError(f"{value!r} is not an IANA time zone; null emits dates without times") from None
        return value


class Retention(_Strict):
    """Days until a vendor's records are deleted permanently; ``null``: retained indefinitely.

    ``raw_days`` applies to events as received, and so limits how far back a replay can reach. ``dead_letter_days``
    applies to events that could not be mapped.
    """

    raw_days: int | None = Field(None, ge=1, le=36_500)
    dead_letter_days: int | None = Field(None, ge=1, le=36_500)


class Vendor(_Strict):
    """One vendor: display name, default settings, retention, rate limit, and the tenants that the gateway accepts."""

    name: str
    defaults: TenantSettings
    retention: Retention = Retention()
    rate_limit: RateLimit | None = None
    """The limit of all tenants together. A tenant's own limit applies as well."""
    tenants: Mapping[str, Mapping[str, Any] | None]
    _settings: dict[str, TenantSettings] = PrivateAttr(default_factory=dict)

    @field_validator("tenants")
    @classmethod
    def _slugs(cls, value: Mapping[str, Any]) -> Mapping[str, Any]:
        for slug in value:
            if not re.fullmatch(SLUG, slug):
                raise ValueError(f"tenant {slug!r} does not match {SLUG}: use lower-case letters, digits and hyphens")
        return value

    def settings(self, tenant: str) -> TenantSettings:
        """Return the vendor's defaults with the tenant's overrides; a tenant that is not listed has none."""
        if (known := self._settings.get(tenant)) is None:
            overrides = self.tenants.get(tenant) or {}
            known = TenantSettings.model_validate({**self.defaults.model_dump(), **overrides})
            self._settings[tenant] = known
        return known


class Vendors(_Strict):
    """All of ``vendors.yaml``."""

    vendors: Mapping[str, Vendor]

    def __getitem__(self, vendor: str) -> Vendor:
        return self.vendors[vendor]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self.vendors))


@lru_cache(maxsize=8)
def load_vendors(path: Path | None = None) -> Vendors:
    """Read and check a vendors file, by default the packaged one; raise ConfigurationError with file and place."""
    try:
        text = path.read_text("utf-8") if path else (files("fhirline.config") / "vendors.yaml").read_text("utf-8")
        loaded = Vendors.model_validate(yaml.safe_load(text))
        for vendor in loaded.vendors.values():
            for tenant in vendor.tenants:
                vendor.settings(tenant)
        return loaded
    except OSError as error:
        raise ConfigurationError(f"FHIRLINE_VENDORS_FILE: cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"FHIRLINE_VENDORS_FILE: {path} is not UTF-8 text; save it as UTF-8") from None
    except RecursionError:
        raise ConfigurationError(f"FHIRLINE_VENDORS_FILE: {path} is nested too deep, or contains itself") from None
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        raise ConfigurationError(
            f"{path or 'vendors.yaml'}:{where.line + 1 if where else '?'}: not valid YAML: "
            f"{getattr(error, 'problem', None) or 'cannot be parsed'}"
        ) from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"{path or 'vendors.yaml'}: {place}: {message_of(first)}") from None
