"""One thin event, completed: what is asked for, how often, and what becomes of it. Knows HTTP, no Kafka."""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import orjson

from fhirline.config.errors import FhirlineError
from fhirline.config.settings import Settings
from fhirline.mappers.infermedica.payload import SurveyFinished
from fhirline.mappers.pipeline.envelope import MAX_DEPTH, Body, Envelope, UnreadableBody
from fhirline.streams.enrich.infermedica.client import CallFailed, Client
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.topics.declared import enriched_topic

RESULTS = ("summary", "evidence_assessment")
"""The two GET calls of a survey; each is also the key of its answer in the enriched event."""

LONGEST_ID = 200


class Abandoned(FhirlineError):
    """The process is to end: the survey stays uncommitted and is fetched after the restart."""


class NotEnriched(FhirlineError):
    """A survey that could not be completed: ``code`` says why, ``pointer`` which part is missing."""

    def __init__(self, pointer: str, code: str) -> None:
        super().__init__(code)
        self.pointer = pointer
        self.code = code


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a survey is tried, and how often: bounded by time, since a 429 may ask for any wait."""

    first: float
    longest: float
    give_up_after: float

    def wait(self, attempt: int, retry_after: float | None, waited: float) -> float | None:
        """Seconds until the next attempt (``attempt`` 0 was the first); None where it would be too late.

        Doubles, half of it by chance, so that surveys that failed together do not come again together.
        """
        backoff = min(self.longest, self.first * 2.0 ** min(attempt, 32))
        wait = backoff * random.uniform(0.5, 1.0)  # spreads load, guards nothing
        if retry_after is not None:
            wait = max(wait, retry_after + min(wait, self.first))
        return wait if waited + wait <= self.give_up_after else None


class Fetcher:
    """Fetches surveys' results from one instance. Who waits for a retry holds none of the requests at once."""

    def __init__(self, client: Client, settings: Settings, stopping: asyncio.Event) -> None:
        self._client = client
        self._requests = asyncio.Semaphore(settings.enrich_requests)
        self._patience = Patience(
            settings.enrich_retry_first, settings.enrich_retry_longest, settings.enrich_give_up_after
        )
        self._stopping = stopping

    async def results(self, survey_id: str) -> dict[str, Body]:
        """Both results of a survey; raises NotEnriched or Abandoned."""
        started = asyncio.get_running_loop().time()
        return {name: await self._result(survey_id, name, started) for name in RESULTS}

    async def _result(self, survey_id: str, name: str, started: float) -> Body:
        path = result_path(survey_id, name)
        loop = asyncio.get_running_loop()
        attempt = 0
        while True:
            try:
                async with self._requests:
                    if self._stopping.is_set():
                        raise Abandoned
                    answer = await self._client.call("GET", path)
                if isinstance(answer, dict):
                    return answer
                failure = CallFailed("not-an-object", temporary=True)
            except CallFailed as failed:
                failure = failed
            if not failure.temporary:
                raise NotEnriched(f"/{name}", failure.code)
            wait = self._patience.wait(attempt, failure.retry_after, loop.time() - started)
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
    """The path of a result; the id, which came from outside, is one segment whatever it holds."""
    if len(survey_id) > LONGEST_ID or survey_id in (".", ".."):
        raise NotEnriched("/content/survey_id", "no-survey-id")
    return f"/api/v2/surveys/{quote(survey_id, safe='')}/{name}"


def thin_survey(envelope: Envelope) -> str | None:
    """The id of the survey that is to be fetched; None where there is nothing to fetch: no finished survey, no id, or
    an event that holds its results already, which the worker maps as it is."""
    if envelope.body.get("event_type") != "survey_finished":
        return None
    event = SurveyFinished.model_validate(envelope.body)
    if event.survey is None or event.summarized or event.assessed:
        return None
    return event.survey[1]


def enriched_record(envelope: Envelope, survey_id: str, results: Mapping[str, Any]) -> ProducerRecord:
    """The enriched event: received when its thin event was, under its patient's key. Raises NotEnriched."""
    sent = envelope.body.get("content")
    content = sent if isinstance(sent, dict) else {}
    body = {
        "event_type": envelope.body["event_type"],
        "content": {**content, "survey_id": content.get("survey_id") or survey_id},
        **{name: results[name] for name in RESULTS},
    }
    try:
        record = raw_record(envelope.vendor, envelope.tenant, orjson.dumps(body), envelope.received_at, None, MAX_DEPTH)
    except (UnreadableBody, orjson.JSONEncodeError):
        raise NotEnriched("", "too-deep") from None
    return replace(record, topic=enriched_topic(envelope.vendor))
