"""The check at start that this Kafka user has the privileges a process needs (topics/privileges.py).

Without it a missing privilege shows late or not at all: a Faust worker that may not join its group waits forever, and
a topic that the user may not describe looks missing. A PLAINTEXT listener has no users, so nothing is checked there.
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
from fhirline.streams.kafka.clients import librdkafka, new_client
from fhirline.topics.privileges import Grant, grants

TIMEOUT = 10.0
RETRY_SECONDS = 0.1
SHOWN = 5
"""Missing privileges that a message names."""

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
    """Raise KafkaDenied naming the privileges that ``process`` lacks. Topics that do not exist are skipped."""
    if settings.security_protocol == "PLAINTEXT":
        return
    lacking = missing(settings, grants(process, settings))
    if lacking:
        shown = _listed(lacking)
        more = f" (and {len(lacking) - SHOWN} more)" if len(lacking) > SHOWN else ""
        raise KafkaDenied(
            f"{PREFIX}BOOTSTRAP: {_user(settings)} lacks privileges at {settings.bootstrap}: {shown}{more}; "
            f"what {process} needs is in docs/security.md"
        )


def denial(settings: Settings, error: KafkaError, topic: str, group: str) -> str:
    """Describe an error of ``DENIED`` that a consumer got: it lacks Read on its topic, or Describe on its group."""
    on_group = error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED
    what = f"Describe on group {group}" if on_group else f"Read on topic {topic}"
    return f"{_user(settings)} lacks privileges at {settings.bootstrap}: {what}; see docs/security.md"


def _user(settings: Settings) -> str:
    return f"user {settings.sasl_username}" if settings.sasl_username else "this client"


def missing_acls(settings: Settings, process: str) -> str:
    """Name the privileges that ``process`` lacks now; empty where it lacks none, or the cluster does not answer."""
    if settings.security_protocol == "PLAINTEXT":
        return ""
    try:
        lacking = missing(settings, grants(process, settings))
    except (ConfigurationError, KafkaAccessError, KafkaException):  # a certificate file may just be replaced
        return ""
    return _listed(lacking)


def _listed(lacking: list[Grant]) -> str:
    return ", ".join(f"{grant.operation} on {grant.resource.lower()} {grant.name}" for grant in lacking[:SHOWN])


def missing(settings: Settings, wanted: Iterable[Grant]) -> list[Grant]:
    """Return those of ``wanted`` that the cluster does not grant. Raises KafkaRequestFailed."""
    wanted = list(wanted)
    client = new_client(AdminClient, librdkafka(settings, **{"log_level": 0, "error_cb": lambda _: None}))
    options: dict[str, Any] = {"include_authorized_operations": True, "request_timeout": TIMEOUT}
    resources = dict.fromkeys((grant.resource, grant.name) for grant in wanted)
    topics = [name for resource, name in resources if resource == "Topic"]
    answers = client.describe_topics(TopicCollection(topics), **options) if topics else {}
    allowed = {("Topic", name): _allowed(settings, answer.result) for name, answer in answers.items()}
    for group in (name for resource, name in resources if resource == "Group"):
        # One at a time: asked for several, librdkafka garbles the answer about the one that is denied.
        allowed["Group", group] = _allowed(settings, partial(_group, client, group, options))
    lacking = []
    for grant in wanted:
        operations = allowed[grant.resource, grant.name]
        if operations is not None and grant.operation not in operations:
            lacking.append(grant)
    return lacking


def _group(client: AdminClient, group: str, options: dict[str, Any]) -> Any:
    return client.describe_consumer_groups([group], **options)[group].result()


def _allowed(settings: Settings, ask: Callable[[], Any]) -> frozenset[str] | None:
    """Return the operations allowed on a resource; None where it does not exist, or the cluster does not report them.

    A group's coordinator may be moving to another broker, or not exist yet. The question is then repeated.
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
                    f"{PREFIX}BOOTSTRAP: {settings.bootstrap} did not report what this user may do: {found.name()}"
                ) from None
            time.sleep(RETRY_SECONDS)
        else:
            return None if operations is None else frozenset(kafka_name(operation) for operation in operations)


def kafka_name(operation: AclOperation) -> str:
    """Spell an operation as Kafka's documentation does: ``DescribeConfigs`` for ``DESCRIBE_CONFIGS``."""
    return "".join(part.capitalize() for part in operation.name.split("_"))
