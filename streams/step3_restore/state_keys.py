"""The data key of a state entry, for commands that write entries without their events: replays."""

import orjson

from fhirline.streams.kafka.encryption.data_key import DataKey
from fhirline.streams.kafka.encryption.opener import Opener
from fhirline.topics.declared import STATE_PREFIX


def data_key_of(opener: Opener, topic: str, partition: int, key: bytes) -> DataKey | None:
    """Return the newest living data key of the patient whose entry has this plain key.

    None without encryption, where the patient has no key yet, and for entries that belong to no patient. Blocks.
    """
    owner = orjson.loads(key)[0]
    if opener.ring is None or opener.secrets is None or not owner:
        return None
    vendor = topic.removeprefix(STATE_PREFIX).partition(".")[0]
    index = opener.secrets.index(f"{vendor}|{owner}")
    return opener.ring.living(partition, index)
