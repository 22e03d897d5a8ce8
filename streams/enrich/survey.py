"""Completing one thin event: the requests, their retries, and the enriched event. Uses HTTP, no Kafka."""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import quote

import orjson

from fhirline.config.errors import FhirlineError
from fhirline.config.settings import Settings
from fhirline.mappers.infermedica.payload import SurveyFinished
from fhirline.mappers.pipeline.body import MAX_DEPTH, ReadBody, UnreadableBody
from fhirline.mappers.pipeline.envelope import Envelope
from fhirline.streams.enrich.infermedica.client import CallFailed, Client
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.topics.declared import enriched_topic

RESULTS = ("summary", "evidence_assessment")
"""The two GET calls of a survey. Each name is also the key of its answer in the enriched event."""

LONGEST_ID = 200


class Abandoned(FhirlineError):
    """The process ends; the survey stays uncommitted and is fetched after the restart."""


class NotEnriched(FhirlineError):
    """A survey cannot be completed. ``code``: the reason. ``pointer``: the part that is missing."""

    def __init__(self, pointer: str, code: str) -> None:
        super().__init__(code)
        self.pointer = pointer
        self.code = code


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The waits between attempts. The total time is limited, not their number, since a 429 may ask for any wait."""

    first: float
    longest: float
    give_up_after: float

    def wait(self, attempt: int, retry_after: float | None, waited: float) -> float | None:
        """Return the seconds until the next attempt (``attempt`` 0 was the first); None where it would be too late.

        The wait doubles each time. Half of it is random, so that surveys that failed together do not retry together.
        """
        backoff = min(self.longest, self.first * 2.0 ** min(attempt, 32))
        wait = backoff * random.uniform(0.5, 1.0)  # spreads load; not a secret
        if retry_after is not None:
            wait = max(wait, retry_after + min(wait, self.first))
        return wait if waited + wait <= self.give_up_after else None


class Fetcher:
    """Fetches results from one instance. A survey that waits for a retry occupies no request slot."""

    def __init__(self, client: Client, settings: Settings, stopping: asyncio.Event) -> None:
        self._client = client
        self._requests = asyncio.Semaphore(settings.enrich_requests)
        self._retries = RetryPolicy(
            settings.enrich_retry_first, settings.enrich_retry_longest, settings.enrich_give_up_after
        )
        self._stopping = stopping

    async def results(self, survey_id: str) -> dict[str, ReadBody]:
        """Fetch both results of a survey. Raises NotEnriched or Abandoned."""
        started = asyncio.get_running_loop().time()
        return {name: await self._result(survey_id, name, started) for name in RESULTS}

    async def _result(self, survey_id: str, name: str, started: float) -> ReadBody:
        path = result_path(survey_id, name)
        loop = asyncio.get_running_loop()
        attempt = 0
        while True:
            try:
                async with self._requests:
                    if self._stopping.is_set():
                        raise Abandoned
                    return await self._client.fetch(path)
            except CallFailed as failed:
                failure = failed
            if not failure.temporary:
                raise NotEnriched(f"/{name}", failure.code)
            wait = self._retries.wait(attempt, failure.retry_after, loop.time() - started)
            if wait is None:
                raise NotEnriched(f"/{name}", failure.code)
            await self._pause(wait)
            attempt += 1

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return
        raise Abandoned


def result_path(survey_id: str, name: str) -> str:
    """Return the path of a result. The id comes from outside, and is quoted as one segment."""
    if len(survey_id) > LONGEST_ID or survey_id in (".", ".."):
        raise NotEnriched("/content/survey_id", "no-survey-id")
    return f"/api/v2/surveys/{quote(survey_id, safe='')}/{name}"


def thin_survey(envelope: Envelope) -> str | None:
    """Return the id of the survey to fetch; None where there is nothing to fetch.

    That is so for other event types, for a missing id, and for an event that already contains its results, which the
    worker maps as it is.
    """
    if envelope.body.get("event_type") != "survey_finished":
        return None
    event = SurveyFinished.model_validate(envelope.body)
    if event.survey is None or event.summarized or event.assessed:
        return None
    return event.survey[1]


def enriched_record(envelope: Envelope, survey_id: str, results: Mapping[str, ReadBody]) -> ProducerRecord:
    """Build the enriched event's raw record, with the thin event's time of receipt. Raises NotEnriched.

    It is redacted as a whole, and has the flags of how the thin event and the answers were read.
    """
    sent = envelope.body.get("content")
    content = sent if isinstance(sent, dict) else {}
    body = {
        "event_type": envelope.body["event_type"],
        "content": {**content, "survey_id": content.get("survey_id") or survey_id},
        **{name: results[name].body for name in RESULTS},
    }
    flags = {*envelope.flags, *(flag for name in RESULTS for flag in results[name].flags)}
    try:
        record = raw_record(
            envelope.vendor, envelope.tenant, orjson.dumps(body), envelope.received_at, None, MAX_DEPTH, flags
        )
    except (UnreadableBody, orjson.JSONEncodeError):
        raise NotEnriched("", "too-deep") from None
    return replace(record, topic=enriched_topic(envelope.vendor))
