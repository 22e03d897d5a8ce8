"""A cluster that ``FHIRLINE_BOOTSTRAP`` names, for ``fhirline demo`` and ``fhirline dev``.

The topics of fhirline have fixed names. So a run could take the topics of a deployment for its own, map its events
under another BASE and commit them. A run therefore uses only a cluster that has no topic and no group of fhirline.
Each topic is created by the run itself, and a name that exists by then ends the run: of two that begin at once, Kafka
gives each name to one. Group, BASE and tenant are the run's own.

At the end the run deletes the topics that it created and its group, unless somebody else has begun to use them.
"""

import secrets
import time
from collections.abc import Callable, Collection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from fhirline.config.errors import ConfigurationError, KafkaRequestFailed
from fhirline.config.settings import PREFIX, Settings
from fhirline.config.vendors import load_vendors
from fhirline.streams.kafka.clients import librdkafka, new_client
from fhirline.streams.kafka.connect import connect
from fhirline.streams.kafka.headers import TENANT, header
from fhirline.streams.observe.interrupt import ENDING, held_back, ignored
from fhirline.topics.declared import ERASED, Topic, declared

BASE = "https://demo.fhirline.example.org"
"""BASE of the run, which no deployment has: its ids are never those of a deployment's resources."""

GROUP_PREFIX = "fhirline-demo-"
TOPIC_PREFIXES = ("fhir.r4.", "normalizer.", "dead-letter.")
"""Topics of a deployment with other vendors are recognized by these."""

ANSWER_SECONDS = 10.0
VISIBLE_SECONDS = 30.0
REMEDY = (
    f"unset {PREFIX}BOOTSTRAP, which starts the embedded broker, or name a cluster that fhirline has never been used on"
)

KILLED = f"; or, if a demo that was killed left them, delete its topics and its group {GROUP_PREFIX}…"


