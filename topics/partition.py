"""Which partition a key belongs to: Kafka's own rule, so that every client of any language agrees.

librdkafka (``murmur2_random``), the Java client and kafka-python compute the same from a record's key. We need it where
a record's partition is not its own key's: a resource lies where its patient's key says (mapping.md §2). Never Python's
``hash()``: it differs from process to process.
"""

from functools import lru_cache

_SEED = 0x9747B28C
_MIX = 0x5BD1E995
_WORD = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """MurmurHash2 of Kafka, 32 bits, unsigned."""
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


@lru_cache(maxsize=65_536)
def partition_for(key: bytes | str, partitions: int) -> int:
    """The partition of ``key`` among ``partitions``; text counts as its UTF-8 bytes. Cached: patients come again."""
    data = key.encode() if isinstance(key, str) else key
    return (murmur2(data) & 0x7FFFFFFF) % partitions
