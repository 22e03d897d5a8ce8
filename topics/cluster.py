"""The declared topics against a cluster: what differs (`plan`), and making it so (`apply`).

No topic is ever deleted or shrunk here. A retention that is declared shorter (vendors.yaml) does let the cluster delete
older records: the plan says so beside it.

A key never moves (docs/contracts.md): with another number of partitions, a key's next record would lie elsewhere than
its earlier ones, compaction would keep both, and a fold would not find its state. So the number of partitions of an
existing topic is changed only where records do not belong together by key; anywhere else a difference is a conflict
that is reported, with what to do about it, and left alone.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import TracebackType
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import IncompatibleBrokerVersion, KafkaError, TopicAlreadyExistsError, for_code

from fhirline.config.errors import ConfigurationError, KafkaRequestFailed, KafkaUnreachable
from fhirline.topics.declared import DAY, Topic

TIMEOUT = 10.0
"""Seconds until a cluster that does not answer is given up."""


class Action(StrEnum):
    """What `Cluster.apply` does about a difference."""

    CREATE = "create"
    GROW = "add partitions"
    ALTER = "alter"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Existing:
    """A topic as the cluster has it. A setting that is not in ``config`` is one the cluster does not tell."""

    name: str
    partitions: int
    replication_factor: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is otherwise. ``what``: ``topic``, ``partitions``, ``replicas`` or a setting's name."""

    topic: Topic
    what: str
    declared: str
    actual: str
    action: Action
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What differs. ``untold``: existing topics with declared settings that the cluster does not tell (Tansu)."""

    differences: tuple[Difference, ...]
    untold: tuple[Topic, ...] = ()

    @property
    def refused(self) -> tuple[Difference, ...]:
        return tuple(each for each in self.differences if each.action is Action.REFUSE)


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a plan: done, failed with the cluster's reason, refused by us."""

    done: tuple[Difference, ...]
    failed: tuple[tuple[Difference, str], ...]
    refused: tuple[Difference, ...]

    @property
    def complete(self) -> bool:
        return not self.failed and not self.refused


def compare(topics: Iterable[Topic], existing: Mapping[str, Existing]) -> Plan:
    """The differences between what is declared and what exists. Pure."""
    differences: list[Difference] = []
    untold: list[Topic] = []
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
                    "moving replicas is the cluster's own work: kafka-reassign-partitions",
                )
            )
        for name, value in topic.config.items():
            actual = found.config.get(name)
            if actual is not None and actual != value:
                reason = _retention(value, actual) if name == "retention.ms" else ""
                differences.append(Difference(topic, name, value, actual, Action.ALTER, reason))
        if not topic.config.keys() <= found.config.keys():
            untold.append(topic)
    if any(each.what == "partitions" and not each.topic.growable for each in differences):
        differences = [_held_back(each) for each in differences]
    return Plan(tuple(differences), tuple(untold))


def _held_back(each: Difference) -> Difference:
    """Partitions cannot be taken back, so none is made by a number that keyed topics contradict: it may be a slip."""
    if each.action not in (Action.CREATE, Action.GROW):
        return each
    return replace(each, action=Action.REFUSE, reason="waits until FHIRLINE_PARTITIONS is what keyed topics have")


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


def _retention(declared: str, actual: str) -> str:
    """A retention in words, and whether records go by it: nothing brings them back."""

    def days(milliseconds: str) -> str:
        return "for good" if milliseconds == "-1" else f"{int(milliseconds) / DAY:g} days"

    shorter = declared != "-1" and (actual == "-1" or int(declared) < int(actual))
    deletes = "; older records will be deleted" if shorter else ""
    return f"kept {days(actual)}, from now on {days(declared)}{deletes}"


def _summary(topic: Topic) -> str:
    return f"{topic.partitions} partitions, {topic.cleanup}"


