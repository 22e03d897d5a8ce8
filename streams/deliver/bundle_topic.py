"""Check that the offsets in the delivery's state are of the present Bundle topic (fhir-delivery.md §4).

Offsets of a topic that was deleted and made anew begin at zero again. By the offsets of the earlier one all its Bundles
would count as older than what was sent, and a Bundle as the one that waits at its offset.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.streams.deliver.state import DeliveredPartition, sent_record, topic_record
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.kafka.topic_id import topic_id
from fhirline.topics.declared import BUNDLE, DELIVERED

Write = Callable[[Iterable[ProducerRecord]], Awaitable[None]]
"""Writes records, and returns once Kafka has acknowledged all."""


def bundle_topic(settings: Settings) -> str:
    """Ask the cluster for the id of the Bundle topic; empty text where it has none. Raises KafkaRequestFailed."""
    return topic_id(settings, BUNDLE)


async def require_same_topic(state: DeliveredPartition, id: str, write: Write) -> None:
    """Note the topic's id if none is noted. Raises ConfigurationError where the state is of another topic."""
    if id and state.topic is not None and state.topic != id:
        raise ConfigurationError(
            f"topic {BUNDLE} was made anew, or this is another cluster: {DELIVERED} holds offsets of the earlier one. "
            "Once the workers have no lag, run `fhirline deliver --from topics`, then `fhirline deliver` "
            '(docs/operations.md, "Backup and restore")'
        )
    await _note(state, id, write)


async def forget_earlier_offsets(state: DeliveredPartition, id: str, version: int, write: Write) -> None:
    """Note this id as the state's. What was sent stays known, and counts as older than any Bundle of the topic.

    What waits goes on waiting under a name that no Bundle has, with the fill's ``version``. The id is noted last: what
    is interrupted is done again.
    """
    if id and state.topic is not None and state.topic != id:
        earlier = [item for item in state.waiting.values() if item.owner is None]
        waiting = [
            replace(item, offset=version, owner=item.owner or f"{min(item.patients)}/{item.offset}")
            for item in state.waiting.values()
        ]
        await write(item.record(state.partition) for item in waiting)
        await write(item.ended(state.partition) for item in earlier)
        sent = {key: replace(known, offset=0) for key, known in state.sent.items() if known.offset}
        await write(ProducerRecord(DELIVERED, key.encode(), None, state.partition) for key in sent)
        await write(sent_record(key, known, state.partition) for key, known in sent.items())
        state.waiting = {item.name: item for item in waiting}
        state.sent.update(sent)
        state.topic = None
    await _note(state, id, write)


async def _note(state: DeliveredPartition, id: str, write: Write) -> None:
    if id and state.topic is None:
        await write([topic_record(id, state.partition)])
        state.topic = id
