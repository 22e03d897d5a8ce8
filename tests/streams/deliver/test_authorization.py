"""Delivery to a real FHIR server behind a proxy that demands credentials, with a real token server."""

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jwt.algorithms import ECAlgorithm

from fhirline.config.settings import Settings
from fhirline.streams.kafka.records import ProducerRecord
from tests.support.cases import cases
from tests.support.delivery import (
    case_records,
    delivering,
    differing,
    lag,
    letters,
    wait_until_delivered,
    write,
)
from tests.support.ehr.fixture import EhrServers
from tests.support.fault_proxy import FaultProxy
from tests.support.kafka.brokers import RunningBroker
from tests.support.processes import Command
from tests.support.token_server import PublicKey, TokenServer
from tests.support.waiting import wait_until

SECRET = "a:secret/with+signs%"
RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP384R1())
USES = 20
"""Requests that a token is good for: more than twice those that are in flight at once."""


def some_records(settings: Settings, every: int = 5) -> Iterator[ProducerRecord]:
    """Return the records that a worker publishes for one in so many golden cases."""
    for number, case in enumerate(cases()[::every]):
        yield from case_records(case, settings, f"case-{number}")


def by_secret(way: str) -> dict[str, str]:
    return {
        "FHIRLINE_FHIR_AUTH": way,
        "FHIRLINE_FHIR_OAUTH_CLIENT_ID": "ours",
        "FHIRLINE_FHIR_OAUTH_CLIENT_SECRET": SECRET,
    }


