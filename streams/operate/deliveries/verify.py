"""Comparing everything that a FHIR server should have with what it has (fhir-delivery.md §9).

Each resource is read by its id. Then the server is searched for resources that bear our tag and that the topics do not
hold. Nothing is changed, neither there nor in Kafka.
"""

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar
from urllib.parse import urlencode

import orjson

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.config.vendors import load_vendors
from fhirline.streams.deliver.at_once import for_all
from fhirline.streams.deliver.auth import authorization
from fhirline.streams.deliver.fhir_client import Answer, FhirServer, ServerUnavailable
from fhirline.streams.deliver.fill.snapshot import Held, Snapshot
from fhirline.streams.deliver.limiter import Limiter
from fhirline.streams.deliver.state import DeliveredPartition, decode_sent
from fhirline.streams.kafka.reader import Progress, Scanner
from fhirline.streams.kafka.records import partition_of
from fhirline.streams.operate.deliveries.compare import same
from fhirline.topics.declared import DELIVERED, DELIVERED_SHARED, RESOURCE_TYPES

Item = TypeVar("Item")

_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")

ATTEMPTS = 6
FIRST_PAUSE = 0.5
PAGE = 500
"""Ids on a page of a search."""


class Kind(StrEnum):
    """A difference between a resource at the server and the topics."""

    MISSING = "missing"
    OLDER = "older"
    """The server has another value, and the current one was not sent yet."""
    DIFFERENT = "different"
    """The server has another value, although the current one was sent: somebody else changed it, or set it back."""
    NOT_DELETED = "not-deleted"
    FOREIGN = "foreign"
    """The server has a resource with our tag that the topics do not hold."""


@dataclass(slots=True)
class Verification:
    """The result of a comparison.

    ``waiting``: keys of ``found`` that wait for an operator. ``unsearched``: resource type → why the server was not
    searched for foreign ones.
    """

    checked: int = 0
    equal: int = 0
    found: dict[Kind, list[str]] = field(default_factory=lambda: {kind: [] for kind in Kind})
    waiting: set[str] = field(default_factory=set)
    unsearched: dict[str, str] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        return not any(self.found.values())


async def verify(settings: Settings, foreign: bool, read: Progress, show: Callable[[int, int], None]) -> Verification:
    """Compare the FHIR server's resources with those on the topics.

    ``foreign``: also search the server for resources that no topic has. Raises ConfigurationError, also where the
    server gives no answer.
    """
    result = Verification()
    with Snapshot(settings) as snapshot:
        await asyncio.to_thread(snapshot.read, read)
        sent, waiting = await asyncio.to_thread(_state, settings)
        total = len(snapshot)
        async with FhirServer(settings, authorization(settings)) as server:
            reader = _ServerReader(server, Limiter(settings.deliver_requests))

            async def check(found: tuple[Held, bytes | None]) -> None:
                held, value = found
                kind = await _compare(reader, held, value, sent.get(held.key))
                result.checked += 1
                if kind is None:
                    result.equal += 1
                else:
                    result.found[kind].append(held.key)
                show(result.checked, total)

            await for_all(snapshot.values_held(), check, settings.deliver_requests)
            if foreign:
                for kind in RESOURCE_TYPES:
                    await _search(reader, settings, kind, snapshot, result)
    for keys in result.found.values():
        keys.sort()
    result.waiting = {key for keys in result.found.values() for key in keys} & waiting
    return result


async def _compare(reader: "_ServerReader", held: Held, value: bytes | None, sent: str | None) -> Kind | None:
    answer = await reader.get(held.key)
    if answer.status in (404, 410):
        return None if value is None else Kind.MISSING
    if answer.status != 200 or not isinstance(answer.body, dict):
        raise ConfigurationError(
            f"{reader.server.base} answers {answer.status} to a read of {held.key.partition('/')[0]}, without a "
            "resource: check that it is a FHIR R4 server's base URL, and that it stores this type"
        )
    if value is None:
        return Kind.NOT_DELETED
    if same(orjson.loads(value), answer.body):
        return None
    return Kind.DIFFERENT if sent == held.digest else Kind.OLDER


