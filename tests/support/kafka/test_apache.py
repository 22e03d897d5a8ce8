"""The tests' own Apache Kafka: what a broker held is there again after a kill."""

import os

import pytest

from fhirline.streams.kafka.clients import kafka_python
from fhirline.topics.cluster import Cluster
from fhirline.topics.declared import Topic
from tests.support.kafka.brokers import apache, settings_for


@pytest.mark.long
def test_a_killed_broker_comes_back_with_its_data() -> None:
    topic = Topic("kept", 2, 1, "delete", 1_048_576, "key", "for a test")
    with apache(num_network_threads=2) as kafka:
        client = kafka_python(settings_for(kafka.bootstrap))
        with Cluster(client) as cluster:
            assert cluster.apply(cluster.plan([topic])).complete
        first = kafka.pid()
        kafka.kill(1)
        with pytest.raises(ProcessLookupError):
            os.kill(first, 0)
        kafka.start(1)
        second = kafka.pid()
        assert second != first
        with Cluster(client) as cluster:
            assert not cluster.plan([topic]).differences
    with pytest.raises(ProcessLookupError):
        os.kill(second, 0)
