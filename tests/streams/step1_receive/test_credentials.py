"""Secrets and their check: constant time, several at a time, rotation through files."""

import hashlib
import hmac
import os
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from fhirline.config.secret import warn_if_exposed
from fhirline.config.settings import PREFIX, Settings
from fhirline.config.vendors import Credential
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.demo.stack import Process
from fhirline.streams.step1_receive import credentials
from fhirline.streams.step1_receive.credentials import Secrets, credential_matches
from tests.support import cli
from tests.support.receiving import SECRETS, SURVEY, create_raw_topics, environment, running_gateway
from tests.support.waiting import LIMIT

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
    assert credential_matches(STATIC, sent, BODY, [b"one", b"two"]) is accepted


def test_a_prefix_is_part_of_what_is_sent() -> None:
    bearer = Credential(header="authorization", prefix="Bearer ", secrets=("A",))
    assert credential_matches(bearer, "Bearer one", BODY, [b"one"])
    assert not credential_matches(bearer, "one", BODY, [b"one"])


def test_without_a_secret_nothing_matches() -> None:
    assert not credential_matches(STATIC, "", BODY, [])
    assert not credential_matches(SIGNED, signature(b""), BODY, [])


def test_a_signature_is_over_the_raw_bytes() -> None:
    assert credential_matches(SIGNED, signature(b"one"), BODY, [b"zero", b"one"])
    assert credential_matches(SIGNED, "sha256=" + signature(b"one")[7:].upper(), BODY, [b"one"])
    assert not credential_matches(SIGNED, signature(b"one"), BODY + b" ", [b"one"])
    assert not credential_matches(SIGNED, signature(b"one")[7:], BODY, [b"one"])
    assert not credential_matches(SIGNED, "SHA256=" + signature(b"one")[7:], BODY, [b"one"])


def test_bytes_that_are_not_utf8_do_not_match() -> None:
    assert not credential_matches(STATIC, b"\xff\xfe".decode("utf-8", "surrogateescape"), BODY, [b"one"])
    assert credential_matches(STATIC, "ключ", BODY, ["ключ".encode()])


