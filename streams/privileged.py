"""Whether this user may do what a process needs (topics/privileges.py); asked at start, of the cluster itself.

Nobody else would say: a Faust worker that may not join its group waits for ever without a word, and a topic that a user
may not see looks like one that is missing. Only asked where users are known at all: a PLAINTEXT listener has none.
"""

from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclOperation

from config.errors import ConfigurationError
from config.settings import PREFIX, Settings
from streams.kafka import librdkafka
from topics.privileges import Grant, grants

TIMEOUT = 10.0
SHOWN = 5
UNKNOWN = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC})
DENIED = frozenset({KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED})


def require_privileges(settings: Settings, process: str) -> None:
    """Raise ConfigurationError naming what ``process`` lacks; topics that do not exist are not this check's subject."""
    if settings.security_protocol == "PLAINTEXT":
        return
    lacking = missing(settings, grants(process, settings))
    if lacking:
        shown = ", ".join(f"{each.operation} on {each.resource.lower()} {each.name}" for each in lacking[:SHOWN])
        more = f" (and {len(lacking) - SHOWN} more)" if len(lacking) > SHOWN else ""
        who = f"user {settings.sasl_username}" if settings.sasl_username else "this client"
        raise ConfigurationError(
            f"{PREFIX}BOOTSTRAP: {who} lacks privileges at {settings.bootstrap}: {shown}{more}; "
            f"what {process} needs is in docs/security.md"
        )


def missing(settings: Settings, wanted: Iterable[Grant]) -> list[Grant]:
    """Those of ``wanted`` that the cluster does not say we have. Raises ConfigurationError where it does not answer."""
    wanted = list(wanted)
    topics = sorted({each.name for each in wanted if each.resource == "Topic"})
    groups = sorted({each.name for each in wanted if each.resource == "Group"})
    client = AdminClient(librdkafka(settings, **{"log_level": 0, "error_cb": lambda _: None}))
    how: dict[str, Any] = {"include_authorized_operations": True, "request_timeout": TIMEOUT}
    answers: dict[tuple[str, str], Future[Any]] = {}
    for name, answer in client.describe_topics(TopicCollection(topics), **how).items() if topics else ():
        answers["Topic", name] = answer
    for group in groups:  # one at a time: of several, librdkafka garbles the one that is denied
        answers["Group", group] = client.describe_consumer_groups([group], **how)[group]
    allowed = {resource: _allowed(settings, answer) for resource, answer in answers.items()}
    lacking = []
    for each in wanted:
        operations = allowed[each.resource, each.name]
        if operations is not None and each.operation not in operations:
            lacking.append(each)
    return lacking


def _allowed(settings: Settings, future: "Future[Any]") -> frozenset[str] | None:
    """Operations that are allowed on a resource; None where it does not exist, or the cluster does not tell."""
    try:
        operations: list[AclOperation] | None = future.result(TIMEOUT + 5).authorized_operations
    except KafkaException as error:
        code = error.args[0].code()
        if code in DENIED:
            return frozenset()
        if code in UNKNOWN:
            return None
        raise ConfigurationError(
            f"{PREFIX}BOOTSTRAP: {settings.bootstrap} did not say what this user may do: {error.args[0].str()}"
        ) from None
    return None if operations is None else frozenset(kafka_name(each) for each in operations)


def kafka_name(operation: AclOperation) -> str:
    """As Kafka's documentation writes it: ``DescribeConfigs`` for ``DESCRIBE_CONFIGS``."""
    return "".join(part.capitalize() for part in operation.name.split("_"))
