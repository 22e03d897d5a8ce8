"""Sealed records: what they show, and what they are bound to."""

import hmac
from dataclasses import replace

import orjson
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.streams.kafka.encryption.data_key import CannotBeOpened, DataKey, _authenticated
from fhirline.streams.kafka.encryption.key_ring import LONGEST, PartitionKeys
from fhirline.streams.kafka.encryption.secrets import (
    DataKeyDamaged,
    EncryptionSecrets,
    WrappingKeyMissing,
    encryption,
    wrapped_by,
)
from fhirline.streams.kafka.headers import headers
from fhirline.streams.kafka.records import ProducerRecord
from tests.support.encryption import ENCRYPTION, INDEX, NEW, OLD, ROTATED

SECRETS = EncryptionSecrets(bytes.fromhex(INDEX), {"2026-05": bytes.fromhex(OLD)})
KEY = DataKey.new(SECRETS, SECRETS.index("mediquo|acme|4711"), 3)
RAW = ProducerRecord(
    "raw.mediquo",
    b"acme|4711",
    b'{"name":"Ana"}',
    3,
    headers(tenant="acme", event_key="ab" * 32, received_at="2024-06-01T12:00:00Z"),
    17,
    data_key=KEY,
)


def settings_of(text: str) -> Settings:
    return Settings(encryption=text, _env_file=None)


def test_a_sealed_record_shows_neither_patient_nor_content() -> None:
    sealed = KEY.seal(RAW)
    shown = (sealed.key or b"") + (sealed.value or b"")
    for planted in (b"4711", b"acme", b"Ana", b"name"):
        assert planted not in shown
    assert sealed.key == KEY.index.encode()
    assert sealed.headers == [*RAW.headers, ("key-id", KEY.number.encode())]
    assert (sealed.topic, sealed.partition, sealed.timestamp_ms) == (RAW.topic, RAW.partition, RAW.timestamp_ms)
    assert KEY.seal(RAW).value != sealed.value, "equal events must not be seen to be equal"
    assert "key=" not in repr(KEY)
    assert INDEX not in repr(SECRETS)


def test_indexes_and_what_is_authenticated_are_those_of_every_release() -> None:
    """Records of any release can be found and opened by every later one."""
    secret = bytes.fromhex(INDEX)
    assert KEY.index == hmac.new(secret, b"patient|mediquo|acme|4711", "sha256").hexdigest()
    bound = f"key|{KEY.index}|3|{KEY.number[:16]}".encode()
    assert KEY.number[16:] == hmac.new(secret, bound, "sha256").hexdigest()[:16]
    entry = b'state|["Patient/1","name"]'
    assert SECRETS.state_name("Patient/1", "name") == hmac.new(secret, entry, "sha256").hexdigest()[:32]
    held = [("key-id", b"1"), ("tenant", b"acme"), ("traceparent", b"2"), ("é", b"")]
    parts = (b"raw.mediquo", b"key", b"tenant", b"acme", "é".encode(), b"")
    assert _authenticated("raw.mediquo", b"key", held) == b"".join(bytes((0, 0, 0, len(part))) + part for part in parts)


@pytest.mark.parametrize("value", [b'{"name":"Ana"}', b"", None])
def test_what_was_sealed_is_opened(value: bytes | None) -> None:
    sealed = KEY.seal(replace(RAW, value=value))
    assert sealed.value is not None
    assert KEY.open(sealed.topic, sealed.key, sealed.value, sealed.headers) == (RAW.key, value)


def test_nothing_of_a_sealed_record_can_be_exchanged() -> None:
    sealed = KEY.seal(RAW)
    other = DataKey.new(SECRETS, SECRETS.index("mediquo|acme|4712"), 3)
    value = sealed.value or b""
    changed = [
        ("dead-letter.mediquo", sealed.key, value, sealed.headers),
        (sealed.topic, other.index.encode(), value, sealed.headers),
        (sealed.topic, sealed.key, value, headers(tenant="other", event_key="ab" * 32)),
        (sealed.topic, sealed.key, value, [*sealed.headers, ("attempt", b"2")]),
        (sealed.topic, sealed.key, value, sealed.headers[1:]),
        (sealed.topic, sealed.key, other.seal(RAW).value or b"", sealed.headers),
        *((sealed.topic, sealed.key, value[:length], sealed.headers) for length in (0, 1, 12, 13, 20, len(value) - 1)),
        *((sealed.topic, sealed.key, _flipped(value, at), sealed.headers) for at in range(len(value))),
    ]
    for topic, key, sent, named in changed:
        with pytest.raises(CannotBeOpened):
            KEY.open(topic, key, sent, named)
    traced = [*sealed.headers, ("traceparent", b"00-0-0-00")]
    assert KEY.open(sealed.topic, sealed.key, value, traced) == (RAW.key, RAW.value), "tracing adds its header later"


def _flipped(value: bytes, at: int) -> bytes:
    return value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]


def test_a_state_entry_keeps_one_key_and_its_tombstone_has_it_too() -> None:
    plain = orjson.dumps(["acme|4711", "Patient/1", "field name Ana"])
    entry = ProducerRecord("normalizer.state.mediquo", plain, b'{"v":"Ana"}', 3, data_key=KEY)
    first, second = KEY.seal(entry), DataKey.new(SECRETS, KEY.index, 3).seal(entry)
    assert first.key == second.key, "compaction keeps the last record of a key, whatever it is sealed with"
    assert first.key.startswith(KEY.index.encode() + b"/")
    tombstone = KEY.seal(replace(entry, value=None))
    assert (tombstone.key, tombstone.value, tombstone.headers) == (first.key, None, [])
    assert b"Ana" not in first.key + (first.value or b"")
    assert KEY.open(first.topic, first.key, first.value or b"", first.headers) == (plain, entry.value)


