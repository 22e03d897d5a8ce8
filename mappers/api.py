"""The Python API, exported by the package `fhirline`: map a webhook's body without Kafka (docs/python-api.md)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, get_args

import orjson

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import DEFAULT_BASE, Validation, absolute_url
from fhirline.config.terminology import load_terminology
from fhirline.config.vendors import DEFAULT_TENANT, load_vendors
from fhirline.mappers.fhir.validation import validator
from fhirline.mappers.identity import Naming
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline import tolerant
from fhirline.mappers.pipeline.envelope import Envelope, UnreadableBody, open_envelope
from fhirline.mappers.pipeline.folding import InMemoryState
from fhirline.mappers.pipeline.normalize import Normalizer
from fhirline.mappers.pipeline.output import Refusal
from fhirline.mappers.registry import VENDORS, open_without_receipt
from fhirline.mappers.results import Flag


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """The configuration of `normalize`. No environment variable and no ``.env`` file is read.

    * ``base``: base URL of identifier systems and ids. Choose one and never change it: every id depends on it.
    * ``server_base``: base URL of ``Bundle.entry.fullUrl``; ``base`` by default.
    * ``vendors_file``: vendors and tenants (``vendors.yaml``); the packaged file by default.
    * ``terminology_dir``: a folder of code tables that override the packaged ones.
    * ``validation``: ``spec``, ``fhir.resources``, ``both`` or ``off`` (FHIRLINE_VALIDATION of docs/settings.md).

    Files are read once in a process. Raises ConfigurationError for a wrong value.
    """

    base: str = DEFAULT_BASE
    server_base: str | None = None
    vendors_file: Path | None = None
    terminology_dir: Path | None = None
    validation: Validation = "spec"

    def __post_init__(self) -> None:
        for name in ("base", "server_base"):
            if (url := getattr(self, name)) is not None:
                try:
                    object.__setattr__(self, name, absolute_url(url))
                except ValueError as error:
                    raise ConfigurationError(f"{name}: {url!r} {error}") from None
        if self.validation not in get_args(Validation):
            known = ", ".join(get_args(Validation))
            raise ConfigurationError(f"validation: unknown mode {self.validation!r}; use one of {known}")


@dataclass(frozen=True)
class NormalizedEvent:
    """The result of mapping one event.

    ``bundle``, ``resources`` and ``outcome`` are the parsed forms of the bytes, which are those of ``fhirline map``.
    """

    vendor: str
    tenant: str
    event_type: str
    """The vendor's event type; ``unknown`` if it is not a known one."""
    event_key: str
    """SHA-256 of the redacted body, in hex. Equal bodies are one event."""
    occurred_at: str
    """RFC 3339 instant that the event is ordered by."""
    bundle_json: bytes | None
    """Return the transaction Bundle; None if nothing was mapped."""
    resources_json: tuple[bytes, ...]
    """Return the resources of the Bundle, in its order."""
    outcome_json: bytes | None
    """The OperationOutcome; None if there is nothing to report."""
    flags: tuple[Flag, ...]
    """Data-quality flags: code, and the places that they apply to."""
    refusals: tuple[Refusal, ...]
    """Resources that could not be made validly. On Kafka they become a dead letter."""

    @cached_property
    def bundle(self) -> dict[str, Any] | None:
        """Return the transaction Bundle; None if nothing was mapped."""
        return orjson.loads(self.bundle_json) if self.bundle_json else None

    @cached_property
    def resources(self) -> list[dict[str, Any]]:
        """Return the resources of the Bundle, in its order."""
        return [orjson.loads(resource) for resource in self.resources_json]

    @cached_property
    def outcome(self) -> dict[str, Any] | None:
        """Return the OperationOutcome: flags, and leaves that were not mapped, without values; None without any."""
        return orjson.loads(self.outcome_json) if self.outcome_json else None

    @property
    def complete(self) -> bool:
        """Return whether the event type is supported and no resource was refused (``fhirline map`` exits with 0)."""
        return not self.refusals and not any(flag.code == "not-supported" for flag in self.flags)


