"""Redrives of dead letters of encrypted events. Pure: no broker."""

from dataclasses import replace

import orjson
import pytest

from fhirline.mappers.instants import Instant
from fhirline.streams.kafka.encryption.data_key import DataKey
from fhirline.streams.kafka.headers import EVENT_KEY, KEY_ID, header
from fhirline.streams.kafka.records import ConsumerRecord, stored
from fhirline.streams.operate.dead_letters.cases import cases, letter_of
from fhirline.streams.operate.dead_letters.redrive import NotSent, redriven_record
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.streams.step4_normalize.dead_letter import CANNOT_BE_OPENED, dead_letter
from tests.support.encryption import ENCRYPTION, secrets_of
from tests.support.kafka.brokers import settings_for

RECEIVED_AT = Instant("2024-06-01T12:00:00Z", (1_717_243_200, ""))
SECRETS = secrets_of(settings_for("127.0.0.1:1", encryption=ENCRYPTION))
KEY = DataKey.new(SECRETS, SECRETS.index("altibbi|acme|5"), 2)
EVENT = raw_record("altibbi", "acme", orjson.dumps({"user_id": 5, "id": 1}), RECEIVED_AT, None, 64)
SEALED = replace(EVENT, partition=2, data_key=KEY)
AS_STORED = stored(SEALED).at(2, 0)
OPENED = replace(SEALED.at(2, 0), data_key=KEY)


def redriven(letter: ConsumerRecord, raw: ConsumerRecord | None) -> ConsumerRecord:
    [case] = cases([letter_of(letter)], {}, lambda _: False)
    made = redriven_record(case, letter, raw, "key")
    return replace(made.at(made.partition or 0, 1), data_key=made.data_key)


def test_what_could_not_be_opened_before_is_sent_again_encrypted() -> None:
    """The letter has the index as its key, no value and no data key: those are the raw record's."""
    letter = dead_letter(AS_STORED, None, CANNOT_BE_OPENED).at(0, 0)
    assert letter.data_key is None
    again = redriven(letter, OPENED)
    assert (again.key, again.value, again.data_key) == (EVENT.key, EVENT.value, KEY)
    assert header(again.headers, EVENT_KEY) == EVENT.event_key
    assert header(again.headers, KEY_ID) is None


def test_what_still_cannot_be_opened_is_not_sent() -> None:
    letter = dead_letter(AS_STORED, None, CANNOT_BE_OPENED).at(0, 0)
    with pytest.raises(NotSent, match="cannot be opened"):
        redriven(letter, AS_STORED)


def test_an_encrypted_letter_is_sent_with_its_own_data_key() -> None:
    letter = dead_letter(OPENED, EVENT.value, "mapping-failed")
    again = redriven(replace(letter.at(0, 0), data_key=letter.data_key), None)
    assert (again.key, again.value, again.data_key) == (EVENT.key, EVENT.value, KEY)
