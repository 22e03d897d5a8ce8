"""The partition of a key, by Kafka's own rule: the Java client, librdkafka (``murmur2_random``) and kafka-python agree.

It is computed here because a resource's partition follows from its patient's key, not from its own (mapping.md §2).
"""

from functools import lru_cache

_SEED = 0x9747B28C
_MIX = 0x5BD1E995
_WORD = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """Compute Kafka's MurmurHash2 of the bytes, as an unsigned 32-bit number."""
    length = len(data)
    whole = length & ~3
    hashed = _SEED ^ length
    for at in range(0, whole, 4):
        word = int.from_bytes(data[at : at + 4], "little") * _MIX & _WORD
        word = (word ^ word >> 24) * _MIX & _WORD
        hashed = hashed * _MIX & _WORD ^ word
    if whole < length:
        hashed = (hashed ^ int.from_bytes(data[whole:], "little")) * _MIX & _WORD
    hashed = (hashed ^ hashed >> 13) * _MIX & _WORD
    return hashed ^ hashed >> 15


LONGEST_CACHED = 500
"""Length of the longest key whose partition stays cached behind its event: many longer ones would fill the memory."""


def partition_for(key: bytes | str, partitions: int) -> int:
    """Return the partition of a key (text as UTF-8), from 0 to ``partitions`` - 1. Cached because patients recur."""
    return (_short if len(key) <= LONGEST_CACHED else _long)(key, partitions)


def _partition(key: bytes | str, partitions: int) -> int:
    data = key.encode() if isinstance(key, str) else key
    return (murmur2(data) & 0x7FFFFFFF) % partitions


_short = lru_cache(maxsize=65_536)(_partition)
_long = lru_cache(maxsize=2)(_partition)
"""All records of an event have the patient's key, so that the last one is asked for a dozen times."""
