"""State is rebuilt from its topic after a restart, and from the raw topics after that is gone. All is encrypted."""

import time
from collections.abc import Callable
from itertools import islice

from confluent_kafka.admin import AdminClient

from fhirline.config.settings import Settings
from fhirline.streams.kafka.clients import librdkafka
from fhirline.topics.declared import KEYS, declared
from tests.crash.comparison import compare, raw_topics, wait_drained
from tests.crash.load import folded
from tests.crash.sizes import SIZES
from tests.support.kafka.brokers import create_topics
from tests.support.waiting import LIMIT
from tests.support.workers import Workers
from tests.support.workload import produce


def test_state_is_rebuilt_from_its_topic_and_from_raw(encrypted: Settings, show: Callable[..., None]) -> None:
    half = SIZES.events // 2
    produce(encrypted, islice(folded(SIZES.seed), half))
    with Workers(encrypted, 1):
        wait_drained(encrypted)
    produce(encrypted, islice(folded(SIZES.seed + 1), half))
    with Workers(encrypted, 1) as workers:
        wait_drained(encrypted)
    restarted = compare(encrypted)
    show(f"restarted half-way: {workers.restored} records of state read", restarted)
    assert workers.restored > 0
    assert restarted.whole

    forget_all_but_raw(encrypted)
    with Workers(encrypted, 1) as workers:
        wait_drained(encrypted)
    replayed = compare(encrypted)
    show("state and canonical topics deleted, raw read again from its beginning", replayed)
    assert replayed.whole
    assert (replayed.events, replayed.keys) == (restarted.events, restarted.keys)


def forget_all_but_raw(settings: Settings) -> None:
    """Delete the group's offsets and every topic but raw and its keys, and create the topics again."""
    admin = AdminClient(librdkafka(settings))
    doomed = {topic.name for topic in declared(settings)} - {*raw_topics(settings), KEYS}
    futures = [
        *admin.delete_consumer_groups([settings.group]).values(),
        *admin.delete_topics(sorted(doomed), operation_timeout=60).values(),
    ]
    for future in futures:
        future.result()
    until = time.monotonic() + LIMIT
    while remaining := doomed & admin.list_topics(timeout=30).topics.keys():
        assert time.monotonic() < until, remaining
        time.sleep(0.1)
    create_topics(settings.bootstrap)