class BorrowedCluster:
    """Creates the declared topics on entry, and deletes them on exit.

    On entry it raises ConfigurationError where the cluster is in use, and KafkaAccessError where it cannot be asked.
    ``say`` is called with what remains at the end and why.
    """

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        run = secrets.token_hex(4)
        self.group = f"{GROUP_PREFIX}{run}"
        self.tenant = f"demo-{run}"
        self._settings = settings
        self._say = say
        self._admin: Any = None
        self._created: list[str] = []

    def __enter__(self) -> Self:
        topics = declared(self._settings)
        self._refuse_where_used(topics, connect(self._settings, ANSWER_SECONDS).topics)
        try:
            with held_back(*ENDING):  # until Kafka has answered which topics it created
                self._create(topics)
            self._await_leaders({topic.name: topic.partitions for topic in topics})
        except BaseException:
            with ignored(*ENDING):
                self._clear()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._clear()

    def write_vendors(self, path: Path) -> None:
        """Write a vendors file in which each vendor has the run's tenant only, with the vendor's defaults."""
        document = load_vendors(self._settings.vendors_file).model_dump(mode="json")
        for vendor in document["vendors"].values():
            vendor["tenants"] = {self.tenant: None}
        path.write_text(yaml.safe_dump(document), "utf-8")

    def _refuse_where_used(self, topics: Collection[Topic], present: Collection[str]) -> None:
        names = {topic.name for topic in topics}
        used = sorted(name for name in present if name in names or name.startswith(TOPIC_PREFIXES))
        groups = self._groups_of_fhirline()
        if not used and not groups:
            return
        found = [f"fhirline's topics ({_counted(used)})"] if used else []
        found += [f"fhirline's group ({_counted(groups)})"] if groups else []
        killed = any(name.startswith(GROUP_PREFIX) for name in groups)
        raise ConfigurationError(
            f"{PREFIX}BOOTSTRAP: {self._settings.bootstrap} is in use: it has {' and '.join(found)}. "
            f"Nothing was written to it: {REMEDY}{KILLED if killed else ''}"
        )

    def _groups_of_fhirline(self) -> list[str]:
        """Return the groups of deployments and of other runs."""
        ours = {name for group in ("fhirline", self._settings.group) for name in (group, f"{group}.enrich")}
        self._admin = self._admin or new_client(AdminClient, librdkafka(self._settings, **{"log_level": 0}))
        try:
            listed = self._admin.list_consumer_groups(request_timeout=ANSWER_SECONDS).result()
        except KafkaException as error:
            raise self._failed("listing groups", error.args[0]) from None
        if listed.errors:
            raise self._failed("listing groups", listed.errors[0].args[0])
        found = {group.group_id for group in listed.valid} - {self.group}
        return sorted(name for name in found if name in ours or name.startswith(GROUP_PREFIX))

    def _create(self, topics: Collection[Topic]) -> None:
        wanted = [
            NewTopic(topic.name, topic.partitions, topic.replication_factor, config=dict(topic.config))
            for topic in topics
        ]
        failures: dict[str, KafkaError] = {}
        answers = self._admin.create_topics(wanted, operation_timeout=ANSWER_SECONDS, request_timeout=VISIBLE_SECONDS)
        for name, answer in answers.items():
            try:
                answer.result()
                self._created.append(name)
            except KafkaException as error:
                failures[name] = error.args[0]
                if error.args[0].code() in (KafkaError._TIMED_OUT, KafkaError.REQUEST_TIMED_OUT):
                    self._say(f"topic        {name}: its creation was not confirmed; delete it if it exists")
        taken = sorted(name for name, error in failures.items() if error.code() == KafkaError.TOPIC_ALREADY_EXISTS)
        if taken:
            raise ConfigurationError(
                f"{PREFIX}BOOTSTRAP: {self._settings.bootstrap} is in use: topics appeared while the "
                f"others were created ({_counted(taken)}). No event was written to it: {REMEDY}"
            )
        if failures:
            name, first = next(iter(failures.items()))
            raise self._failed(f"creating {name}", first)

    def _await_leaders(self, partitions: dict[str, int]) -> None:
        until = time.monotonic() + VISIBLE_SECONDS
        while True:
            shown = self._admin.list_topics(timeout=ANSWER_SECONDS).topics
            if all(
                name in shown
                and len(shown[name].partitions) == count
                and all(partition.leader >= 0 for partition in shown[name].partitions.values())
                for name, count in partitions.items()
            ):
                return
            if time.monotonic() > until:
                raise KafkaRequestFailed(f"{self._settings.bootstrap}: the created topics are not visible yet")
            time.sleep(0.05)  # brokers learn of a topic after the controller has answered, and do not notify clients

    # -- the end

    def _clear(self) -> None:
        """Delete what the run created, unless somebody else uses it or Kafka refuses. Report what remains."""
        if not self._created:
            return
        try:
            reason = self._used_meanwhile() or self._delete()
        except (KafkaException, KafkaRequestFailed) as error:
            reason = str(error)
        if reason:
            self._say(
                f"remaining    topics ({_counted(sorted(self._created))}) and group {self.group} on "
                f"{self._settings.bootstrap}: {reason}. Delete them yourself, if nobody needs them"
            )

    def _used_meanwhile(self) -> str:
        """Explain who else uses the topics by now: a deployment that was started on them. Empty where nobody does."""
        if groups := self._groups_of_fhirline():
            return f"fhirline's group was created meanwhile ({_counted(groups)})"
        for message in self._records([name for name in self._created if name.startswith("raw.") or name == ERASED]):
            tenant = header(message.headers() or (), TENANT)  # type: ignore[arg-type]  # values are bytes
            if message.topic() == ERASED or tenant != self.tenant:
                return f"{message.topic()} has records that this run did not write"
        return ""

    def _records(self, topics: Collection[str]) -> list["Message[bytes, bytes]"]:
        """Read all records of the topics, each partition to its end."""
        consumer = new_client(
            Consumer,
            librdkafka(
                self._settings,
                **{"group.id": self.group, "enable.auto.commit": False, "enable.partition.eof": True, "log_level": 0},
            ),
        )
        try:
            shown = self._admin.list_topics(timeout=ANSWER_SECONDS).topics
            places = [(name, partition) for name in topics if name in shown for partition in shown[name].partitions]
            consumer.assign([TopicPartition(name, partition, OFFSET_BEGINNING) for name, partition in places])
            found, left = [], set(places)
            while left:
                message = consumer.poll(ANSWER_SECONDS)
                if message is None:
                    raise KafkaRequestFailed("the topics could not be read to their end")
                error = message.error()
                if error is None:
                    found.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard((message.topic() or "", message.partition() or 0))
                else:
                    raise KafkaException(error)
            return found
        finally:
            consumer.close()

    def _delete(self) -> str:
        """Delete topics and group. Return why some remain; empty where all are deleted."""
        refused: dict[str, str] = {}
        for name, answer in self._admin.delete_topics(self._created, operation_timeout=ANSWER_SECONDS).items():
            try:
                answer.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    refused[name] = error.args[0].name()
        self._created = [name for name in self._created if name in refused]
        for answer in self._admin.delete_consumer_groups([self.group], request_timeout=ANSWER_SECONDS).values():
            try:
                answer.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
                    self._say(f"remaining    group {self.group} on {self._settings.bootstrap}: {error.args[0].name()}")
        return next(iter(refused.values()), "")

    def _failed(self, doing: str, error: KafkaError) -> KafkaRequestFailed:
        return KafkaRequestFailed(f"{PREFIX}BOOTSTRAP: {self._settings.bootstrap}: {doing} failed: {error.name()}")


def _counted(names: Collection[str]) -> str:
    """Name the first, and count the others."""
    first, *more = names
    return first + (f" and {len(more)} more" if more else "")
