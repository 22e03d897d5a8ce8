"""The id that Kafka gives a topic when it is made: another one where the topic was deleted and made anew."""

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from fhirline.config.errors import KafkaRequestFailed
from fhirline.config.settings import PREFIX, Settings
from fhirline.streams.kafka.clients import librdkafka, new_client

TIMEOUT = 30.0


def topic_id(settings: Settings, topic: str) -> str:
    """Ask the cluster for a topic's id; empty text from a broker before Kafka 2.8. Raises KafkaRequestFailed."""
    client = new_client(AdminClient, librdkafka(settings, **{"log_level": 0, "error_cb": lambda _: None}))
    try:
        found = client.describe_topics(TopicCollection([topic]), request_timeout=TIMEOUT)[topic].result()
    except KafkaException as error:
        raise KafkaRequestFailed(
            f"{PREFIX}BOOTSTRAP: {settings.bootstrap} did not describe topic {topic}: {error.args[0].name()}"
        ) from None
    return id_text(found.topic_id)


def id_text(found: object) -> str:
    """Write a topic's id. Brokers before Kafka 2.8 have none, which the client tells as zero."""
    text = str(found) if found is not None else ""
    return "" if set(text) <= {"A"} else text
