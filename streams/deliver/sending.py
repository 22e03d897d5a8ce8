"""Sending entries until the server has them, or has refused them (fhir-delivery.md §3).

The invariant: **`Delivery.send` returns an entry as delivered only after the server has answered 2xx for it**, and a
refusal only after the server itself has refused the same content more than once. Every other answer, and none, is
followed by another attempt: a PUT or DELETE that is repeated changes nothing.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from fhirline.config.errors import ConfigurationError, FhirlineError
from fhirline.config.settings import Settings
from fhirline.streams.deliver.answers import Kind, Verdict, verdicts
from fhirline.streams.deliver.completion import Completion
from fhirline.streams.deliver.entries import Entry, references, transaction
from fhirline.streams.deliver.fhir_client import FhirServer, ServerUnavailable
from fhirline.streams.deliver.limiter import Limiter
from fhirline.streams.deliver.metrics import DeliverMetrics

log = structlog.get_logger("deliver")

REFUSALS = 2
"""Times that the server has to refuse the same content, with a pause in between, before it is believed."""

CONFLICT, REFUSED, TOO_LARGE = "conflict", "refused", "too-large"
CODES = (CONFLICT, REFUSED, TOO_LARGE)
"""Codes of dead letters: conflicts that do not end, content that the server refuses, a request that is too large."""


class DeliveryAbandoned(FhirlineError):
    """The partition went away, or the process ends, while something was being sent."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reason why entries were not stored."""

    code: str
    verdict: Verdict
    keys: tuple[str, ...]


@dataclass(slots=True)
class Result:
    """The result of a delivery. ``delivered`` may hold more than was asked for: resources that the entries refer to."""

    delivered: list[Entry] = field(default_factory=list)
    refusal: Refusal | None = None


class Delivery:
    """Sends entries. ``most_entries``: the largest transaction that the server takes."""

    def __init__(
        self,
        settings: Settings,
        server: FhirServer,
        limiter: Limiter,
        metrics: DeliverMetrics,
        most_entries: int,
        completion: Completion,
    ) -> None:
        self._settings = settings
        self._server = server
        self._limiter = limiter
        self._metrics = metrics
        self._most_entries = most_entries
        self._completion = completion
        self._unusable: ConfigurationError | None = None
        """The error that ends everything, once the server has shown that it takes no Bundle."""

    async def send(
        self,
        entries: Sequence[Entry],
        others: Mapping[str, Entry],
        partition: int,
        abandoned: Callable[[], bool] = lambda: False,
    ) -> Result:
        """Send entries in transactions of the server's size, in their order.

        ``others``: entries that the server should have, to be sent again where it misses one. Raises DeliveryAbandoned
        once ``abandoned`` holds, ConfigurationError where the server takes nothing from us, KafkaAccessError.
        """
        result, left = Result(), list(entries)
        while left and result.refusal is None:
            own = {entry.key: entry for entry in left}
            attempt = _Attempts(left[: self._most_entries], own, others, self._most_entries)
            await self._transaction(attempt, partition, abandoned)
            result.delivered += attempt.delivered
            result.refusal = attempt.refusal
            done = {entry.key for entry in attempt.delivered}
            left = [entry for entry in left if entry.key not in done]
        return result

    async def _transaction(self, work: "_Attempts", partition: int, abandoned: Callable[[], bool]) -> None:
        while work.pending and work.refusal is None:
            failed = work.take(*await self._attempt(work, partition, abandoned))
            if failed is None:
                continue
            if failed.kind in (Kind.REFUSED, Kind.CONFLICT) and await self._complete(work, failed, partition):
                continue
            await self._wait(work, failed)

    async def _attempt(
        self, work: "_Attempts", partition: int, abandoned: Callable[[], bool]
    ) -> tuple[Sequence[Entry], list[Verdict]]:
        """Send once, and return the entries with their verdicts, also without an answer. Raises DeliveryAbandoned.

        The wait for a slot may be long, so the conditions of sending are checked after it.
        """
        async with self._limiter.slot():
            if abandoned():
                raise DeliveryAbandoned
            if self._unusable is not None:
                raise self._unusable
            if work.added:  # somebody may have been erased since
                allowed = await self._completion.allowed([*work.added.values()], work.known, partition)
                work.added = {entry.key: entry for entry in allowed}
            sent = work.to_send()
            try:
                answer = await self._server.transaction(transaction(sent))
            except ServerUnavailable as error:
                self._metrics.request(str(error))
                self._limiter.struggles()
                log.debug("no answer", reason=str(error))
                return sent, [Verdict(Kind.FAILED, 0, server_codes=(str(error),))] * len(sent)
            found = verdicts(answer.status, answer.body, answer.retry_after, sent)
            self._metrics.request(str(answer.status), answer.seconds)
            if any(item.kind is Kind.BUSY for item in found):
                self._limiter.struggles(max(answer.retry_after or 0.0, self._settings.deliver_retry_first))
            elif answer.status >= 500:
                self._limiter.struggles()
            else:
                self._limiter.answered(answer.seconds)
        return sent, found

    async def _complete(self, work: "_Attempts", failed: Verdict, partition: int) -> bool:
        """Add what the entries refer to and the server may miss; tell whether anything was added.

        First what the answer names. Where it names nothing, everything that the entries refer to, once.
        """
        outward = [key for key in references(work.to_send()) if key not in work.looked_for]
        missing = [key for key in outward if failed.names(key)]
        if not missing and failed.kind is Kind.REFUSED and failed.status != 413:
            missing = outward
        if not missing:
            return False
        work.looked_for.update(missing)
        added = await self._completion.find(missing, work.known, partition)
        work.added.update((entry.key, entry) for entry in added)
        if added:
            self._metrics.completed.inc(len(added))
            log.info("completed with what it refers to", resources=len(added), status=failed.status)
        return bool(added)

    async def _wait(self, work: "_Attempts", failed: Verdict) -> None:
        """Wait before the next attempt, or end the attempts with a refusal."""
        settings, loop = self._settings, asyncio.get_running_loop()
        if failed.kind is Kind.UNUSABLE:
            self._unusable = ConfigurationError(
                f"{self._server.base} answers {failed.status} to a transaction: check that it is the base URL of a "
                "FHIR R4 server that takes transaction Bundles"
            )
            raise self._unusable
        if failed.kind is Kind.ELSEWHERE:
            self._unusable = ConfigurationError(
                f"{self._server.base} stores resources under other ids than they are sent with: it must accept ids "
                "that the client assigns, and answer entries in their order (docs/delivery.md)"
            )
            raise self._unusable
        if failed.kind is Kind.CONFLICT:
            work.conflicts += 1
            if work.conflicts >= settings.deliver_conflicts:
                return work.refuse(CONFLICT, failed)
            return await asyncio.sleep(_jittered(settings.deliver_retry_first * 2 ** min(work.conflicts, 5)))
        if failed.kind is Kind.REFUSED:
            work.refusals += 1
            work.refused_since = work.refused_since or loop.time()
            patience = 0.0 if failed.explained or failed.status == 413 else settings.deliver_unexplained
            if work.refusals >= REFUSALS and loop.time() - work.refused_since >= patience:
                return work.refuse(TOO_LARGE if failed.status == 413 else REFUSED, failed)
            return await asyncio.sleep(_jittered(settings.deliver_retry_first * 2 ** min(work.refusals, 5)))
        work.failures += 1
        if work.failures in (1, 10) or work.failures % 100 == 0:
            reason = ",".join(failed.server_codes) or str(failed.status)
            log.warning("not delivered yet", reason=reason, attempts=work.failures)
        longest = min(settings.deliver_retry_longest, settings.deliver_retry_first * 2 ** min(work.failures, 20))
        await asyncio.sleep(max(failed.retry_after or 0.0, _jittered(longest)))


