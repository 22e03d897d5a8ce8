"""The selection of the raw events that a replay maps."""

from dataclasses import dataclass
from typing import Any, Literal, Self

from fhirline.mappers.identity import escape_part
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.envelope import Envelope
from fhirline.mappers.registry import patient_key, vendor_mapping
from fhirline.streams.kafka.records import ConsumerRecord


@dataclass(frozen=True, slots=True)
class Selection:
    """A range of ``raw.*``. ``since`` (inclusive) and ``until`` (exclusive) are RFC 3339 instants of kind ``time``.

    ``time``: ``record`` is the record's timestamp, which the gateway sets to the time of receipt; ``event`` is the
    event's own time (mapping.md §3.3). ``patient`` is the vendor's key of one patient, the part of a raw record's key
    after the tenant. ``as_of``: state that only events before ``until`` have made, from the first one on.
    """

    vendors: tuple[str, ...]
    tenant: str | None = None
    since: str | None = None
    until: str | None = None
    time: Literal["record", "event"] = "record"
    partitions: tuple[int, ...] | None = None
    patient: str | None = None
    event_types: tuple[str, ...] = ()
    dead_letters: bool = False
    as_of: bool = False

    @property
    def rebuilds(self) -> bool:
        """Tell whether it has all events of its partitions, or all until then. State is built from nothing."""
        until = None if self.as_of else self.until
        return not (self.since or until or self.tenant or self.patient or self.event_types or self.dead_letters)

    @property
    def whole(self) -> bool:
        """Tell whether it contains every event of its vendors. Only then is a key that no event makes known as gone."""
        return self.rebuilds and self.partitions is None and not self.as_of

    def contains(self, raw: ConsumerRecord) -> bool:
        """Decide by the record's timestamp, without opening the record."""
        if self.time == "event":
            return True
        since, until = _milliseconds(self.since), _milliseconds(self.until)
        return (since is None or raw.timestamp_ms >= since) and (until is None or raw.timestamp_ms < until)

    @property
    def opens_records(self) -> bool:
        """Tell whether `contains_event` depends on the event."""
        timed = self.time == "event" and (self.since or self.until)
        return bool(self.tenant or self.patient or self.event_types or timed)

    def contains_event(self, envelope: Envelope) -> bool:
        """Decide by tenant, patient, event type and event time."""
        if self.tenant and envelope.tenant != self.tenant:
            return False
        if self.patient:
            key = patient_key(envelope.vendor, envelope.body, envelope.event_key)
            if key not in (self.patient, escape_part(self.patient)):
                return False
        declared = vendor_mapping(envelope.vendor)
        if self.event_types and declared.event_type(envelope.body, envelope.route_event) not in self.event_types:
            return False
        if self.time == "event":
            at = declared.event_time(envelope).ranked
            since, until = Instant.parse(self.since), Instant.parse(self.until)
            return (since is None or not at < since) and (until is None or at < until)
        return True

    @property
    def since_ms(self) -> int | None:
        """Return the record timestamp from which to read, in UNIX milliseconds; None for the beginning."""
        return _milliseconds(self.since) if self.time == "record" else None

    def describe(self) -> str:
        """Describe the selection on one line. A patient is not named."""
        time = "event time" if self.time == "event" else "receipt"
        parts = [
            ", ".join(self.vendors),
            f"tenant {self.tenant}" if self.tenant else "",
            f"{time} from {self.since}" if self.since else "",
            f"{'as of' if self.as_of else f'{time} before'} {self.until}" if self.until else "",
            f"partitions {','.join(map(str, self.partitions))}" if self.partitions is not None else "",
            "one patient" if self.patient else "",
            ", ".join(self.event_types),
            "open dead letters" if self.dead_letters else "",
        ]
        return "; ".join(part for part in parts if part)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """Restore a selection from ``run.json``, where tuples are lists."""
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()
        }
        return cls(**fields)


def _milliseconds(text: str | None) -> int | None:
    """Round an instant up to milliseconds, since a record's timestamp has no finer digits."""
    if (instant := Instant.parse(text)) is None:
        return None
    finer = instant.order[1][3:].strip("0")
    return instant.milliseconds + (1 if finer else 0)
