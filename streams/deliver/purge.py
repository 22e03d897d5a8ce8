"""Purge the histories of an erased patient's resources at the server, after their DELETE (fhir-delivery.md §7).

The invariant: **a resource counts as purged only after the server no longer shows its history**, or where it shows none
to us, after it has accepted the purge. A server that does not answer is waited for; a refusal is recorded, so that
`fhirline forget` can say what it keeps.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import orjson
import structlog

from fhirline.config.settings import Settings
from fhirline.streams.deliver.fhir_client import Answer, FhirServer, ServerUnavailable
from fhirline.streams.deliver.limiter import Limiter
from fhirline.streams.deliver.metrics import DeliverMetrics
from fhirline.streams.deliver.purge_outcomes import KEPT, NO_WAY, OFF, PURGED, SUBMITTED, outcome_of, refused
from fhirline.streams.deliver.sending import DeliveryAbandoned

log = structlog.get_logger("deliver")

PASSING = frozenset({408, 425, 429, 502, 503, 504})
"""Statuses that say nothing of the purge: repeated without end."""

AGAIN = frozenset({409, 412, 423})
"""Conflicts: repeated as often as those of a Bundle."""

GONE = frozenset({404, 410})


class Purge:
    """Purges resources, one request at a time."""

    def __init__(self, settings: Settings, server: FhirServer, limiter: Limiter, metrics: DeliverMetrics) -> None:
        self._settings = settings
        self._server = server
        self._limiter = limiter
        self._metrics = metrics

    async def history(self, key: str, abandoned: Callable[[], bool]) -> str:
        """Purge a deleted resource, ``Type/id``, and return what became of its history, as `history` names it.

        Raises DeliveryAbandoned, or ConfigurationError where the server takes nothing from us.
        """
        outcome = await self._outcome(key, abandoned)
        self._metrics.purges[outcome_of(outcome)].inc()
        return outcome

    async def _outcome(self, key: str, abandoned: Callable[[], bool]) -> str:
        way = self._server.profile.purge
        if way is None:
            return NO_WAY
        if not self._settings.fhir_purge:
            return OFF
        body = None if way.body is None else orjson.dumps(dict(way.body))
        answer = await self._answer(way.method, way.path.replace("{key}", key), body, abandoned)
        if answer.status // 100 != 2 and answer.status not in GONE:
            return refused(answer.status)
        if way.background and answer.status not in GONE:
            return SUBMITTED
        shown = await self._answer("GET", f"{key}/_history", None, abandoned)
        if shown.status == 200 and (not _is(shown.body, "Bundle") or _has_content(shown.body)):
            return KEPT
        seen = shown.status == 200 or (shown.status in GONE and _is(shown.body, "OperationOutcome"))
        return PURGED if seen or answer.status not in GONE else refused(answer.status)

    async def _answer(self, method: str, path: str, body: bytes | None, abandoned: Callable[[], bool]) -> Answer:
        """Send a request until its answer means something."""
        settings, passed, failed = self._settings, 0, 0
        while True:
            if abandoned():
                raise DeliveryAbandoned
            answer: Answer | None = None
            async with self._limiter.slot():
                try:
                    answer = await self._server.request(method, path, body, forbidden_ends=False)
                    self._metrics.request(str(answer.status), answer.seconds)
                except ServerUnavailable as error:
                    self._metrics.request(str(error))
            if answer is None or answer.status in PASSING:
                passed += 1
                if passed in (1, 10) or passed % 100 == 0:
                    reason = "no answer" if answer is None else str(answer.status)
                    log.warning("not purged yet", reason=reason, attempts=passed)
                wait = min(settings.deliver_retry_longest, settings.deliver_retry_first * 2 ** min(passed, 20))
                retry_after = answer.retry_after if answer is not None else None
                await asyncio.sleep(max(retry_after or 0.0, wait * random.uniform(0.5, 1.5)))
                continue
            failed += 1
            if not (answer.status in AGAIN or answer.status >= 500) or failed >= settings.deliver_conflicts:
                return answer
            await asyncio.sleep(settings.deliver_retry_first * 2 ** min(failed, 5) * random.uniform(0.5, 1.5))


def _has_content(body: Any) -> bool:
    """Tell whether a history holds a version of a resource; the mark of a deletion has no content."""
    entries = body.get("entry") if isinstance(body, dict) else None
    if not isinstance(entries, list):
        return entries is not None
    return any(isinstance(entry, dict) and "resource" in entry for entry in entries)


def _is(body: Any, type: str) -> bool:
    """Tell whether an answer is a resource of a type; a proxy's page is none."""
    return isinstance(body, dict) and body.get("resourceType") == type
