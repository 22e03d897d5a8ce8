"""Checks of the encryption of events (docs/encryption.md): its secrets, its keys, and what is kept in clear."""

from collections.abc import Iterator, Mapping
from contextlib import closing

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import PREFIX, Settings
from fhirline.streams.kafka.encryption.opener import is_sealed
from fhirline.streams.kafka.encryption.secrets import EncryptionSecrets, encryption
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.records import TopicPartition, from_confluent
from fhirline.streams.observe.terminal import counted
from fhirline.streams.operate.doctor.finding import Finding, ok, problem, several, unusable, warning
from fhirline.streams.operate.keys.data_keys import DataKeys
from fhirline.topics.declared import KEYS, declared

CHECK = "encryption"
LOOKED_AT = 20
"""Records that are looked at, at each end of a partition."""

_SETTING = f"{PREFIX}ENCRYPTION"
_RESTORE = f"restore it from its backup and add it to {_SETTING} (docs/operations.md, a key-encryption key is lost)"


def secrets(settings: Settings) -> Finding:
    """Check that the encryption secrets are set, and can be read."""
    try:
        found = encryption(settings)
    except ConfigurationError as error:
        return unusable(CHECK, str(error), "correct it; nothing that reads or writes events starts before")
    if found is None:
        return warning(
            CHECK,
            f"{_SETTING} is not set: events are kept in clear, and stay readable after `fhirline forget`",
            "`fhirline keys new` makes the secrets; docs/encryption.md has the steps",
        )
    return ok(
        CHECK, f"new data keys are wrapped by {found.current}; {counted(len(found.keks), 'key-encryption key')} in all"
    )


def at_the_cluster(settings: Settings, online: bool) -> Iterator[Finding]:
    """Check the topic of the keys, and which events are kept in clear. ``online``: also every key that it holds.

    Raises KafkaAccessError, and ConfigurationError where the secrets cannot be read.
    """
    found = encryption(settings)
    with LogScanner(settings) as scanner:
        partitions = scanner.partitions(KEYS)
        raw = scanner.topic_partitions(topic.name for topic in declared(settings) if topic.name.startswith("raw."))
        first = {partition: scanner.first(*partition) for partition in raw}
        last = {partition: scanner.reported_end(partition) for partition in raw}
        newest = _sealed(
            scanner, {partition: max(first[partition], end - LOOKED_AT) for partition, end in last.items()}
        )
        oldest = _sealed(scanner, first, {partition: offset + LOOKED_AT for partition, offset in first.items()})
    if found is None:
        if sealed := sorted(topic for topic in newest if any((*newest[topic], *oldest.get(topic, ())))):
            yield problem(
                CHECK,
                f"{several(sealed)}: events are encrypted, and {_SETTING} is not set: nothing can read them",
                "set it to the deployment's secrets",
            )
        return
    if not partitions:
        yield problem(CHECK, f"topic {KEYS} is missing: no event is accepted", "run `fhirline topics apply`")
        return
    yield from _in_clear(newest, oldest)
    if online:
        yield from keys(settings, found)


def keys(settings: Settings, found: EncryptionSecrets) -> Iterator[Finding]:
    """Check that every living data key can be unwrapped with the key-encryption keys that are set."""
    with closing(DataKeys(settings, found)) as data_keys:
        counts = data_keys.count()
    lost = counts.not_opened(found)
    for kek in lost:
        what = "is set with another value" if kek in found.keks else "is not set"
        yield problem(
            CHECK,
            f"{counted(counts.living[kek], 'data key')} of {KEYS} cannot be unwrapped: key-encryption key {kek} {what}",
            _RESTORE,
        )
    if not lost:
        listed = ", ".join(f"{kek} wraps {count:,}" for kek, count in sorted(counts.living.items())) or "none yet"
        yield ok(CHECK, f"data keys: {listed}; destroyed: {counts.destroyed:,}; erased patients: {counts.erased:,}")


def _sealed(
    scanner: LogScanner, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int] | None = None
) -> dict[str, list[bool]]:
    """Return for each topic whether its records in a range are encrypted, one value per record."""
    found: dict[str, list[bool]] = {}
    for message in scanner.stored(starts, ends):
        found.setdefault(message.topic() or "", []).append(is_sealed(from_confluent(message)))
    return found


def _in_clear(newest: Mapping[str, list[bool]], oldest: Mapping[str, list[bool]]) -> Iterator[Finding]:
    """Report topics with plain events. Those of other producers are plain, too, and stay so."""
    now = [f"{topic} {sealed.count(False)} of {len(sealed)}" for topic, sealed in newest.items() if not all(sealed)]
    before = [topic for topic, sealed in oldest.items() if not all(sealed)]
    if now:
        yield warning(
            CHECK,
            f"newest events in clear: {several(now)}",
            f"give {_SETTING} to every gateway, ingest and enrich that lacks it; what came before is for `fhirline "
            "keys encrypt-existing`; events of other producers stay in clear",
        )
    if before:
        yield warning(
            CHECK,
            f"oldest events in clear: {several(before)}",
            "`fhirline keys encrypt-existing` encrypts what is kept already",
        )
    if not now and not before:
        yield ok(CHECK, "the newest and the oldest events are encrypted" if newest else "no event is kept yet")