def normalize(
    body: bytes | str | Mapping[str, Any],
    *,
    vendor: str,
    tenant: str = DEFAULT_TENANT,
    event_type: str | None = None,
    received_at: str | datetime | None = None,
    state: InMemoryState | None = None,
    options: Options | None = None,
) -> NormalizedEvent:
    """Map one webhook body to FHIR R4. Equal arguments always give equal bytes.

    * ``body``: JSON as bytes or text, or the parsed object.
    * ``vendor``, ``tenant``: as in the vendors file.
    * ``event_type``: the event of the webhook's route, for a vendor whose bodies need not name it (Azodha).
    * ``received_at``: when the body was received, as RFC 3339 text or an aware datetime. By default it is the event's
      own time, or 1970-01-01 without one.
    * ``state``: the state of earlier events, for folds. The event's updates are added to it. By default there is none.

    Raises UnreadableBody if the body is not a JSON object, and ConfigurationError for any other wrong argument.
    """
    options = options or Options()
    state = InMemoryState() if state is None else state
    normalizer = _normalizer(options)
    _check_tenant(normalizer, vendor, tenant)
    envelope = _envelope(vendor, tenant, _as_json(body), event_type, received_at)
    result = normalizer(envelope, state)
    state.apply(result.state_updates)
    return NormalizedEvent(
        vendor=vendor,
        tenant=tenant,
        event_type=result.event_type,
        event_key=envelope.event_key,
        occurred_at=result.version.at,
        bundle_json=result.bundle.value if result.bundle else None,
        resources_json=tuple(output.value for output in result.outputs),
        outcome_json=result.outcome.value if result.outcome else None,
        flags=result.flags,
        refusals=result.refusals,
    )


@lru_cache(maxsize=8)
def _normalizer(options: Options) -> Normalizer:
    """Build the normalizer, once for equal options."""
    return Normalizer(
        load_vendors(options.vendors_file),
        Naming(options.base, options.server_base or ""),
        load_terminology(options.terminology_dir),
        validator(options.validation),
    )


def _check_tenant(normalizer: Normalizer, vendor: str, tenant: str) -> None:
    vendors = normalizer.vendors
    if vendor not in VENDORS or vendor not in vendors.vendors:
        known = ", ".join(name for name in vendors.names if name in VENDORS)
        raise ConfigurationError(f"vendor: unknown vendor {vendor!r}; use one of {known}")
    if tenant not in vendors[vendor].tenants:
        known = ", ".join(sorted(vendors[vendor].tenants))
        raise ConfigurationError(
            f"tenant: {vendor} has no tenant {tenant!r}; use one of {known}, or add it to a vendors file of your own"
        )


def _as_json(body: bytes | str | Mapping[str, Any]) -> bytes | str:
    if isinstance(body, bytes | str):
        return body
    try:
        fast = orjson.dumps(dict(body))
        if b"null" not in fast:  # orjson writes NaN and Infinity as null
            return fast
    except (TypeError, ValueError):
        pass
    try:
        return json.dumps(dict(body), default=_plain)
    except (TypeError, ValueError, RecursionError) as error:  # not a mapping, or a value that JSON does not have
        raise UnreadableBody("not-json", f"the body cannot be written as JSON: {error}") from None


def _plain(value: Any) -> Any:
    """Convert what only orjson writes (a datetime, a UUID), and a Decimal; raise TypeError for other objects."""
    if isinstance(value, Decimal):
        return tolerant.number(str(value), set())
    return orjson.loads(orjson.dumps(value))


def _envelope(
    vendor: str, tenant: str, body: bytes | str, event_type: str | None, received_at: str | datetime | None
) -> Envelope:
    if received_at is None:
        return open_without_receipt(vendor, tenant, body, event_type)
    if isinstance(received_at, datetime):
        received = Instant.at(received_at) if received_at.tzinfo else None
    else:
        received = Instant.parse(received_at)
    if received is None:
        raise ConfigurationError(
            f"received_at: {str(received_at)!r} is not an instant with a time zone, such as 2024-01-01T00:00:00Z"
        )
    return open_envelope(vendor, tenant, body, received, event_type)
