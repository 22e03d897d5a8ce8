"""The vendor, tenant and event that a webhook's path names.

``/webhooks/{vendor}``, ``/webhooks/{vendor}/{tenant}``; for vendors whose webhooks are configured per event (Azodha)
also ``/webhooks/{vendor}/{event}`` and ``/webhooks/{vendor}/{tenant}/{event}``. Tenants are lower-case slugs and events
are in CamelCase, so no segment can be both. A slash at the end of a path changes nothing.
"""

from dataclasses import dataclass

from fhirline.config.errors import ConfigurationError, FhirlineError
from fhirline.config.vendors import DEFAULT_TENANT, Vendors
from fhirline.mappers.registry import VENDORS, vendor_mapping

BY_EVENT = frozenset({"azodha"})
"""Vendors with one URL per event."""


@dataclass(frozen=True, slots=True)
class Route:
    vendor: str
    tenant: str
    event: str | None = None


class NoRoute(FhirlineError):
    """The path names no vendor, tenant or event. ``code`` is the answer's error code. The message omits the path."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Routes:
    """The routes of the vendors and tenants in vendors.yaml."""

    def __init__(self, vendors: Vendors) -> None:
        for name in vendors.names:
            if name not in VENDORS:
                raise ConfigurationError(f"vendors.yaml: no mapping for vendor {name!r}; one of {', '.join(VENDORS)}")
        self._vendors = vendors
        self._events = {name: events(name) for name in vendors.names}

    def resolve(self, vendor: str, *rest: str) -> Route:
        """Return the route of the path segments after ``/webhooks/``. Raises NoRoute."""
        if vendor not in self._events:
            raise NoRoute("unknown-vendor", f"no such vendor; one of {', '.join(self._events)}")
        tenant, event = DEFAULT_TENANT, None
        match rest:
            case []:
                pass
            case [only] if only in self._events[vendor]:
                event = only
            case [only]:
                tenant = only
            case [first, second] if vendor in BY_EVENT:
                tenant, event = first, second
            case _:
                raise NoRoute("not-found", "nothing is received at this path")
        if tenant not in self._vendors[vendor].tenants:
            raise NoRoute("unknown-tenant", "the vendor has no such tenant (vendors.yaml), nor such an event")
        if event is not None and event not in self._events[vendor]:
            raise NoRoute("unknown-event", "the vendor has no such event")
        return Route(vendor, tenant, event)


def events(vendor: str) -> frozenset[str]:
    """Return the event names of a vendor's routes; empty where its webhooks are not configured per event."""
    if vendor not in BY_EVENT:
        return frozenset()
    mapping = vendor_mapping(vendor)
    return frozenset(mapping.events) | mapping.unmapped
