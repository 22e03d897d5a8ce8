"""Whether this user may do what a process needs (topics/privileges.py); asked at start, of the cluster itself.

Nobody else would say: a Faust worker that may not join its group waits for ever without a word, and a topic that a user
may not see looks like one that is missing. Only asked where users are known at all: a PLAINTEXT listener has none.
"""

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclOperation

from fhirline.config.errors import ConfigurationError, KafkaAccessError, KafkaDenied, KafkaRequestFailed
from fhirline.config.settings import PREFIX, Settings
from fhirline.streams.kafka.clients import librdkafka
from fhirline.topics.privileges import Grant, grants

TIMEOUT = 10.0
AGAIN = 0.1
SHOWN = 5
UNKNOWN = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC})
MOVING = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError._WAIT_COORD,
    }
)
DENIED = frozenset({KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED})


def require_privileges(settings: Settings, process: str) -> None:
    """Raise KafkaDenied naming what ``process`` lacks; topics that do not exist are not this check's subject."""
    if settings.security_protocol == "PLAINTEXT":
        return
    lacking = missing(settings, grants(process, settings))
    if lacking:
        shown = ", ".join(f"{each.operation} on {each.resource.lower()} {each.name}" for each in lacking[:SHOWN])
        more = f" (and {len(lacking) - SHOWN} more)" if len(lacking) > SHOWN else ""
        raise KafkaDenied(
            f"{PREFIX}BOOTSTRAP: {_user(settings)} lacks privileges at {settings.bootstrap}: {shown}{more}; "
            f"what {process} needs is in docs/security.md"
        )


def denial(settings: Settings, error: KafkaError, topic: str, group: str) -> str:
    """What a consumer was refused by an error of ``DENIED``, in words: Read on its topic, or Describe on its group."""
    on_group = error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED
    what = f"Describe on group {group}" if on_group else f"Read on topic {topic}"
    return f"{_user(settings)} lacks privileges at {settings.bootstrap}: {what}; see docs/security.md"


def _user(settings: Settings) -> str:
    return f"user {settings.sasl_username}" if settings.sasl_username else "this client"


def missing_acls(settings: Settings, process: str) -> str:
    """What ``process`` lacks now, in words; empty where it lacks nothing, and where the cluster does not answer: that
    passes, and is not what is asked here."""
    if settings.security_protocol == "PLAINTEXT":
        return ""
    try:
        lacking = missing(settings, grants(process, settings))
    except (ConfigurationError, KafkaAccessError, KafkaException):  # also a file of certificates that is being replaced
        return ""
    return ", ".join(f"{each.operation} on {each.resource.lower()} {each.name}" for each in lacking[:SHOWN])


def missing(settings: Settings, wanted: Iterable[Grant]) -> list[Grant]:
    """Those of ``wanted`` that the cluster does not say we have. Raises KafkaRequestFailed where it does not answer."""
    wanted = list(wanted)
    client = AdminClient(librdkafka(settings, **{"log_level": 0, "error_cb": lambda _: None}))
    how: dict[str, Any] = {"include_authorized_operations": True, "request_timeout": TIMEOUT}
    asked = dict.fromkeys((each.resource, each.name) for each in wanted)
    topics = [name for resource, name in asked if resource == "Topic"]
    answers = client.describe_topics(TopicCollection(topics), **how) if topics else {}
    allowed = {("Topic", name): _allowed(settings, answer.result) for name, answer in answers.items()}
    for group in (name for resource, name in asked if resource == "Group"):
        # One at a time: of several, librdkafka garbles the answer about the one that is denied.
        allowed["Group", group] = _allowed(settings, partial(_group, client, group, how))
    lacking = []
    for each in wanted:
        operations = allowed[each.resource, each.name]
        if operations is not None and each.operation not in operations:
            lacking.append(each)
    return lacking


def _group(client: AdminClient, group: str, how: dict[str, Any]) -> Any:
    return client.describe_consumer_groups([group], **how)[group].result()


def _allowed(settings: Settings, ask: Callable[[], Any]) -> frozenset[str] | None:
    """Operations that are allowed on a resource; None where it does not exist, or the cluster does not tell.

    A group's coordinator may be on its way to another broker, or not there yet: then it is asked again.
    """
    until = time.monotonic() + TIMEOUT
    while True:
        try:
            operations: list[AclOperation] | None = ask().authorized_operations
        except KafkaException as error:
            found = error.args[0]
            if found.code() in DENIED:
                return frozenset()
            if found.code() in UNKNOWN:
                return None
            if found.code() not in MOVING or time.monotonic() > until:
                raise KafkaRequestFailed(
                    f"{PREFIX}BOOTSTRAP: {settings.bootstrap} did not say what this user may do: {found.name()}"
                ) from None
            time.sleep(AGAIN)
        else:
            return None if operations is None else frozenset(kafka_name(each) for each in operations)


def kafka_name(operation: AclOperation) -> str:
    """As Kafka's documentation writes it: ``DescribeConfigs`` for ``DESCRIBE_CONFIGS``."""
    return "".join(part.capitalize() for part in operation.name.split("_"))