async def _search(
    reader: "_ServerReader", settings: Settings, kind: str, snapshot: Snapshot, result: Verification
) -> None:
    """Find the resources of a type that bear the tag of one of our vendors, and that the topics do not hold."""
    system = f"{settings.base}/CodeSystem/vendor"
    tags = ",".join(f"{system}|{vendor}" for vendor in load_vendors(settings.vendors_file).names)
    path: str | None = f"{kind}?{urlencode({'_tag': tags, '_elements': 'id', '_count': PAGE})}"
    seen: set[str] = set()
    while path is not None:
        seen.add(path)
        answer = await reader.get(path)
        if answer.status != 200 or not isinstance(answer.body, dict):
            result.unsearched[kind] = f"status {answer.status}"
            return
        for key in _keys(answer.body, kind):
            # a server may answer from a search that it remembers
            if snapshot.held(key) is None and (await reader.get(key)).status == 200:
                result.found[Kind.FOREIGN].append(key)
        following = _next(answer.body)
        if following is not None and not following.startswith(reader.server.base):
            result.unsearched[kind] = "its next page is at another address"
            return
        path = None if following is None else following.removeprefix(reader.server.base).removeprefix("/")
        if path in seen:
            result.unsearched[kind] = "its next page is one that was read before"
            return


def _keys(page: Mapping[str, Any], kind: str) -> Iterator[str]:
    """Yield the keys of a page's resources of a type. A page may also contain an OperationOutcome."""
    entries = page.get("entry")
    for entry in entries if isinstance(entries, list) else []:
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if not isinstance(resource, dict) or resource.get("resourceType") != kind:
            continue
        if isinstance(id := resource.get("id"), str) and _ID.fullmatch(id):
            yield f"{kind}/{id}"


def _next(page: Mapping[str, Any]) -> str | None:
    links = page.get("link")
    found = [link for link in links if isinstance(link, dict)] if isinstance(links, list) else []
    return next(
        (url for item in found if item.get("relation") == "next" and isinstance(url := item.get("url"), str)), None
    )


class _ServerReader:
    """Reads from the server, as many requests at once as ``limiter`` allows. Raises ConfigurationError."""

    def __init__(self, server: FhirServer, limiter: Limiter) -> None:
        self.server = server
        self._limiter = limiter

    async def get(self, path: str) -> Answer:
        reason = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(FIRST_PAUSE * 2**attempt)
            async with self._limiter.slot():
                try:
                    answer = await self.server.request("GET", path)
                except ServerUnavailable as error:
                    self._limiter.struggles()
                    reason = str(error)
                    continue
                if answer.status < 500 and answer.status != 429:
                    self._limiter.answered(answer.seconds)
                    return answer
                self._limiter.struggles(answer.retry_after or 0.0)
                reason = f"status {answer.status}"
        raise ConfigurationError(f"{self.server.base} does not answer reads ({reason}): try again once it does")


def _state(settings: Settings) -> tuple[dict[str, str], set[str]]:
    """Read what was sent, as ``Type/id`` → digest, and the keys of what waits. Raises KafkaAccessError."""
    sent: dict[str, str] = {}
    with Scanner(settings) as scanner:
        partitions = scanner.topic_partitions((DELIVERED, DELIVERED_SHARED))
        states = {partition: DeliveredPartition(partition.partition) for partition in partitions}
        for message in scanner.read(dict.fromkeys(partitions)):
            partition, key, value = partition_of(message), message.key() or b"", message.value()
            if partition.topic == DELIVERED:
                states[partition].apply(key, value)
            elif value is not None:
                sent[key.decode()] = decode_sent(value).digest
    for state in states.values():
        sent.update((key, known.digest) for key, known in state.sent.items())
    waiting = {key for state in states.values() for item in state.waiting.values() for key in item.keys}
    return sent, waiting
