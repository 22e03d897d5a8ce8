"""Sending dead letters through the mapping again.

The event is written to its raw topic once more, into the same partition as before. It is not mapped here, because only
the worker that owns a raw partition maps into its state (state.md §7): another process would read state that is not
complete, and overwrite newer records. As one more raw record the event is mapped in its turn. Three properties make
that safe at any time:

* Byte-equal deliveries are one event (mapping.md §3.2). The redriven record has the value, tenant, route event and time
  of receipt of the first, so it has the same event key and the same version. ``received-at`` is always written: the
  time of another producer's record is in its timestamp, which a topic may be configured to replace.
* Folds accept updates in any order, and for a last-writer resource the greatest version stays. Later events of the
  patient are overwritten neither on their topics nor by the event's Bundle.
* An event that fails again becomes a letter with the next ``attempt`` of the same case (header ``first-raw``).

The value is the letter's, which is redacted; another producer's raw record may not be. A letter without a value
(unreadable, or too large) is sent from the raw record, redacted, if that can be read by now.
Otherwise it is not sent, because the secret would be in the raw topic twice.

Crash safety: the mark on the status topic follows the raw record's delivery report. A crash between the two leads to a
second send of the same event, which by the first property is one event. With the same idempotency key no event is sent
that is marked with it, or whose letter has it.

An erased patient's event is not sent. The worker would not map it, but the raw topic would contain it once more.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from fhirline.config.errors import FhirlineError
from fhirline.config.settings import Settings
from fhirline.mappers import MAPPING_VERSION
from fhirline.mappers.pipeline.envelope import UnreadableBody
from fhirline.streams.kafka import headers
from fhirline.streams.kafka.clients import new_client, producer_config
from fhirline.streams.kafka.delivery_report import delivery_error, take_all_reports, take_reports
from fhirline.streams.kafka.encryption.opener import is_sealed
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord, RecordPosition, position_of, produce
from fhirline.streams.operate.dead_letters.board import Board, records
from fhirline.streams.operate.dead_letters.cases import Case, Mark, Status, raw_timestamp, received
from fhirline.streams.step3_restore.erasure_list_feed import ErasureListFeed
from fhirline.streams.step4_normalize.raw_event import body_flags, envelope_of, redacted_value
from fhirline.topics.declared import DEAD_LETTER_STATUS, enriched_topic, raw_topic

SEND_AGAIN = frozenset({Status.OPEN, Status.FAILED})
"""The statuses that a redrive sends by default."""

POLL_SECONDS = 0.5
"""Seconds between two readings of the status of redriven events."""

FLUSH_GRACE = 2.0
"""Seconds after the delivery timeout within which librdkafka must have reported on every record."""


class NotMarked(FhirlineError):
    """Events were sent, but their marks were not written. The same key would send them again, which is safe."""


class NotSent(FhirlineError):
    """A letter cannot be redriven. The message states why, without payload."""


def redriven_record(
    case: Case, letter: ConsumerRecord, raw: ConsumerRecord | None, idempotency_key: str
) -> ProducerRecord:
    """Make the raw record of a case's last letter. ``raw``: its first raw record, needed for a letter without a value.

    Raises NotSent.
    """
    last = case.last
    if last.raw is None or last.raw.topic not in (raw_topic(last.vendor), enriched_topic(last.vendor)):
        raise NotSent("the letter does not name a raw record of its vendor")
    at = received(letter)
    kept = {headers.RECEIVED_AT, headers.TENANT, headers.EVENT_TYPE, headers.EVENT_KEY}
    kept -= {headers.RECEIVED_AT} if at else set()
    own = letter.headers
    if is_sealed(letter) or (raw is not None and is_sealed(raw)):
        raise NotSent("it is encrypted, and cannot be opened: it was changed")
    value, flags, key, data_key = letter.value, body_flags(letter), letter.key, letter.data_key
    if value is None:
        value, found = _from_raw(raw)
        flags = tuple(sorted({*flags, *found}))
        if raw is not None and raw.data_key is not None:  # the letter was made when the raw record could not be opened
            key, data_key = raw.key, raw.data_key
            own = [*own, *(item for item in raw.headers if item[0] == headers.EVENT_KEY)]
    return ProducerRecord(
        last.raw.topic,
        key or b"",
        value,
        last.raw.partition,
        [
            *((name, value) for name, value in own if name in kept),
            *(headers.headers(received_at=at.text) if at else []),
            *(headers.headers(body_flags=",".join(flags)) if flags else []),
            *headers.headers(attempt=str(case.attempts + 1), first_raw=case.id, redrive=idempotency_key),
        ],
        max(1, raw_timestamp(letter)),  # librdkafka takes 0 for "now"
        data_key=data_key,
    )


def _from_raw(raw: ConsumerRecord | None) -> tuple[bytes, tuple[str, ...]]:
    """Return the value of a raw record, redacted, and the flags of how it was read. Raises NotSent."""
    if raw is None:
        raise NotSent("the dead letter has no value, and the raw record is no longer there")
    if raw.value is None:
        raise NotSent("the raw record has no value: there is nothing to map")
    try:
        envelope = envelope_of(raw)
    except UnreadableBody as error:
        raise NotSent(f"still unreadable ({error.code}), and it may contain a secret: not written twice") from None
    value = redacted_value(raw, envelope)
    assert value is not None
    return value, envelope.flags


@dataclass(slots=True)
class Report:
    """The result for each case, by id: the position of the redriven record, or why it was not sent."""

    sent: dict[str, RecordPosition] = field(default_factory=dict)
    not_sent: dict[str, str] = field(default_factory=dict)


class Redriver:
    """Sends events. ``rate``: events per second at most, so that the vendors' own events do not wait behind them."""

    def __init__(self, settings: Settings, idempotency_key: str, rate: float | None = None) -> None:
        self._settings = settings
        self._key = idempotency_key
        self._every = 1 / rate if rate else 0.0
        self._next = 0.0
        self._erasures = ErasureListFeed(settings)
        self._producer = new_client(Producer, producer_config(settings, **{"linger.ms": 5}))
        self._marks: deque[tuple[str, Mark]] = deque()
        self._unmarked: list[str] = []
        self.report = Report()

    def send(
        self,
        cases: Sequence[Case],
        progress: Callable[[], None] = lambda: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Report:
        """Write each case's event to its raw topic and mark it. Return when all are acknowledged or refused.

        ``stopped``: asked before each event; once it is true, the others are left as they are.
        """
        lasts = {case.last.position: case for case in cases}
        try:
            for letter in records(self._settings, lasts.keys()):
                if stopped():
                    return self.report
                self._send(lasts.pop(letter.position), letter)
                progress()
        finally:  # after an interruption too, what was sent is marked
            self._erasures.close()
            self._flush()
        for case in lasts.values():
            self.report.not_sent[case.id] = "the letter is no longer there"
        return self.report

    def settle(self, cases: Iterable[Case]) -> None:
        """Mark the cases that are done or have failed again, so that later readings need not find out again."""
        for case in cases:
            if case.mark and case.status in (Status.DONE, Status.FAILED) and case.status is not case.mark.status:
                old = case.mark
                self._marks.append(
                    (
                        case.id,
                        Mark(
                            case.status,
                            case.attempts,
                            old.redriven,
                            case.last.position,
                            old.idempotency_key,
                            case.last.mapping_version if case.status is Status.FAILED else old.mapping_version,
                        ),
                    )
                )
        self._flush()

    def _send(self, case: Case, letter: ConsumerRecord) -> None:
        try:
            raw = None
            if letter.value is None and case.last.raw is not None:
                raw = next(records(self._settings, [case.last.raw]), None)
            record = redriven_record(case, letter, raw, self._key)
            self._require_not_erased(record)
        except NotSent as reason:
            self.report.not_sent[case.id] = str(reason)
            return
        self._pace()

        def delivered(error: KafkaError | None, message: Message) -> None:
            if (error := delivery_error(error, message)) is not None:
                self.report.not_sent[case.id] = f"Kafka did not take it ({error.name()})"
                return
            position = position_of(message)
            self.report.sent[case.id] = position
            mark = Mark(Status.REDRIVEN, case.attempts + 1, position, case.last.position, self._key, MAPPING_VERSION)
            self._marks.append((case.id, mark))

        self._produce(record, delivered)
        self._write_marks()

    def _require_not_erased(self, record: ProducerRecord) -> None:
        """Raise NotSent where the patient is erased, and KafkaAccessError where that is unknown."""
        if not self._erasures.fresh:
            self._erasures.refresh()
        try:
            erased = self._erasures.erasure_list.blocks(envelope_of(record.at(record.partition or 0, 0)))
        except UnreadableBody:
            return  # names no patient
        if erased:
            raise NotSent("its patient is erased")

    def _pace(self) -> None:
        """Wait until ``rate`` allows the next event."""
        while (wait := self._next - time.monotonic()) > 0:
            take_reports(self._producer, wait)  # handles delivery reports
            self._write_marks()
        self._next = max(self._next, time.monotonic()) + self._every

    def _produce(self, record: ProducerRecord, delivered: Callable[..., None]) -> None:
        while True:
            try:
                produce(self._producer, record, delivered)
            except BufferError:
                take_reports(self._producer, 0.1)  # delivery reports free the queue
            except KafkaException as error:
                delivered(error.args[0], None)  # too large for this producer
                return
            else:
                return

    def _write_marks(self) -> None:
        while self._marks:
            id, mark = self._marks.popleft()

            def delivered(error: KafkaError | None, message: Message, id: str = id) -> None:
                if (error := delivery_error(error, message)) is not None:
                    self._unmarked.append(f"{id}: {error.name()}")

            self._produce(ProducerRecord(DEAD_LETTER_STATUS, id.encode(), mark.encode()), delivered)

    def _flush(self) -> None:
        """Wait until everything is acknowledged. Raises NotMarked."""
        for _ in range(2):  # the reports of the records, then those of their marks
            take_all_reports(self._producer, self._settings.delivery_timeout + FLUSH_GRACE)
            self._write_marks()
        left = take_all_reports(self._producer, self._settings.delivery_timeout + FLUSH_GRACE)
        if self._unmarked or left:
            first = self._unmarked[0] if self._unmarked else f"{left} unacknowledged"
            raise NotMarked(f"{DEAD_LETTER_STATUS}: {first}")


def wait_until_mapped(
    board: Board, redriver: Redriver, seconds: float, pause: Callable[[float], object] = time.sleep
) -> list[Case]:
    """Wait until the events that were sent are mapped, mark their status, and return them.

    After ``seconds`` some may not be mapped yet. ``pause`` ends the waiting where it returns True.
    """
    end, sent = time.monotonic() + seconds, redriver.report.sent
    while sent and seconds:
        cases = [case for case in board.read() if case.id in sent]
        unmapped = any(case.status is Status.REDRIVEN for case in cases)
        # workers commit periodically, and Kafka does not notify of commits
        if not unmapped or time.monotonic() > end or pause(POLL_SECONDS):
            redriver.settle(cases)
            return cases
    return []
