"""Records that a process sends in one turn of its event loop: each succeeds or fails for itself."""

import asyncio
import os
from collections.abc import Iterator

import pytest
import uvloop

from fhirline.config.settings import Settings
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.kafka.headers import KEY_ID, header
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord, from_confluent
from fhirline.streams.step1_receive import raw_producer
from fhirline.streams.step1_receive.raw_producer import KafkaUnavailable, RawProducer, RecordTooLarge
from fhirline.topics.declared import KEYS, raw_topic
from tests.support.encryption import ENCRYPTION
from tests.support.kafka.brokers import create_topics, settings_for

RAW = raw_topic("altibbi")
SECRETS = pytest.mark.parametrize("secrets", [None, ENCRYPTION], ids=["in clear", "encrypted"])


@pytest.fixture
def bootstrap() -> Iterator[str]:
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        yield broker.bootstrap


def raw(number: int, size: int = 20) -> ProducerRecord:
    return ProducerRecord(RAW, f"acme|{number}".encode(), os.urandom(size), timestamp_ms=1_717_243_300_123)


def stored(settings: Settings, topic: str) -> list[ConsumerRecord]:
    with LogScanner(settings) as scanner:
        return [from_confluent(item) for item in scanner.stored(dict.fromkeys(scanner.topic_partitions([topic])))]


@SECRETS
def test_a_record_that_is_too_large_stops_no_other(bootstrap: str, secrets: str | None) -> None:
    settings = settings_for(bootstrap, encryption=secrets)

    async def send() -> list[BaseException | None]:
        producer = RawProducer(settings)
        records = [raw(1), raw(2, settings.message_max_bytes), raw(3), raw(1), raw(2, settings.message_max_bytes)]
        found = await asyncio.gather(*map(producer.send, records), return_exceptions=True)
        found += await asyncio.gather(producer.send(raw(3)), return_exceptions=True)
        assert await producer.stop() == 0
        return found

    first, large, third, again, larger, later = uvloop.run(send())
    assert [type(item) for item in (large, larger)] == [RecordTooLarge] * 2
    assert [first, third, again, later] == [None] * 4
    written = stored(settings, RAW)
    assert len(written) == 4
    names = {(record.key or b"").decode() for record in stored(settings, KEYS)}
    for record in written:
        if secrets:
            assert f"{(record.key or b'').decode()}/{header(record.headers, KEY_ID)}" in names
        else:
            assert (record.key or b"").startswith(b"acme|")


@SECRETS
def test_a_full_queue_is_the_senders_error_alone(
    bootstrap: str, secrets: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records that were in the queue before are written, and so are those that come later."""
    monkeypatch.setattr(raw_producer, "QUEUE_KBYTES", 64)
    settings = settings_for(bootstrap, encryption=secrets)

    async def send() -> list[BaseException | None]:
        producer = RawProducer(settings)
        records = [raw(number, 30_000) for number in range(8)]
        found = await asyncio.gather(*map(producer.send, records), return_exceptions=True)
        await producer.send(raw(99))
        assert await producer.stop() == 0
        return found

    answers = uvloop.run(send())
    refused = [item for item in answers if item is not None]
    assert {(type(item), str(item)) for item in refused} == {(KafkaUnavailable, "_QUEUE_FULL")}
    assert 0 < len(refused) < 8
    assert len(stored(settings, RAW)) == 8 - len(refused) + 1


@SECRETS
def test_what_a_sender_cancels_at_once_is_not_written(bootstrap: str, secrets: str | None) -> None:
    settings = settings_for(bootstrap, encryption=secrets)

    async def send() -> None:
        producer = RawProducer(settings)
        await producer.send(raw(1))  # knows the topics from now on
        sending = asyncio.ensure_future(producer.send(raw(2)))
        await asyncio.sleep(0)  # until it waits
        sending.cancel()
        await producer.send(raw(1))
        assert sending.cancelled()
        assert await producer.stop() == 0

    uvloop.run(send())
    assert len(stored(settings, RAW)) == 2
    assert len(stored(settings, KEYS)) == (1 if secrets else 0)