def test_a_number_is_bound_to_its_patient() -> None:
    """So a key-id that somebody else writes is told from that of a lost key."""
    assert SECRETS.numbered(KEY.index, 3, KEY.number)
    assert not SECRETS.numbered(SECRETS.index("mediquo|acme|4712"), 3, KEY.number)
    assert not SECRETS.numbered(KEY.index, 4, KEY.number), "a copy in another partition is no loss"
    assert not SECRETS.numbered(KEY.index, 3, "0" * 32)


def test_what_is_no_wrapped_key_is_named_as_one_that_cannot_be_unwrapped() -> None:
    """Every gateway may write to the topic of keys."""
    for value in (
        b"",
        b"no JSON",
        b"[]",
        b'{"kek":"2026-05"}',
        b'{"kek":"2026-05","key":7}',
        b'{"kek":"2026-05","key":"AA=="}',
    ):
        with pytest.raises(WrappingKeyMissing):
            SECRETS.unwrap(KEY.name, value)
    for value in (b"", b"[]", b'{"kek":"2026-05","key":"?"}', *(SECRETS.wrap(KEY.name, b"k" * n) for n in (0, 16, 33))):
        with pytest.raises(DataKeyDamaged, match=f"data key {KEY.number} has another form"):
            SECRETS.unwrap(KEY.name, value)
    assert wrapped_by(b'{"kek":"\x1b[2J"}') == ""


def test_records_of_other_forms_are_no_data_keys() -> None:
    keys = PartitionKeys()
    for odd in ("", "junk", "copied/raw.mediquo/0", f"{KEY.index}/", f"{KEY.index}/short", f"/{KEY.number}"):
        keys.apply(odd, b"{}")
    assert keys.wrapped == {}
    for odd in ("x" * 100_000, "junk/erased", f"{KEY.index}/erased/x", f"{KEY.index}/short/destroyed", "/erased"):
        keys.apply(odd, b"2026-11-27T00:00:00Z")
        keys.apply(odd, None)
        keys.apply(odd, b"")
    assert (keys.destroyed, keys.erased) == ({}, {})
    keys.apply(KEY.name, b"{}" * 100_000)
    keys.apply(f"{KEY.index}/erased", b"\xff" * 100_000)
    assert keys.wrapped.keys() == {KEY.name}
    assert keys.erased.keys() == {KEY.index}
    held = [*keys.wrapped.values(), *keys.erased.values()]
    assert max(map(len, held)) <= LONGEST, "what another producer writes takes no memory"


def test_what_another_program_has_encrypted_with_a_data_key_is_not_opened() -> None:
    sealed, cipher, nonce = KEY.seal(RAW), AESGCM(KEY.key), b"0" * 12
    bound = _authenticated(sealed.topic, sealed.key, RAW.headers)
    for plain in (b"", b"\0\0", b"\0\0\0\x02a", b"\0\0\0\x01a", b"\xff\xff\xff\xffa"):
        value = b"\x01" + nonce + cipher.encrypt(nonce, plain, bound)
        with pytest.raises(CannotBeOpened):
            KEY.open(sealed.topic, sealed.key, value, sealed.headers)


def test_a_data_key_is_unwrapped_with_the_key_it_was_wrapped_with() -> None:
    old, rotated = encryption(settings_of(ENCRYPTION)), encryption(settings_of(ROTATED))
    assert old is not None
    assert rotated is not None
    wrapped = old.wrap(KEY.name, KEY.key)
    assert rotated.unwrap(KEY.name, wrapped) == KEY.key
    assert KEY.key not in wrapped
    newly = rotated.wrap(KEY.name, KEY.key)
    with pytest.raises(WrappingKeyMissing, match="2026-11 is missing"):
        old.unwrap(KEY.name, newly)
    with pytest.raises(WrappingKeyMissing, match="2026-05 is another"):
        EncryptionSecrets(bytes.fromhex(INDEX), {"2026-05": bytes.fromhex(NEW)}).unwrap(KEY.name, wrapped)
    with pytest.raises(WrappingKeyMissing, match="2026-05 is another"):
        old.unwrap("another name", wrapped)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nonsense", "entry 1 is not of the form"),
        (f"index:{INDEX}", "no key-encryption key"),
        (f"2026-05:{OLD}", "no index"),
        (f"index:{INDEX} 2026-05:{OLD} 2026-05:{NEW}", "2026-05 is there twice"),
        (f"index:{INDEX} 2026-05:{INDEX}", "the same value"),
        (f"index:{INDEX} 2026-05:{OLD[:-2]}", "entry 2 is not of the form"),
    ],
)
def test_unusable_secrets_are_named_without_their_values(text: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem) as told:
        encryption(settings_of(text))
    assert not any(value in str(told.value) for value in (INDEX, OLD, NEW))


@pytest.mark.parametrize("text", [f"index:{INDEX}", f"2026-05:{OLD}"])
def test_whoever_has_lost_a_secret_is_not_sent_to_make_new_ones(text: str) -> None:
    """A new index secret would be another deployment's: no record could be found with it."""
    with pytest.raises(ConfigurationError, match="for a new deployment only: where events are encrypted, restore them"):
        encryption(settings_of(text))