def by_key(folder: Path, kind: str) -> dict[str, str]:
    """Write an RSA key as PEM, or an EC key as JWK."""
    file = folder / "key"
    if kind == "RS384":
        file.write_bytes(RSA_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    else:
        file.write_text(ECAlgorithm.to_jwk(EC_KEY))
    file.chmod(0o600)
    return {
        "FHIRLINE_FHIR_AUTH": "private_key_jwt",
        "FHIRLINE_FHIR_OAUTH_CLIENT_ID": "ours",
        "FHIRLINE_FHIR_OAUTH_KEY_FILE": str(file),
        "FHIRLINE_FHIR_OAUTH_KEY_ID": kind,
        "FHIRLINE_FHIR_OAUTH_SCOPE": "system/*.cruds",
    }


def token_server(life: float = 600.0, uses: int | None = None) -> TokenServer:
    keys: dict[str, PublicKey] = {"RS384": RSA_KEY.public_key(), "ES384": EC_KEY.public_key()}
    return TokenServer({"ours": SECRET}, life, keys, uses)


@pytest.mark.parametrize("way", ["client_secret_basic", "client_secret_post", "RS384", "ES384"])
def test_tokens_that_end_while_delivering_are_replaced(
    own_broker: RunningBroker, ehr_server: EhrServers, way: str, tmp_path: Path
) -> None:
    """The token endpoint is found in the server's smart-configuration; no secret is in the log."""
    settings, server = own_broker.settings(), ehr_server()
    server.clear()
    expected = write(settings, some_records(settings))
    environ = by_secret(way) if way.startswith("client_secret") else by_key(tmp_path, way)
    with (
        token_server(uses=USES) as tokens,
        FaultProxy(server.base, (), tokens.accepts, token_endpoint=tokens.url) as proxy,
        delivering(settings, proxy.base, FHIRLINE_LOG_LEVEL="debug", **environ) as process,
    ):
        wait_until_delivered(settings, process)
        assert tokens.ways == {environ["FHIRLINE_FHIR_AUTH"]}
        assert tokens.asked > 1
        assert proxy.answered["401"] > 0
    assert process.exit_code == 0, process.report("did not end in order")
    assert letters(settings) == {}
    assert differing(server, expected) == []
    assert SECRET not in process.output
    assert "eyJ" not in process.output, "a token, or an assertion"


def test_a_token_server_that_is_away_is_waited_for(own_broker: RunningBroker, ehr_server: EhrServers) -> None:
    """At the start, and when the token is no longer taken; no dead letter either time."""
    settings, server = own_broker.settings(), ehr_server()
    server.clear()
    expected = write(settings, some_records(settings))
    with token_server() as tokens, FaultProxy(server.base, (), tokens.accepts) as proxy:
        tokens.down = True
        environ = {**by_secret("client_secret_basic"), "FHIRLINE_FHIR_OAUTH_TOKEN_URL": tokens.url}
        with delivering(settings, proxy.base, **environ) as process:
            process.wait_for("the FHIR server does not answer yet")
            assert "no-token" in process.output
            tokens.down = False
            wait_until_delivered(settings, process)
            tokens.down = True
            tokens.revoke()
            expected |= write(settings, some_records(settings, every=7))
            process.wait_for("not delivered yet")
            assert lag(settings) > 0
            tokens.down = False
            wait_until_delivered(settings, process)
    assert letters(settings) == {}
    assert differing(server, expected) == []


def test_credentials_that_are_refused_end_the_process(own_broker: RunningBroker, ehr_server: EhrServers) -> None:
    """By the token server, at the start and later; and by the FHIR server, which takes no token of it."""
    settings, server = own_broker.settings(), ehr_server()
    with token_server() as tokens, FaultProxy(server.base, (), tokens.accepts) as proxy:
        environ = {**by_secret("client_secret_post"), "FHIRLINE_FHIR_OAUTH_TOKEN_URL": tokens.url}
        tokens.refusing = True
        with delivering(settings, proxy.base, **environ) as process:
            ended_as_refused(process, "answered 401 invalid_client")
        tokens.refusing = False
        with delivering(settings, proxy.base, **environ) as process:
            process.wait_for("delivering")
            tokens.refusing = True
            tokens.revoke()
            write(settings, some_records(settings))
            ended_as_refused(process, "answered 401 invalid_client")
        assert lag(settings) > 0
        tokens.refusing = False
        with (
            FaultProxy(server.base, (), lambda _: False) as closed,
            delivering(settings, closed.base, **environ) as process,
        ):
            ended_as_refused(process, "refuses the credentials (401)")
            assert closed.answered["401"] == 2, "one renewal"
    assert letters(settings) == {}


def test_user_and_password_are_sent_with_each_request(
    own_broker: RunningBroker, ehr_server: EhrServers, tmp_path: Path
) -> None:
    """A wrong password ends the process; the password is in a file, and has a colon and letters beyond ASCII."""
    settings, server = own_broker.settings(), ehr_server()
    server.clear()
    expected = write(settings, some_records(settings))
    right = "Basic " + b64encode("fhirline:pass:wörd".encode()).decode()
    password = tmp_path / "password"
    environ = {
        "FHIRLINE_FHIR_AUTH": "basic",
        "FHIRLINE_FHIR_USERNAME": "fhirline",
        "FHIRLINE_FHIR_PASSWORD_FILE": written(password, "pass:word"),
    }
    with FaultProxy(server.base, (), lambda header: header == right) as proxy:
        with delivering(settings, proxy.base, **environ) as process:
            ended_as_refused(process, "refuses the credentials (401)")
        written(password, "pass:wörd")
        with delivering(settings, proxy.base, **environ) as process:
            wait_until_delivered(settings, process)
            assert proxy.answered == {"401": 1}
    assert letters(settings) == {}
    assert differing(server, expected) == []
    assert "wörd" not in process.output


def test_a_token_file_is_read_again_when_another_program_renews_it(
    own_broker: RunningBroker, ehr_server: EhrServers, tmp_path: Path
) -> None:
    """The renewal meets Bundles on their way. A token that stays refused ends the process."""
    settings, server = own_broker.settings(), ehr_server()
    server.clear()
    expected = write(settings, some_records(settings))
    half = lag(settings) // 2
    valid, file = ["first-token"], tmp_path / "token"
    environ = {"FHIRLINE_FHIR_AUTH": "bearer", "FHIRLINE_FHIR_TOKEN_FILE": written(file, valid[0])}
    with FaultProxy(server.base, (), lambda header: header.removeprefix("Bearer ") in valid) as proxy:
        with delivering(settings, proxy.base, **environ) as process:
            wait_until_delivered(settings, process, but=half)
            valid.append("second-token")
            written(file, valid[1])
            del valid[0]
            wait_until_delivered(settings, process)
        assert letters(settings) == {}
        assert differing(server, expected) == []
        del valid[0]
        with delivering(settings, proxy.base, **environ) as process:
            ended_as_refused(process, "refuses the credentials (401)")
    assert "second-token" not in process.output


def written(file: Path, text: str) -> str:
    """Replace a file at once, as programs do that renew secrets; return its path."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o600)
    new.replace(file)
    return str(file)


def ended_as_refused(process: Command, line: str) -> None:
    """Wait until the process ends as one whose credentials are refused."""
    wait_until(lambda: not process.running, lambda: process.report("does not end"))
    assert process.exit_code == 2, process.report("ended otherwise")
    assert any(line in said for said in process.said()), process.output
    assert SECRET not in process.output
