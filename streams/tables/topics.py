"""The topics that tables are made of, as the cluster has them."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource

from fhirline.config.errors import ConfigurationError, KafkaRequestFailed
from fhirline.config.settings import PREFIX, Settings
from fhirline.streams.kafka.clients import librdkafka, new_client
from fhirline.streams.kafka.records import TopicPartition
from fhirline.streams.kafka.topic_id import id_text
from fhirline.topics.declared import OUTCOME, RESOURCE_TYPES, canonical_topic

TIMEOUT = 30.0
DAY = 86_400.0
TOMBSTONES = "delete.retention.ms"
TOMBSTONE_SHARE = 0.8
"""Share of the time that topics keep tombstones. Tables that were not kept for longer may have missed some."""

TOPICS = (*map(canonical_topic, RESOURCE_TYPES), OUTCOME)


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics. ``ids``: name → id, empty where the cluster has none. ``tombstone_seconds``: of their tombstones."""

    partitions: tuple[TopicPartition, ...]
    ids: Mapping[str, str]
    tombstone_seconds: float = DAY

    def may_miss_tombstones(self, seconds: float) -> bool:
        """Tell whether tables that were not kept for so many seconds may have missed tombstones.

        Kafka keeps a tombstone for ``delete.retention.ms``, a day by default. Tables that have missed one may keep rows
        of a patient who was erased.
        """
        return seconds > TOMBSTONE_SHARE * self.tombstone_seconds


def read_topics(settings: Settings, names: Iterable[str] = TOPICS) -> Topics:
    """Ask the cluster for the topics. Raises KafkaRequestFailed, and ConfigurationError where one is missing."""
    names = list(names)
    client = new_client(AdminClient, librdkafka(settings, **{"log_level": 0, "error_cb": lambda _: None}))
    partitions: list[TopicPartition] = []
    ids: dict[str, str] = {}
    for name, answer in client.describe_topics(TopicCollection(names), request_timeout=TIMEOUT).items():
        try:
            found = answer.result()
        except KafkaException as error:
            if error.args[0].name() in ("UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC"):
                raise ConfigurationError(f"topic {name} is missing: run `fhirline topics apply`") from None
            raise KafkaRequestFailed(
                f"{PREFIX}BOOTSTRAP: {settings.bootstrap} did not describe topic {name}: {error.args[0].name()}"
            ) from None
        partitions += [TopicPartition(name, partition.id) for partition in found.partitions]
        ids[name] = id_text(found.topic_id)
    return Topics(tuple(sorted(partitions)), ids, _tombstone_seconds(client, names))


def _tombstone_seconds(client: AdminClient, names: Iterable[str]) -> float:
    """Return the shortest time that a topic keeps its tombstones; Kafka's default where that is not reported."""
    resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names]
    shortest = None
    for answer in client.describe_configs(resources, request_timeout=TIMEOUT).values():
        with suppress(KafkaException):  # not allowed to (DescribeConfigs)
            entry = answer.result().get(TOMBSTONES)
            if entry is not None and entry.value is not None:
                seconds = int(entry.value) / 1000
                shortest = seconds if shortest is None else min(shortest, seconds)
    return DAY if shortest is None else shortest


def require_same_topics(topics: Topics, known: Mapping[str, str], where: str) -> None:
    """Raise ConfigurationError where a topic was made anew since the tables were written: their positions mean others.

    ``known``: topic → the id that it had then.
    """
    other = [name for name, id in topics.ids.items() if id and known.get(name) and known[name] != id]
    if other:
        raise ConfigurationError(made_anew(other[0], len(other), where))


def made_anew(topic: str, count: int, where: str) -> str:
    more = f" and {count - 1} more" if count > 1 else ""
    return (
        f"topic {topic}{more} was made anew, or this is another cluster: the tables of {where} hold what the earlier "
        "topic had. Run `fhirline tables rebuild --all` to make them of these topics, or keep these in another schema "
        f"({PREFIX}TABLES_SCHEMA)"
    )
