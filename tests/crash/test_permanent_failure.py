"""A delivery that fails permanently: the worker ends, and nothing of that batch is committed.

A record that is too large fails permanently too, and becomes a dead letter (tests/streams/step2_consume/test_batch.py).
"""

import time
from collections.abc import Callable, Iterator
from itertools import islice

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, and not exported by the package's types
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from fhirline.config.settings import Settings
from fhirline.streams.kafka.clients import librdkafka
from fhirline.topics.declared import canonical_topic
from tests.crash.comparison import committed, compare, first_that_need, wait_drained
from tests.crash.conftest import SESSION
from tests.crash.load import folded
from tests.crash.sizes import SIZES
from tests.support.kafka.brokers import apache, create_topics, settings_for
from tests.support.waiting import LIMIT
from tests.support.workers import Workers
from tests.support.workload import produce

NEEDED = canonical_topic("Encounter")
EVERYBODY = ("User:ANONYMOUS", "*")


@pytest.fixture
def guarded() -> Iterator[Settings]:
    """Run a broker that checks access lists. There are none at first, so everybody may do everything."""
    authorizer = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
    with apache(authorizer_class_name=authorizer, allow_everyone_if_no_acl_found="true") as cluster:
        create_topics(cluster.bootstrap)
        yield settings_for(cluster.bootstrap, session_timeout=SESSION)


def test_nothing_is_committed_over_a_delivery_that_fails(guarded: Settings, show: Callable[..., None]) -> None:
    admin = AdminClient(librdkafka(guarded))
    troubles: tuple[tuple[str, Callable[[AdminClient], None], Callable[[AdminClient], None]], ...] = (
        ("topic deleted", delete, lambda _: create_topics(guarded.bootstrap)),
        ("authorization refused", refuse, permit),
    )
    with Workers(guarded, 1, FHIRLINE_DELIVERY_TIMEOUT="5", FHIRLINE_BATCH_SIZE="50") as workers:
        [worker] = workers.here
        for number, (name, cause, fix) in enumerate(troubles):
            before, process = committed(guarded), worker.process
            cause(admin)
            produce(guarded, islice(folded(SIZES.seed + number), SIZES.events // 3))
            assert worker.wait_ended(process) == 70, process.report(f"({name}) should have ended itself")
            needed = first_that_need(guarded, NEEDED, before)
            after = committed(guarded)
            fix(admin)
            over = {partition: after[partition] for partition, offset in needed.items() if after[partition] > offset}
            show(f"{name}: {len(needed)} raw partitions need {NEEDED}, {len(over)} were committed over it")
            assert needed
            assert not over
            wait_drained(guarded)
    comparison = compare(guarded)
    show("after both were fixed", comparison, workers)
    assert comparison.whole


def delete(admin: AdminClient) -> None:
    admin.delete_topics([NEEDED], operation_timeout=60)[NEEDED].result()
    wait_until(lambda: NEEDED not in admin.list_topics(timeout=30).topics)


Acl = tuple[ResourceType, str, ResourcePatternType, str, str, AclOperation, AclPermissionType]


def acl(operation: AclOperation, permission: AclPermissionType) -> Acl:
    return ResourceType.TOPIC, NEEDED, ResourcePatternType.LITERAL, *EVERYBODY, operation, permission


REFUSED = acl(AclOperation.WRITE, AclPermissionType.DENY)
ALLOWED = acl(AclOperation.ALL, AclPermissionType.ALLOW)


def refuse(admin: AdminClient) -> None:
    """Allow everything but writing."""
    for future in admin.create_acls([AclBinding(*ALLOWED), AclBinding(*REFUSED)]).values():
        future.result()
    wait_until(lambda: bool(admin.describe_acls(AclBindingFilter(*REFUSED)).result()))


def permit(admin: AdminClient) -> None:
    for future in admin.delete_acls([AclBindingFilter(*REFUSED)]).values():
        future.result()
    wait_until(lambda: not admin.describe_acls(AclBindingFilter(*REFUSED)).result())


def wait_until(reached: Callable[[], bool]) -> None:
    until = time.monotonic() + LIMIT
    while not reached():
        assert time.monotonic() < until
        time.sleep(0.1)
