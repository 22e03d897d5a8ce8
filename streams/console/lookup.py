"""Single records by position, opened: what the console shows once somebody has asked for it with a reason."""

from collections.abc import Callable
from typing import Any

import orjson

from fhirline.config.settings import Settings
from fhirline.streams.deliver.entries import UnreadableBundle, entries_of
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ConsumerRecord, RecordPosition
from fhirline.streams.operate.dead_letters.board import records
from fhirline.streams.operate.dead_letters.cases import Case
from fhirline.streams.operate.trace.explain import Explained, explain_with_state
from fhirline.streams.operate.trace.find import Tracer


class Lookup:
    """Reads records, for one thread at a time. Raises KafkaAccessError where Kafka does not answer."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._scanner: Scanner | None = None

    def close(self) -> None:
        if self._scanner is not None:
            self._scanner.close()

    @property
    def _reader(self) -> Scanner:
        if self._scanner is None:
            self._scanner = Scanner(self._settings)
        return self._scanner

    def raw(self, position: str | None) -> ConsumerRecord | None:
        """Read a raw record, or its encrypted copy; None where both are gone, or the data key is destroyed."""
        found = Tracer(self._settings, self._reader).raw(position) if position else None
        return None if found is None or found.key_destroyed else found

    def value(self, position: str | None) -> Any:
        """Read a record's value as JSON; None where there is none."""
        parsed = RecordPosition.parse(position)
        message = self._reader.at(parsed) if parsed else None
        found = message.value() if message is not None else None
        return orjson.loads(found) if found else None

    def digests(self, position: str) -> dict[str, str]:
        """Read a Bundle's digest of each resource, by ``Type/id``; none where the Bundle is gone, or cannot be read."""
        parsed = RecordPosition.parse(position)
        message = self._reader.at(parsed) if parsed else None
        try:
            return {entry.key: entry.digest for entry in entries_of(message.value())} if message is not None else {}
        except UnreadableBundle:
            return {}

    def letter(self, case: Case) -> ConsumerRecord | None:
        """Read a case's last letter; None where it is gone, or its patient was erased."""
        return next(records(self._settings, [case.last.position]), None)

    def explained(self, raw: ConsumerRecord, proceed: Callable[[], None]) -> Explained:
        """Find the source of each element, and the state before, by the present mapping and the earlier events."""
        return explain_with_state(self._settings, Tracer(self._settings, self._reader), raw, proceed)
