"""The values that the index holds of an event and of an event type, and how records have them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote

import orjson

from fhirline.mappers.instants import Instant

ANY_FLAG = "any"
"""The value of the search for flags that selects the events with any flag."""
MOST_LISTED = 200
"""Events, dead letters, Bundles or patients of a list."""
LATEST = 100
"""Events of a type whose latency counts."""
MINUTES = 60
"""Points of an event type's sparkline: a minute each, of which the last one is not over yet."""


class IndexedEvent(NamedTuple):
    """An event. ``id``: its number in the index of this process.

    Positions are ``topic/partition/offset``; None where there is no such record. ``occurred``: its own time, RFC 3339.
    ``received``: its time of receipt, which is None without a Provenance. ``written``: when its Provenance or outcome
    was written. Both are UNIX milliseconds.
    """

    id: int
    event_key: str
    vendor: str
    tenant: str
    type: str
    raw: str | None
    occurred: str | None
    received: int | None
    written: int
    mapping: str | None
    provenance: str | None
    bundle: str | None
    outcome: str | None

    @property
    def address(self) -> str:
        """Return the path of the event's page, which is the same after a restart. It names no patient."""
        return event_address(self.vendor, self.tenant, self.event_key)

    @property
    def came(self) -> int:
        """Time of its receipt or, without a Provenance, of the writing of its outcome, in UNIX milliseconds."""
        return self.written if self.received is None else self.received


class ListedEvent(NamedTuple):
    """An event of a list. ``at``: when it was written, in UNIX milliseconds; of a dead letter the event's receipt.

    In a list of the events since a time, ``at`` is when the event was received, without a Provenance when its outcome
    was written.

    ``address``: of the event's page, or where nothing else is known of it of its dead letter's. ``letter``: the address
    of its dead letter; empty where there is none, or a redrive has succeeded.
    """

    name: str
    address: str
    vendor: str
    tenant: str
    type: str
    at: int
    flags: tuple[str, ...] = ()
    letter: str = ""


class LastHour(NamedTuple):
    """The events of an event type that were received since ``since``, RFC 3339 and a full minute.

    ``minutes``: how many in each minute, `MINUTES` numbers, the oldest first. An event without a Provenance counts in
    the minute in which its outcome was written.
    """

    since: str
    minutes: Sequence[int]

    @property
    def events(self) -> int:
        return sum(self.minutes)


class TypeCount(NamedTuple):
    """The events of a vendor's event type, by what became of them and of their Bundles (`event_progress`).

    ``tabled``: those that the SQL tables have. ``last``: the newest one. ``latency``: seconds from receipt until
    written, the median of the last `LATEST`; None where no Provenance tells. ``hour``: those of the last hour.
    """

    vendor: str
    type: str
    became: Mapping[str, int]
    delivery: Mapping[str, int]
    tabled: int
    last: ListedEvent
    latency: float | None
    hour: LastHour

    @property
    def received(self) -> int:
        return sum(self.became.values())


def event_address(*parts: str) -> str:
    """Return the path of the page of the event with this vendor, tenant and event key."""
    return "/events/" + "/".join(quote(part, safe="") for part in parts)


def letter_address(case: str) -> str:
    """Return the path of a dead letter's page."""
    return f"/dead-letters/event?id={quote(case, safe='')}"


def received_at(provenance: bytes) -> int | None:
    """Return an event's time of receipt, which its Provenance has as ``recorded``, in UNIX milliseconds."""
    recorded = Instant.parse(orjson.loads(provenance).get("recorded"))
    return None if recorded is None else recorded.milliseconds


def flags_of(outcome: bytes) -> dict[str, list[str]]:
    """Return the codes of an OperationOutcome's flags, each with its places."""
    found: dict[str, list[str]] = {}
    for issue in orjson.loads(outcome).get("issue") or ():
        for coding in issue.get("details", {}).get("coding", ()):
            if code := coding.get("code"):
                found.setdefault(code, []).extend(map(str, issue.get("expression") or ()))
    return found
