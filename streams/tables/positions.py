"""The positions up to which the tables have been kept, in the same database as the tables.

The invariant: **rows and positions move in one transaction**. What the tables hold is what the topics held up to the
positions, in whatever moment a process is killed. Kafka's committed offsets play no part.

A position moves only from the value that this process knows (compare-and-set). Two processes that have read the same
partition can therefore not both commit: the positions are moved first in a transaction, so that the later process waits
for the earlier one's transaction, finds other positions, and has touched no table yet.

``complete_at`` is when the partition had last been read to its end, and all of it been committed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from fhirline.streams.kafka.records import TopicPartition
from fhirline.streams.tables.store import PositionsMoved, Store

POSITIONS = "_positions"


@dataclass(frozen=True, slots=True)
class Move:
    """A move of a position. ``old`` None: the partition has none so far."""

    old: int | None
    new: int


def create_positions(store: Store) -> None:
    store.run(
        f"create table {store.of(POSITIONS)} (topic {store.types['text']} not null, partition integer not null, "
        f"next bigint not null, topic_id {store.types['text']} not null, complete_at timestamptz not null, "
        "primary key (topic, partition))"
    )
    store.run(f"comment on table {store.of(POSITIONS)} is 'The next offset to be read of each partition; internal'")


def read_positions(store: Store) -> dict[TopicPartition, int]:
    found = store.rows(f"select topic, partition, next from {store.of(POSITIONS)}")
    return {TopicPartition(topic, partition): offset for topic, partition, offset in found}


def topic_ids(store: Store) -> dict[str, str]:
    """Return the id that each topic had when its positions were written; empty for clusters without such ids."""
    return dict(store.rows(f"select distinct topic, topic_id from {store.of(POSITIONS)}"))


def move(store: Store, moves: Mapping[TopicPartition, Move], ids: Mapping[str, str]) -> None:
    """Move positions within a transaction. Raises PositionsMoved where one is not what this process knows."""
    text = store.types["text"]
    ordered = sorted(moves.items())
    new = [(partition, to) for partition, to in ordered if to.old is None]
    moved = [(partition, to) for partition, to in ordered if to.old is not None]
    changed = 0
    for partition, to in new:
        changed += store.run(
            f"insert into {store.of(POSITIONS)} values (?, ?, ?, ?, now()) on conflict do nothing",
            [*partition, to.new, ids.get(partition.topic, "")],
        )
    if moved:
        changed += store.run(
            f"update {store.of(POSITIONS)} as p set next = m.new_next from (select "
            f"unnest(cast(? as {text}[])) as topic, unnest(cast(? as integer[])) as part, "
            "unnest(cast(? as bigint[])) as old_next, unnest(cast(? as bigint[])) as new_next) m "
            "where p.topic = m.topic and p.partition = m.part and p.next = m.old_next",
            [
                [partition.topic for partition, _ in moved],
                [partition.partition for partition, _ in moved],
                [to.old for _, to in moved],
                [to.new for _, to in moved],
            ],
        )
    if changed != len(moves):
        raise PositionsMoved(
            f"{store.name}: another process has moved the positions of schema {store.schema}. Nothing was written; end "
            "the other one, or this one"
        )


def note_read_to_end(store: Store, positions: Mapping[TopicPartition, int], at: Mapping[TopicPartition, float]) -> None:
    """Note when partitions were last read to their ends. One whose position another process has moved is left out."""
    text = store.types["text"]
    known = [
        (partition, positions[partition], _moment(moment)) for partition, moment in at.items() if partition in positions
    ]
    store.run(
        f"update {store.of(POSITIONS)} as p set complete_at = cast(m.at as timestamptz) from (select "
        f"unnest(cast(? as {text}[])) as topic, unnest(cast(? as integer[])) as part, "
        f"unnest(cast(? as bigint[])) as known, unnest(cast(? as {text}[])) as at) m "
        "where p.topic = m.topic and p.partition = m.part and p.next = m.known",
        [
            [partition.topic for partition, _, _ in known],
            [partition.partition for partition, _, _ in known],
            [offset for _, offset, _ in known],
            [moment for _, _, moment in known],
        ],
    )


def note_complete(store: Store, at: float) -> None:
    """Note that all partitions had been read to their ends: the tables were rebuilt."""
    store.run(f"update {store.of(POSITIONS)} set complete_at = cast(? as timestamptz)", [_moment(at)])


def complete_at(store: Store) -> float | None:
    """Return when every partition had last been read to its end, in UNIX seconds; None where nothing was read."""
    at: datetime | None = store.rows(f"select min(complete_at) from {store.of(POSITIONS)}")[0][0]
    return None if at is None else at.timestamp()


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


def replace_positions(store: Store, positions: Mapping[TopicPartition, int], ids: Mapping[str, str]) -> None:
    """Forget all positions and set these, within a transaction: the topics were made anew."""
    store.run(f"delete from {store.of(POSITIONS)}")
    move(store, {partition: Move(None, offset) for partition, offset in positions.items()}, ids)
