"""The plan: how the topics of a cluster differ from the declared ones, and what to do about each difference. Pure.

A plan never deletes or shrinks a topic. A shorter retention, or another cleanup policy, deletes records: such a
difference says so (`Difference.deletes`).

The partition count of an existing topic is changed only where no reader looks for records by key. Elsewhere the next
record of a key would go to another partition than its earlier ones: compaction would keep both, and a fold would not
find its state. Such a difference is a conflict, which is reported with its remedy and not applied (docs/contracts.md).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from fhirline.topics.declared import DAY, FOREVER, Topic


class Action(StrEnum):
    """The treatment of a difference when a plan is applied."""

    CREATE = "create"
    GROW = "add partitions"
    ALTER = "alter"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Existing:
    """A topic as the cluster describes it. ``config`` has only the settings that the cluster reports."""

    name: str
    partitions: int
    replication_factor: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference. ``what`` is ``topic``, ``partitions``, ``replicas`` or the name of a setting.

    ``deletes``: the cluster deletes records once the difference is applied.
    """

    topic: Topic
    what: str
    declared: str
    actual: str
    action: Action
    reason: str = ""
    deletes: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """All differences. ``unreported``: topics with declared settings that the cluster does not report (Tansu)."""

    differences: tuple[Difference, ...]
    unreported: tuple[Topic, ...] = ()

    @property
    def refused(self) -> tuple[Difference, ...]:
        """Return the differences that are not applied."""
        return tuple(found for found in self.differences if found.action is Action.REFUSE)

    @property
    def deleting(self) -> tuple[Difference, ...]:
        """Return the differences that delete records when they are applied."""
        return tuple(found for found in self.differences if found.deletes and found.action is not Action.REFUSE)


@dataclass(frozen=True, slots=True)
class Applied:
    """The result of applying a plan: differences resolved, failed (with the cluster's reason), and refused."""

    done: tuple[Difference, ...]
    failed: tuple[tuple[Difference, str], ...]
    refused: tuple[Difference, ...]

    @property
    def complete(self) -> bool:
        return not self.failed and not self.refused


def compare(topics: Iterable[Topic], existing: Mapping[str, Existing]) -> Plan:
    """Compare declared topics with the existing ones, by name."""
    differences: list[Difference] = []
    unreported: list[Topic] = []
    for topic in topics:
        if (found := existing.get(topic.name)) is None:
            differences.append(Difference(topic, "topic", _summary(topic), "missing", Action.CREATE))
            continue
        if found.partitions != topic.partitions:
            differences.append(_partitions(topic, found))
        if found.replication_factor != topic.replication_factor:
            differences.append(
                Difference(
                    topic,
                    "replicas",
                    str(topic.replication_factor),
                    str(found.replication_factor),
                    Action.REFUSE,
                    "only the cluster can move replicas: use kafka-reassign-partitions",
                )
            )
        for name, value in topic.config.items():
            actual = found.config.get(name)
            if actual is not None and actual != value:
                differences.append(_setting(topic, name, value, actual))
        if not topic.config.keys() <= found.config.keys():
            unreported.append(topic)
    if any(found.what == "partitions" and not found.topic.growable for found in differences):
        differences = [_hold_back(found) for found in differences]
    return Plan(tuple(differences), tuple(unreported))


def _hold_back(found: Difference) -> Difference:
    """Refuse to create or grow a topic. Partitions cannot be removed, and FHIRLINE_PARTITIONS may be wrong."""
    if found.action not in (Action.CREATE, Action.GROW):
        return found
    return replace(found, action=Action.REFUSE, reason="waits until FHIRLINE_PARTITIONS is what keyed topics have")


def _partitions(topic: Topic, found: Existing) -> Difference:
    growing = found.partitions < topic.partitions
    if growing and topic.growable:
        action, reason = Action.GROW, ""
    elif growing:
        action, reason = (
            Action.REFUSE,
            f"a key never moves: set FHIRLINE_PARTITIONS={found.partitions}, or replay raw into a new set of topics",
        )
    else:
        action, reason = Action.REFUSE, "a topic never shrinks: declare as many partitions as it has"
    return Difference(topic, "partitions", str(topic.partitions), str(found.partitions), action, reason)


def _setting(topic: Topic, name: str, declared: str, actual: str) -> Difference:
    """Describe a setting that differs, with a warning where changing it deletes records."""
    change, warning = "", ""
    if name == "retention.ms":
        change = f"kept {_days(actual)}, from now on {_days(declared)}"
        if int(declared) != FOREVER and (int(actual) == FOREVER or int(declared) < int(actual)):
            warning = "older records will be deleted"
    elif name == "cleanup.policy" and declared not in actual.split(","):
        warning = "replaced values of a key will be deleted"
        if declared == "delete":
            warning = "records older than the retention will be deleted"
    reason = "; ".join(filter(None, (change, warning)))
    return Difference(topic, name, declared, actual, Action.ALTER, reason, bool(warning))


def _days(milliseconds: str) -> str:
    return "indefinitely" if int(milliseconds) == FOREVER else f"{int(milliseconds) / DAY:g} days"


def _summary(topic: Topic) -> str:
    return f"{topic.partitions} {'partition' if topic.partitions == 1 else 'partitions'}, {topic.cleanup}"
