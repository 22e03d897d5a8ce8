"""Caches of a process hold no long text of an event: a few hundred such events would fill its memory."""

import copy
import gc
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import orjson
import pytest

from fhirline.config.settings import Settings
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.mappers.pipeline.normalize import InMemoryState
from fhirline.streams.kafka.records import ConsumerRecord
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.streams.step3_restore.erasure_list import Block, ErasureList, Hashing
from fhirline.streams.step4_normalize.map_event import map_event
from fhirline.streams.tables.instants import loaded_instant
from fhirline.topics import partition
from tests.support.bombs import TARGETS

LONG = 20_000
"""Characters of a long text."""

FEW = 16
"""Entries of a cache in which long texts do no harm."""

CACHE = type(lru_cache(maxsize=1)(len))


def caches() -> Iterator[Any]:
    """Yield the caches of all modules that are loaded, but for those of a few entries."""
    for name, module in sorted(sys.modules.items()):
        for value in vars(module).values() if name.startswith("fhirline.") else ():
            if isinstance(value, CACHE) and (value.cache_parameters()["maxsize"] or sys.maxsize) > FEW:
                yield value


def longest(cache: Any) -> int:
    """Return the length of the longest text among the arguments and results of a cache."""
    found, left = 0, gc.get_referents(cache)
    for value in left:
        if isinstance(value, str | bytes):
            found = max(found, len(value))
        elif isinstance(value, tuple | frozenset | dict):
            left.extend(value)
    return found


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the keys that lead to each leaf."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(item, (*above, key))
    else:
        yield above


def with_leaf(body: Any, place: tuple[Any, ...], leaf: Any) -> bytes:
    made = copy.deepcopy(body)
    inner = made
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = leaf
    return orjson.dumps(made)


@pytest.mark.parametrize("vendor", sorted(TARGETS))
def test_no_cache_holds_a_long_text_of_an_event(vendor: str) -> None:
    received = Instant.parse("2024-06-01T12:00:00Z")
    assert received is not None
    normalize = build_normalizer(Settings(_env_file=None))
    body = TARGETS[vendor].body
    mapped = 0
    for place in places(body):
        for leaf in (
            "x" * LONG,
            orjson.Fragment(b"1" * LONG),
            f"&#{'1' * LONG};",
            f"2024-01-01T00:00:00.{'1' * LONG}Z",
        ):
            raw = raw_record(vendor, "acme", with_leaf(body, place, leaf), received, None, 64)
            record = ConsumerRecord(raw.topic, 0, 0, 0, raw.key, raw.value, raw.headers)
            mapped += len(map_event(record, normalize, InMemoryState(), 6).records)
    assert mapped > len(body)
    assert {cache.__qualname__: longest(cache) for cache in caches() if longest(cache) > LONG // 2} == {}


def test_the_partition_of_a_long_key_is_computed_once_for_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []
    plain = partition.murmur2

    def counted(data: bytes) -> int:
        asked.append(data)
        return plain(data)

    monkeypatch.setattr(partition, "murmur2", counted)
    keys = [f"mediquo|acme|{number}{'p' * LONG}" for number in range(3)]
    for key in keys:
        assert len({partition.partition_for(key, 6) for _ in range(20)}) == 1
    assert asked == [key.encode() for key in keys]


def test_the_hash_of_a_long_key_is_not_kept() -> None:
    hashing = Hashing(b"s" * 32)
    erased = ErasureList(hashing)
    key = f"mediquo|acme|{'p' * LONG}"
    assert not erased.blocks_key(key)
    erased.apply([(hashing.digest(key).encode(), Block(hashing.check, "").encode())])
    assert erased.blocks_key(key)
    assert not erased.blocks_key(f"{key}2")
    assert longest(erased._recent) < LONG  # nothing shows it otherwise but the process's memory


def test_a_long_instant_is_read_and_not_kept() -> None:
    instant = f"2024-01-01T00:00:00.{'0' * LONG}Z"
    assert loaded_instant(instant) == instant
    assert all(longest(cache) < LONG for cache in caches() if cache.__module__ == loaded_instant.__module__)
