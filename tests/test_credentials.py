"""Secrets and their check: constant time, several at a time, rotation through files."""

import hashlib
import hmac
from pathlib import Path

import pytest

from config.vendors import Credential
from streams.step1_receive import credentials
from streams.step1_receive.credentials import Secrets, proven

STATIC = Credential(header="x-token", secrets=("A", "B"))
SIGNED = Credential(header="x-signature", scheme="hmac-sha256", prefix="sha256=", secrets=("A",))
BODY = b'{"a": 1}'


def signature(secret: bytes, body: bytes = BODY) -> str:
    return "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    ("sent", "accepted"),
    [("one", True), ("two", True), ("on", False), ("onee", False), ("ONE", False), ("", False), (None, False)],
)
def test_a_static_secret_is_one_of_those_valid(sent: str | None, accepted: bool) -> None:
    assert proven(STATIC, sent, BODY, [b"one", b"two"]) is accepted


def test_a_prefix_is_part_of_what_is_sent() -> None:
    bearer = Credential(header="authorization", prefix="Bearer ", secrets=("A",))
    assert proven(bearer, "Bearer one", BODY, [b"one"])
    assert not proven(bearer, "one", BODY, [b"one"])


def test_no_secret_opens_nothing() -> None:
    assert not proven(STATIC, "", BODY, [])
    assert not proven(SIGNED, signature(b""), BODY, [])


def test_a_signature_is_over_the_raw_bytes() -> None:
    assert proven(SIGNED, signature(b"one"), BODY, [b"zero", b"one"])
    assert proven(SIGNED, "sha256=" + signature(b"one")[7:].upper(), BODY, [b"one"])
    assert not proven(SIGNED, signature(b"one"), BODY + b" ", [b"one"])
    assert not proven(SIGNED, signature(b"one")[7:], BODY, [b"one"])
    assert not proven(SIGNED, "SHA256=" + signature(b"one")[7:], BODY, [b"one"])


def test_bytes_that_are_no_utf8_are_only_wrong() -> None:
    assert not proven(STATIC, b"\xff\xfe".decode("utf-8", "surrogateescape"), BODY, [b"one"])
    assert proven(STATIC, "ключ", BODY, ["ключ".encode()])


@pytest.mark.parametrize("credential", [STATIC, SIGNED], ids=lambda each: each.scheme)
def test_every_secret_is_compared_in_constant_time(credential: Credential, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after one has matched; and only by hmac.compare_digest."""
    compared = []

    def recorded(expected: bytes, given: bytes) -> bool:
        compared.append((expected, given))
        return hmac.compare_digest(expected, given)

    monkeypatch.setattr(credentials, "hmac", type("Hmac", (), {"new": hmac.new, "compare_digest": recorded}))
    sent = "one" if credential is STATIC else signature(b"one")
    assert proven(credential, sent, BODY, [b"one", b"two", b"three"])
    assert len(compared) == 3


def test_a_secret_comes_from_its_variable_or_its_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"from file\n\n  second \r\n")
    secrets = Secrets({"A": "from variable\n", "A_FILE": str(file), "B": " "})
    assert secrets.valid(["A", "B", "C"]) == [b"from variable", b"from file", b"second"]


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    secrets = Secrets({"A_FILE": str(file)})
    assert secrets.valid(["A"]) == []
    file.write_text("old")
    assert secrets.valid(["A"]) == [b"old"]
    file.write_text("old\nnew\n")
    assert secrets.valid(["A"]) == [b"old", b"new"]
    beside = tmp_path / "beside"
    beside.write_text("new")
    beside.replace(file)
    assert secrets.valid(["A"]) == [b"new"]
    file.unlink()
    assert secrets.valid(["A"]) == []


def test_a_file_that_stays_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "secret"
    file.write_text("one")
    secrets = Secrets({"A_FILE": str(file)})
    assert secrets.valid(["A"]) == [b"one"]
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("read again"))
    assert secrets.valid(["A"]) == [b"one"]
