"""Consumer groups, as their coordinators describe them."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from fhirline.config.errors import KafkaRequestFailed
from fhirline.config.settings import PREFIX, Settings
from fhirline.streams.kafka.acl_check import MOVING
from fhirline.streams.kafka.clients import librdkafka, new_client
from fhirline.streams.kafka.records import TopicPartition

TIMEOUT = 10.0
ATTEMPT = 3.0
"""Seconds of one request. Without a coordinator, librdkafka waits for all of them."""
AGAIN = 0.1
AWAITED = MOVING | {KafkaError._TIMED_OUT}
NOBODY = "none"
EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class Member:
    """A process that has joined a group, as it names itself, and where it runs."""

    client_id: str
    host: str


@dataclass(frozen=True, slots=True)
class Group:
    """A consumer group. ``state``: Kafka's name in lower case, or ``none`` for a group that no process has joined.

    ``assigned``: the partitions that have a member now. ``processes``: the members, one by one.
    """

    name: str
    state: str
    members: int
    assigned: frozenset[TopicPartition]
    processes: tuple[Member, ...] = ()

    @property
    def unnamed(self) -> bool:
        """Tell whether processes have joined and the broker names none of them, as the embedded broker does."""
        return not self.members and self.state not in (NOBODY, EMPTY)


class Groups:
    """Describes groups by librdkafka, because kafka-python fails on Tansu's answer (an unknown ACL operation)."""

    def __init__(self, settings: Settings) -> None:
        self._where = settings.bootstrap
        self._config = librdkafka(settings, **{"log_level": 0, "error_cb": lambda _: None})
        self._client = self._connected()

    def _connected(self) -> AdminClient:
        return new_client(AdminClient, self._config)

    def read(self, names: tuple[str, ...]) -> Mapping[str, Group]:
        """Describe groups by name. Raises KafkaRequestFailed where the cluster does not answer, or refuses."""
        return {name: self._one(name) for name in names}

    def _one(self, name: str) -> Group:
        until = time.monotonic() + TIMEOUT
        while True:
            try:
                found = self._client.describe_consumer_groups([name], request_timeout=ATTEMPT)[name].result()
            except KafkaException as error:
                code = error.args[0].code()
                if code == KafkaError.GROUP_ID_NOT_FOUND:
                    return Group(name, NOBODY, 0, frozenset())
                if code == KafkaError._TIMED_OUT:  # a client does not find a killed broker again
                    self._client = self._connected()
                if code in AWAITED and time.monotonic() < until:
                    time.sleep(AGAIN)  # the coordinator is moving to another broker, or not there yet
                    continue
                raise KafkaRequestFailed(
                    f"{PREFIX}BOOTSTRAP: {self._where} did not describe group {name}: {error.args[0].name()}"
                ) from None
            assigned = (member.assignment.topic_partitions for member in found.members if member.assignment)
            state = found.state.name.lower().replace("_", " ")
            return Group(
                name,
                NOBODY if state in ("dead", "unknown") and not found.members else state,
                len(found.members),
                frozenset(TopicPartition(place.topic, place.partition) for places in assigned for place in places),
                tuple(Member(member.client_id or "", (member.host or "").lstrip("/")) for member in found.members),
            )