@pytest.mark.parametrize("credential", [STATIC, SIGNED], ids=lambda item: item.scheme)
def test_every_secret_is_compared_in_constant_time(credential: Credential, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after one has matched, and only with hmac.compare_digest."""
    compared = []

    def recorded(expected: bytes, given: bytes) -> bool:
        compared.append((expected, given))
        return hmac.compare_digest(expected, given)

    monkeypatch.setattr(credentials, "hmac", type("Hmac", (), {"new": hmac.new, "compare_digest": recorded}))
    sent = "one" if credential is STATIC else signature(b"one")
    assert credential_matches(credential, sent, BODY, [b"one", b"two", b"three"])
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


def test_an_unchanged_file_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "secret"
    file.write_text("one")
    secrets = Secrets({"A_FILE": str(file)})
    assert secrets.valid(["A"]) == [b"one"]
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("read again"))
    assert secrets.valid(["A"]) == [b"one"]


def test_a_file_being_written_keeps_its_secrets(tmp_path: Path) -> None:
    """An editor empties a file before it writes it. A file that stays empty contains no secret."""
    file = tmp_path / "secret"
    secrets = Secrets({"A_FILE": str(file)})
    file.write_text("one")
    assert secrets.valid(["A"]) == [b"one"]
    file.write_text("")
    assert secrets.valid(["A"]) == [b"one"]
    os.utime(file, (0, 0))
    assert secrets.valid(["A"]) == []


def test_a_token_is_changed_under_load_and_no_valid_request_is_refused(tmp_path: Path) -> None:
    """Old; old and new; new: without a restart. A removed token is refused from the next request on."""
    file = tmp_path / "token"
    file.write_text("old\n")
    with EmbeddedBroker() as broker:
        create_raw_topics(broker)
        own = {"FHIRLINE_INFERMEDICA_TOKEN": "", "FHIRLINE_INFERMEDICA_TOKEN_FILE": str(file)}
        with running_gateway(broker.bootstrap, tmp_path, **own) as gateway:
            token, over = "old", threading.Event()
            answers: Counter[tuple[str, int]] = Counter()

            def post(sent: str) -> int:
                return gateway.post("/webhooks/infermedica", SURVEY, x_webhook_infermedica_token=sent).status

            def send() -> None:
                while not over.is_set():
                    sent = token
                    answers[sent, post(sent)] += 1

            senders = [threading.Thread(target=send) for _ in range(4)]
            for sender in senders:
                sender.start()
            try:
                assert (post("old"), post("new")) == (202, 401)
                changes = 0
                while changes < 20 or answers["old", 202] <= 20:  # in place, as an editor does
                    file.write_text("old\nnew\n")
                    assert (post("old"), post("new")) == (202, 202)
                    changes += 1
                token = "new"
                for _ in range(8):  # requests with the old token have been answered
                    post("new")
                over.set()
            finally:
                over.set()
                for sender in senders:
                    sender.join()
            file.write_text("new\n")
            assert (post("old"), post("new")) == (401, 202)
            assert set(answers) <= {("old", 202), ("new", 202)}, answers


SECRET_FIELDS = [name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)]


@pytest.mark.long
def test_every_secret_setting_can_be_a_file_and_is_never_printed(tmp_path: Path) -> None:
    """Neither in repr, nor by ``fhirline settings``, nor by a start that fails."""
    assert len(SECRET_FIELDS) >= 4
    held = {name: f"s3cret-of-{name}" for name in SECRET_FIELDS}
    secrets: dict[str, Any] = {name: SecretStr(value) for name, value in held.items()}
    settings = Settings(_env_file=None, **secrets)
    shown = [repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()]
    variables = {PREFIX + name.upper(): value for name, value in held.items()}
    for arguments, wrong in (
        (["settings"], {}),
        (["worker"], {"FHIRLINE_PARTITIONS": "none"}),
        (["worker"], {"FHIRLINE_SECURITY_PROTOCOL": "SASL_SSL", "FHIRLINE_SASL_MECHANISM": "PLAIN"}),
        (["topics", "list"], {"FHIRLINE_SASL_PASSWORD": '{"s3cret-of-json": '}),
        (["gateway", "--port", "1"], {"FHIRLINE_GATEWAY_HOST": "192.0.2.1"}),
    ):
        done = cli.run(*arguments, env=environment("127.0.0.1:1", **{**variables, **wrong}), cwd=tmp_path)
        assert (done.returncode == 0) is (arguments == ["settings"]), done.stderr
        shown += [done.stdout, done.stderr]
    for name in SECRET_FIELDS:
        assert f"{name}_file" in Settings.model_fields
    assert not [text for text in shown if "s3cret" in text]
    assert not [text for text in shown for secret in SECRETS.values() if secret in text]


def test_no_secret_is_an_argument_of_a_process() -> None:
    """Arguments are visible to everybody who can list the processes: those of the demo's stack."""
    with EmbeddedBroker() as broker:
        create_raw_topics(broker)
        environ = environment(broker.bootstrap)
        gateway = Process("gateway", "gateway", "--port", "0", environment=environ, echo=lambda _: None)
        try:
            gateway.wait_for("gateway listening", LIMIT)
            arguments = {}
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):  # it has ended meanwhile
                    arguments[path.parent.name] = path.read_bytes()
        finally:
            gateway.stop()
    assert b"gateway" in arguments[str(gateway.pid)]
    assert not [text for text in arguments.values() for secret in SECRETS.values() if secret.encode() in text]


def test_a_secret_file_that_others_can_read_is_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "secret"
    file.write_text("one")
    file.chmod(0o600)
    warn_if_exposed("CLOSED_FILE", file)
    assert not caplog.messages
    file.chmod(0o644)
    for _ in range(2):
        warn_if_exposed("OPEN_FILE", file)
    [line] = caplog.messages
    assert line.startswith("OPEN_FILE: other users")
    assert "chmod 600" in line
