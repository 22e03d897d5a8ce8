"""The topics of a cluster: read and compared with the declared ones (`Cluster.plan`), created and altered (`apply`)."""

import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import IncompatibleBrokerVersion, KafkaError, TopicAlreadyExistsError, for_code

from fhirline.config.errors import ConfigurationError, KafkaRequestFailed, KafkaUnreachable
from fhirline.topics.declared import Topic
from fhirline.topics.plan import Action, Applied, Difference, Existing, Plan, compare

TIMEOUT = 10.0
"""Seconds to wait for a cluster's answer."""


class Cluster:
    """A connection to a cluster's admin interface.

    ``client`` are the arguments of a kafka-python client (addresses, TLS, SASL). On entry it raises KafkaUnreachable
    where no broker answers within ``timeout`` seconds, and ConfigurationError where ``client`` is wrong. Every request
    raises KafkaRequestFailed where a broker answers with an error, or not in time::

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
        except (OSError, ValueError) as error:  # a missing or wrong certificate file; a wrong address
            raise ConfigurationError(f"Kafka client settings: {error}") from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._admin.close()

    def read(self, topics: Iterable[Topic]) -> dict[str, Existing]:
        """Read those of the topics that exist, by name.

        The request names no topic, because a broker may create a topic that a request names.
        """
        wanted = {topic.name for topic in topics}
        try:
            found = [topic for topic in self._admin.describe_topics() if topic["name"] in wanted]
            settings = self._settings([topic["name"] for topic in found])
        except KafkaError as error:
            raise self._failed("reading topics", error) from None
        return {
            topic["name"]: Existing(
                topic["name"],
                len(topic["partitions"]),
                min((len(partition["replica_nodes"]) for partition in topic["partitions"]), default=0),
                settings.get(topic["name"], {}),
            )
            for topic in found
        }

    def plan(self, topics: Iterable[Topic]) -> Plan:
        """Compare the declared topics with those of the cluster."""
        topics = tuple(topics)
        return compare(topics, self.read(topics))

    def apply(self, plan: Plan) -> Applied:
        """Create, grow and alter topics as planned, and wait until the cluster shows it."""
        by_action = {
            action: [found for found in plan.differences if found.action is action]
            for action in (Action.CREATE, Action.GROW, Action.ALTER)
        }
        reasons: dict[tuple[str, Action], str] = {}
        for action, make in ((Action.CREATE, self._create), (Action.GROW, self._grow), (Action.ALTER, self._alter)):
            if wanted := by_action[action]:
                try:
                    failures = make(wanted)
                except IncompatibleBrokerVersion:
                    failures = dict.fromkeys((found.topic.name for found in wanted), "this broker does not offer it")
                except KafkaError as error:
                    raise self._failed(f"{action} of topics", error) from None
                reasons |= {(name, action): reason for name, reason in failures.items()}
        done, failed = [], []
        for wanted in by_action.values():
            for found in wanted:
                if reason := reasons.get((found.topic.name, found.action)):
                    failed.append((found, reason))
                else:
                    done.append(found)
        self._settle([found for found in done if found.action is not Action.CREATE])
        return Applied(tuple(done), tuple(failed), plan.refused)

    def _settings(self, names: list[str]) -> dict[str, dict[str, str]]:
        """Read settings by topic and name, defaults included: Tansu marks every value as a default."""
        if not names:
            return {}
        asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        answered = self._admin.describe_configs(asked, config_filter="all").get("topic", {})
        return {
            topic: {name: entry["value"] for name, entry in entries.items() if entry["value"] is not None}
            for topic, entries in answered.items()
        }

    def _create(self, wanted: list[Difference]) -> dict[str, str]:
        """Create topics and return topic → reason of each failure. A topic that exists meanwhile is no failure."""
        answered = self._admin.create_topics(
            {
                found.topic.name: {
                    "num_partitions": found.topic.partitions,
                    "replication_factor": found.topic.replication_factor,
                    "configs": dict(found.topic.config),
                }
                for found in wanted
            },
            timeout_ms=self._milliseconds,
            raise_errors=False,
        )["topics"]
        failed = {
            topic["name"]: _reason(topic["error_code"], topic.get("error_message"))
            for topic in answered
            if topic["error_code"] not in (0, TopicAlreadyExistsError.errno)
        }
        created = [topic["name"] for topic in answered if topic["name"] not in failed]
        self._admin.wait_for_topics(created, timeout_ms=self._milliseconds)
        return failed

    def _grow(self, wanted: list[Difference]) -> dict[str, str]:
        answered = self._admin.create_partitions(
            {found.topic.name: found.topic.partitions for found in wanted},
            timeout_ms=self._milliseconds,
            raise_errors=False,
        ).results
        return {topic.name: _reason(topic.error_code, topic.error_message) for topic in answered if topic.error_code}

    def _alter(self, wanted: list[Difference]) -> dict[str, str]:
        changes: dict[str, dict[str, str]] = {}
        for found in wanted:
            changes.setdefault(found.topic.name, {})[found.what] = found.declared
        answered = self._admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, name, settings) for name, settings in changes.items()],
            raise_on_unknown=False,  # Tansu cannot answer the request that True would send
        )["topic"]
        return {name: result for name, result in answered.items() if result != "OK"}

    def _settle(self, changed: list[Difference]) -> None:
        """Wait until the cluster shows the changes: brokers learn of them after the controller has answered."""
        made = {(found.topic.name, found.what) for found in changed}
        topics = {found.topic for found in changed}
        until = time.monotonic() + self._milliseconds / 1000
        while made and not made.isdisjoint((found.topic.name, found.what) for found in self.plan(topics).differences):
            if time.monotonic() > until:
                raise KafkaRequestFailed(f"{self._where}: changes are made but not visible yet; run plan again")
            time.sleep(0.05)

    def _failed(self, doing: str, error: KafkaError) -> KafkaRequestFailed:
        return KafkaRequestFailed(f"{self._where}: {doing} failed: {type(error).__name__}: {error}".rstrip(": "))


def _reason(code: int, message: str | None) -> str:
    """Return Kafka's name of an error code, and the cluster's message."""
    name = for_code(code).__name__.removesuffix("Error")
    return f"{name}: {message}" if message else name