class Cluster:
    """A connection to a cluster's admin interface.

    ``client`` are the arguments of a kafka-python client (addresses, TLS, SASL). Entry raises KafkaUnreachable where
    nobody answers in ``timeout`` seconds::

        with Cluster(client) as cluster:
            cluster.apply(cluster.plan(declared(settings)))
    """

    def __init__(self, client: Mapping[str, Any], timeout: float = TIMEOUT) -> None:
        self._client = dict(client)
        self._milliseconds = int(timeout * 1000)
        self._where = ",".join(self._client.get("bootstrap_servers", ()))
        self._admin: Any = None

    def __enter__(self) -> "Cluster":
        try:
            self._admin = KafkaAdminClient(
                **self._client,
                client_id="fhirline-topics",
                bootstrap_timeout_ms=self._milliseconds,
                request_timeout_ms=self._milliseconds,
            )
        except KafkaError:
            raise KafkaUnreachable(
                f"FHIRLINE_BOOTSTRAP: no Kafka broker answered at {self._where} within {self._milliseconds / 1000:g} s "
                "(is it running, and do FHIRLINE_SECURITY_PROTOCOL and the SASL settings match it?)"
            ) from None
        except (OSError, ValueError) as error:  # a certificate file that is missing or none; an address that is none
            raise ConfigurationError(f"Kafka client settings: {error}") from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._admin.close()

    def read(self, topics: Iterable[Topic]) -> dict[str, Existing]:
        """Those of the topics that exist, by name. All are asked for: naming one could make a broker create it."""
        wanted = {topic.name for topic in topics}
        try:
            found = [each for each in self._admin.describe_topics() if each["name"] in wanted]
            settings = self._settings([each["name"] for each in found])
        except KafkaError as error:
            raise self._failed("reading topics", error) from None
        return {
            each["name"]: Existing(
                each["name"],
                len(each["partitions"]),
                min((len(one["replica_nodes"]) for one in each["partitions"]), default=0),
                settings.get(each["name"], {}),
            )
            for each in found
        }

    def plan(self, topics: Iterable[Topic]) -> Plan:
        """What of the cluster is otherwise than declared."""
        topics = tuple(topics)
        return compare(topics, self.read(topics))

    def apply(self, plan: Plan) -> Applied:
        """Create, grow and alter what the plan says; wait until the cluster shows it."""
        by_action = {
            action: [each for each in plan.differences if each.action is action]
            for action in (Action.CREATE, Action.GROW, Action.ALTER)
        }
        reasons: dict[tuple[str, Action], str] = {}
        for action, make in ((Action.CREATE, self._create), (Action.GROW, self._grow), (Action.ALTER, self._alter)):
            if wanted := by_action[action]:
                try:
                    failures = make(wanted)
                except IncompatibleBrokerVersion:
                    failures = dict.fromkeys((each.topic.name for each in wanted), "this broker does not offer it")
                except KafkaError as error:
                    raise self._failed(f"{action} of topics", error) from None
                reasons |= {(name, action): reason for name, reason in failures.items()}
        done, failed = [], []
        for each in (each for wanted in by_action.values() for each in wanted):
            if reason := reasons.get((each.topic.name, each.action)):
                failed.append((each, reason))
            else:
                done.append(each)
        self._settle([each for each in done if each.action is not Action.CREATE])
        return Applied(tuple(done), tuple(failed), plan.refused)

    def _settings(self, names: list[str]) -> dict[str, dict[str, str]]:
        """Settings by topic and name, defaults included: Tansu calls every value one, and tells only those set."""
        if not names:
            return {}
        asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        answered = self._admin.describe_configs(asked, config_filter="all").get("topic", {})
        return {
            topic: {name: each["value"] for name, each in entries.items() if each["value"] is not None}
            for topic, entries in answered.items()
        }

    def _create(self, wanted: list[Difference]) -> dict[str, str]:
        """Create topics; topic → reason of each that failed. One that somebody else has just created is no failure."""
        answered = self._admin.create_topics(
            {
                each.topic.name: {
                    "num_partitions": each.topic.partitions,
                    "replication_factor": each.topic.replication_factor,
                    "configs": dict(each.topic.config),
                }
                for each in wanted
            },
            timeout_ms=self._milliseconds,
            raise_errors=False,
        )["topics"]
        failed = {
            each["name"]: _reason(each["error_code"], each.get("error_message"))
            for each in answered
            if each["error_code"] not in (0, TopicAlreadyExistsError.errno)
        }
        self._admin.wait_for_topics([each["name"] for each in answered if each["name"] not in failed])
        return failed

    def _grow(self, wanted: list[Difference]) -> dict[str, str]:
        answered = self._admin.create_partitions(
            {each.topic.name: each.topic.partitions for each in wanted},
            timeout_ms=self._milliseconds,
            raise_errors=False,
        ).results
        return {each.name: _reason(each.error_code, each.error_message) for each in answered if each.error_code}

    def _alter(self, wanted: list[Difference]) -> dict[str, str]:
        changes: dict[str, dict[str, str]] = {}
        for each in wanted:
            changes.setdefault(each.topic.name, {})[each.what] = each.declared
        answered = self._admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, name, settings) for name, settings in changes.items()],
            raise_on_unknown=False,  # the question behind it is one that Tansu cannot answer
        )["topic"]
        return {name: result for name, result in answered.items() if result != "OK"}

    def _settle(self, changed: list[Difference]) -> None:
        """Wait until the cluster shows the changes: its brokers learn of them after its controller has answered."""
        made = {(each.topic.name, each.what) for each in changed}
        topics = {each.topic for each in changed}
        until = time.monotonic() + self._milliseconds / 1000
        while made and not made.isdisjoint((each.topic.name, each.what) for each in self.plan(topics).differences):
            if time.monotonic() > until:
                raise KafkaRequestFailed(f"{self._where}: changes are made but not visible yet: plan again")
            time.sleep(0.05)

    def _failed(self, doing: str, error: KafkaError) -> KafkaRequestFailed:
        return KafkaRequestFailed(f"{self._where}: {doing} failed: {type(error).__name__}: {error}".rstrip(": "))


def _reason(code: int, message: str | None) -> str:
    """The cluster's own words, behind Kafka's name for them."""
    name = for_code(code).__name__.removesuffix("Error")
    return f"{name}: {message}" if message else name
