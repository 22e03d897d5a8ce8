"""The newest value of each key of all ``fhir.r4.<Type>`` topics, in a temporary file (fhir-delivery.md §8).

The topics hold more than fits into memory, and what belongs together is spread over as many topics as there are types.
So the values go into a database of SQLite that has no name: the file is deleted as soon as it is open, and is gone with
the process, however that ends. It lies where SQLite puts temporary files: ``SQLITE_TMPDIR``, ``TMPDIR``, ``/var/tmp``.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from types import TracebackType
from typing import Any, Self

import orjson

from fhirline.config.settings import Settings
from fhirline.streams.deliver.canonical import resource_of
from fhirline.streams.deliver.entries import DELETED, PATIENT, SHARED_TYPES, Entry, digest_of, patients_of, references
from fhirline.streams.kafka.headers import EVENT_TYPE, header
from fhirline.streams.kafka.reader import Progress, Scanner
from fhirline.streams.kafka.records import headers_of, partition_of, timestamp_ms
from fhirline.streams.step3_restore.erasure_list import ERASURE
from fhirline.topics.declared import RESOURCE_TYPES, canonical_topic

PLACES = {kind: place for place, kind in enumerate(RESOURCE_TYPES)}
"""Types in the order in which a server takes them: what is referred to first."""

ROWS = 2_000
"""Records that are inserted at once."""

_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -65536;
CREATE TABLE resource (
    key TEXT PRIMARY KEY, place INTEGER, partition INTEGER, owner TEXT, digest TEXT, at INTEGER, value BLOB,
    erased INTEGER
);
"""
_UPSERT = """
INSERT INTO resource VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET
    partition = excluded.partition, owner = excluded.owner, digest = excluded.digest, at = excluded.at,
    value = excluded.value, erased = excluded.erased
WHERE excluded.partition = resource.partition OR (excluded.owner IS NOT NULL, excluded.at, excluded.partition)
    > (resource.owner IS NOT NULL, resource.at, resource.partition)
"""
"""A key is on two partitions only where an event did not say whose it is. What names a patient counts, then time."""


@dataclass(frozen=True, slots=True)
class Held:
    """A resource as the topics hold it, without its value. ``erased``: an erasure has deleted it."""

    key: str
    partition: int
    digest: str
    erased: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Resources that are sent together: ``owner`` is their patient, or None where they belong to none."""

    partition: int
    owner: str | None
    held: tuple[Held, ...]


class Snapshot(Mapping[str, Entry]):
    """A mapping of ``Type/id`` to the newest value. Use as a context manager, `read` first, from one thread at a time.

    ``settings.server_base`` is the base of each entry's URL, as in Bundles.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._base = settings.server_base or settings.base
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.executescript(_SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._database.close()

    def read(self, progress: Progress | None = None) -> None:
        """Read the topics to their ends. Blocking. Raises KafkaAccessError."""
        rows: list[tuple[object, ...]] = []
        with Scanner(self._settings, progress) as scanner:
            places = scanner.topic_partitions(map(canonical_topic, RESOURCE_TYPES))
            for message in scanner.read(dict.fromkeys(places)):
                key, value = resource_of(message), message.value()
                if key is not None:
                    kind = key.partition("/")[0]
                    number = partition_of(message).partition
                    digest = DELETED if value is None else digest_of(value)
                    owner = _owner(key, kind, value)
                    erased = value is None and header(headers_of(message), EVENT_TYPE) == ERASURE
                    rows.append((key, PLACES[kind], number, owner, digest, timestamp_ms(message), value, erased))
                if len(rows) >= ROWS:
                    self._insert(rows)
        self._insert(rows)
        self._database.execute("CREATE INDEX sending ON resource (partition, owner, place, key)")
        self._adopt()

    def _insert(self, rows: list[tuple[object, ...]]) -> None:
        self._database.execute("BEGIN")
        self._database.executemany(_UPSERT, rows)
        self._database.execute("COMMIT")
        rows.clear()

    def _adopt(self) -> None:
        """Give a Provenance that names no patient to the patient of what it names; place Slots beside theirs.

        A Slot's topic has the partition of its own key, its Bundle that of the professional, as the Provenance has it.
        """
        provenances = self._database.execute(
            "SELECT key, partition, value FROM resource WHERE place = ? AND owner IS NULL AND value IS NOT NULL",
            (PLACES["Provenance"],),
        ).fetchall()
        for key, partition, value in provenances:
            named = references([Entry(key, orjson.loads(value), "")])
            owners = sorted({row[0] for item in named if (row := self._row("owner", item)) and row[0]})
            if owners:
                self._database.execute("UPDATE resource SET owner = ? WHERE key = ?", (owners[0], key))
            else:
                slots = [(partition, item) for item in named if item.startswith("Slot/")]
                self._database.executemany("UPDATE resource SET partition = ? WHERE key = ?", slots)

    def __len__(self) -> int:
        return int(self._database.execute("SELECT count(*) FROM resource").fetchone()[0])

    def __iter__(self) -> Iterator[str]:
        return (key for (key,) in self._database.execute("SELECT key FROM resource ORDER BY place, key"))

    def __getitem__(self, key: str) -> Entry:
        if (row := self._row("value", key)) is None:
            raise KeyError(key)
        return Entry.of_value(key, row[0], self._base)

    def held(self, key: str) -> Held | None:
        """Return what the topics hold of a key; None where they have no record of it."""
        row = self._row("key, partition, digest", key)
        return None if row is None else Held(*row)

    def values_held(self) -> Iterator[tuple[Held, bytes | None]]:
        """Return every key with its value, None for a tombstone."""
        rows = self._database.execute("SELECT key, partition, digest, value FROM resource")
        return ((Held(key, partition, digest), value) for key, partition, digest, value in rows)

    def groups(self) -> Iterator[Group]:
        """Return the resources that one patient, or nobody, owns, in the order in which a server takes them.

        Without resources of shared types, and without tombstones.
        """
        rows = self._database.execute(
            f"SELECT partition, owner, key, digest FROM resource WHERE digest != ? AND {_OWN} "
            "ORDER BY partition, owner, place, key",
            (DELETED,),
        )
        for (partition, owner), members in groupby(rows, key=lambda row: (row[0], row[1])):
            yield Group(partition, owner, tuple(Held(key, partition, digest) for _, _, key, digest in members))

    def tombstones(self) -> list[Held]:
        """Return the keys that were deleted, those that may refer to others first. Without shared types."""
        rows = self._database.execute(
            f"SELECT key, partition, digest, erased FROM resource WHERE digest = ? AND {_OWN} "
            "ORDER BY partition, place DESC, key",
            (DELETED,),
        )
        return [Held(key, partition, digest, bool(erased)) for key, partition, digest, erased in rows]

    def _row(self, columns: str, key: str) -> tuple[Any, ...] | None:
        found: tuple[Any, ...] | None = self._database.execute(
            f"SELECT {columns} FROM resource WHERE key = ?", (key,)
        ).fetchone()
        return found


_OWN = f"place NOT IN ({', '.join(str(PLACES[kind]) for kind in sorted(SHARED_TYPES))})"


def _owner(key: str, kind: str, value: bytes | None) -> str | None:
    if value is None or kind in SHARED_TYPES:
        return None
    owners = patients_of([Entry(key, orjson.loads(value), "")])
    return min((owner for owner in owners if owner.startswith(PATIENT)), default=None)
