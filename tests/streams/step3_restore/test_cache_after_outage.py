"""After a broker was killed, the cache learns again where its partitions end."""

import pytest

from fhirline.streams.kafka.encryption.opener import Opener
from fhirline.streams.step3_restore.state import StateCache
from fhirline.topics.declared import state_topic
from tests.support.kafka.brokers import apache, create_topics, settings_for
from tests.support.waiting import wait_until

pytestmark = pytest.mark.long  # it needs Apache Kafka

TOPIC = state_topic("altibbi")


def test_a_cache_that_looked_before_an_outage_is_not_behind_for_ever() -> None:
    """The client of before is refused with FENCED_LEADER_EPOCH; partitions that cannot be asked count as behind."""
    with apache() as kafka:
        create_topics(kafka.bootstrap)
        settings = settings_for(kafka.bootstrap)
        cache = StateCache(settings, TOPIC, opener=Opener(settings))
        cache.assigned(range(6))
        cache.restore(range(6))
        wait_until(lambda: not cache.partitions_behind(), "the cache was behind before the outage")
        kafka.kill(1)
        assert cache.partitions_behind() == {*range(6)}
        kafka.start(1)
        kafka.wait_for([1])
        wait_until(lambda: not cache.partitions_behind(), "the cache is still behind after the outage")
