"""Single records: what is shown of an erased patient's event."""

from fhirline.streams.console.lookup import Lookup
from fhirline.streams.kafka.records import ConsumerRecord
from tests.streams.operate.test_trace_encrypted import raws
from tests.support.encryption import ENCRYPTION
from tests.support.kafka.brokers import RunningBroker

__all__ = ["raws"]


def test_a_record_whose_key_is_destroyed_is_not_shown(own_broker: RunningBroker, raws: list[ConsumerRecord]) -> None:
    """Its bytes are there, and are no event: they must not be shown as one."""
    lookup = Lookup(own_broker.settings(encryption=ENCRYPTION))
    erased, other = raws[0], next(raw for raw in raws if raw.key != raws[0].key)
    assert lookup.raw(str(erased.position)) is None
    assert lookup.raw(str(other.position)) is not None
    lookup.close()
