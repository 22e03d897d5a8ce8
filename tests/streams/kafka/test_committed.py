"""A group's committed offsets are asked for again while its coordinator moves: a worker used to end over it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TypeVar

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException

from fhirline.config.settings import Settings
from fhirline.streams.kafka.clients import librdkafka, new_client
from fhirline.streams.kafka.committed import MAY_PASS, ask_once
from fhirline.streams.kafka.records import TopicPartition
from fhirline.streams.step2_consume.faust.offset_gaps import Committed, committed_offsets
from tests.streams.step2_consume.faust.logs import commit, write
from tests.support.kafka.brokers import apache, create_topics, settings_for
from tests.support.waiting import LIMIT

pytestmark = pytest.mark.long  # it needs Apache Kafka

TOPIC = "raw.altibbi"
PLACE = TopicPartition(TOPIC, 2)
Answer = TypeVar("Answer")
RESTARTS = 5
"""A broker that is quick has its groups before a single question comes: then it is started once more."""


def refusal(settings: Settings) -> int | None:
    """Ask a single time, as the worker did. Return the code of a refusal that passes, or None."""
    consumer = new_client(Consumer, librdkafka(settings, **{"group.id": settings.group, "log_level": 0}))
    try:
        ask_once(consumer, [PLACE], 6.0)
    except KafkaException as error:
        code: int = error.args[0].code()
        return code if code in MAY_PASS - {KafkaError._TIMED_OUT} else None
    finally:
        consumer.close()
    return None


def test_offsets_are_right_all_through_a_restart() -> None:
    with apache() as kafka:
        create_topics(kafka.bootstrap)
        settings = settings_for(kafka.bootstrap, session_timeout=LIMIT)
        records = write(settings, TOPIC, 3)
        commit(settings, records[2])
        answers: list[dict[TopicPartition, Committed]] = []
        refusals: list[int | None] = []
        over = Event()

        def ask(question: Callable[[], Answer], into: list[Answer]) -> None:
            while not over.is_set():
                into.append(question())

        with ThreadPoolExecutor(2) as threads:
            asking = [
                threads.submit(ask, lambda: committed_offsets(settings, [PLACE]), answers),
                threads.submit(ask, lambda: refusal(settings), refusals),
            ]
            try:
                for _ in range(RESTARTS):
                    kafka.kill(1)
                    kafka.start(1)
                    committed_offsets(settings, [PLACE])
                    if any(refusals):
                        break
            finally:
                over.set()
            for each in asking:
                each.result()
        assert any(refusals), "no question was refused, so this test proves nothing"
        assert answers == [{PLACE: Committed(records[2].offset)}] * len(answers)