class _Attempts:
    """One transaction on its way: what is pending, what was added to it, and how often it failed in which way.

    What was added may make it larger than ``most`` entries: then the last ones wait for another request.
    """

    def __init__(
        self, pending: Iterable[Entry], own: Mapping[str, Entry], others: Mapping[str, Entry], most: int
    ) -> None:
        self.pending = {entry.key: entry for entry in pending}
        self._own = own
        self._others = others
        self._most = most
        self.added: dict[str, Entry] = {}
        self.looked_for: set[str] = set()
        self.delivered: list[Entry] = []
        self.refusal: Refusal | None = None
        self.conflicts = self.refusals = self.failures = 0
        self.refused_since: float | None = None

    def known(self, key: str) -> Entry | None:
        """Return the entry of a resource that the server misses; None where it is not known here."""
        return self._own.get(key) or self._others.get(key)

    def to_send(self) -> list[Entry]:
        """Return the entries of the next request, those that the server misses first."""
        return [*{**self.added, **self.pending}.values()][: self._most]

    def take(self, sent: Sequence[Entry], found: Sequence[Verdict]) -> Verdict | None:
        """Note the accepted entries. Return the verdict to act on for the rest, None if there is none."""
        failed: Verdict | None = None
        for entry, verdict in zip(sent, found, strict=True):
            if verdict.kind is Kind.ACCEPTED:
                self.delivered.append(entry)
                self.pending.pop(entry.key, None)
                self.added.pop(entry.key, None)
            elif failed is None or _ORDER.index(verdict.kind) < _ORDER.index(failed.kind):
                failed = verdict
        return failed

    def refuse(self, code: str, verdict: Verdict) -> None:
        self.refusal = Refusal(code, verdict, tuple(self.pending))


_ORDER = (
    Kind.ELSEWHERE,
    Kind.UNUSABLE,
    Kind.BUSY,
    Kind.FAILED,
    Kind.CONFLICT,
    Kind.REFUSED,
    Kind.ACCEPTED,
)
"""Which verdict is acted on where the entries of one request have several: what passes by itself comes first."""


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.5, 1.5)
