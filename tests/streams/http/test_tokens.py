"""OAuth tokens: fetched once, renewed in time; errors name the cause and contain no secret."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.streams.http import tokens
from fhirline.streams.http.tokens import (
    Authenticate,
    TokenRefused,
    TokenSource,
    secret_in_form,
    secret_in_header,
    token_endpoint,
)
from fhirline.streams.kafka.oauth import token_source
from tests.support.token_server import TokenServer

SECRET = "a:secret/with+signs%"


class Time:
    """Replace the clock of the module under test, so that no test waits for a token to expire."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(tokens, "time", made)
    return made


def test_a_token_is_used_for_three_quarters_of_its_lifetime(clock: Time) -> None:
    with TokenServer({"ours": SECRET}, life=100) as server:
        source = TokenSource(server.url, ours(), "kafka write")
        first, expires_at = source.token()
        assert expires_at == clock.now + 100
        clock.now += 74
        assert source.token() == (first, expires_at)
        clock.now += 2
        second, _ = source.token()
        assert second != first
        assert (server.asked, server.scopes) == (2, ["kafka write"] * 2)


def test_the_current_token_is_used_while_the_endpoint_is_down(clock: Time) -> None:
    with TokenServer({"ours": SECRET}, life=100) as server:
        source = TokenSource(server.url, ours())
        first, _ = source.token()
        server.down = True
        clock.now += 90
        assert source.token()[0] == first
        clock.now += 11
        with pytest.raises(TokenRefused, match=f"{server.url} answered 503") as away:
            source.token()
        assert away.value.temporary
        server.down = False
        assert source.token()[0] != first


def test_a_secret_is_changed_in_its_file_while_running(tmp_path: Path, clock: Time) -> None:
    file = tmp_path / "secret"
    file.write_text("old")
    file.chmod(0o600)
    with TokenServer({"ours": "old"}, life=100) as server:
        source = token_source(settings(server.url, sasl_oauth_client_secret_file=file))
        source.token()
        server.clients["ours"] = "new"
        file.write_text("new\n")
        clock.now += 80
        source.token()
        assert server.asked == 2


@pytest.mark.parametrize("by", [secret_in_header, secret_in_form])
def test_errors_do_not_contain_the_secret(by: Callable[[str, Callable[[], str]], Authenticate]) -> None:
    with TokenServer({"ours": SECRET}) as server:
        with pytest.raises(TokenRefused) as refused:
            TokenSource(server.url, by("ours", lambda: "wrong-secret")).token()
        hint = "check client id, secret or key, and scope"
        assert str(refused.value) == f"{server.url} answered 401 invalid_client: {hint}"
        assert not refused.value.temporary
    with pytest.raises(TokenRefused, match="Connection refused"):
        TokenSource(server.url, ours()).token()


def test_a_token_that_was_refused_is_replaced_once(clock: Time) -> None:
    with TokenServer({"ours": SECRET}, life=100) as server:
        source = TokenSource(server.url, secret_in_form("ours", lambda: SECRET))
        first, _ = source.token()
        assert source.held() == first
        second, _ = source.token(refused=first)
        assert source.token(refused=first) == source.token()  # another caller was refused with the first one too
        assert (source.held(), server.asked, server.ways) == (second, 2, {"client_secret_post"})
        server.down = True
        with pytest.raises(TokenRefused):
            source.token(refused=second)


def test_the_endpoint_is_found_in_the_configuration_of_the_fhir_server() -> None:
    with TokenServer({"ours": SECRET}) as server:
        at = f"{server.url}/.well-known/smart-configuration"
        assert token_endpoint(at) == server.url
        server.url = "http://elsewhere.example/token"
        with pytest.raises(TokenRefused, match="names no token_endpoint at https://"):
            token_endpoint(at)


def ours() -> Authenticate:
    return secret_in_header("ours", lambda: SECRET)


def settings(url: str | None, **more: Any) -> Settings:
    given: dict[str, Any] = {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "OAUTHBEARER",
        "sasl_oauth_token_url": url,
        "sasl_oauth_client_id": "ours",
        "sasl_oauth_client_secret": SECRET,
        **more,
    }
    return Settings(_env_file=None, **given)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"url": None}, "FHIRLINE_SASL_OAUTH_TOKEN_URL is not set"),
        ({"url": "http://idp.example/token"}, "FHIRLINE_SASL_OAUTH_TOKEN_URL: must be https"),
        ({"sasl_oauth_client_id": None}, "FHIRLINE_SASL_OAUTH_CLIENT_ID is not set"),
        ({"sasl_oauth_client_secret": None}, r"FHIRLINE_SASL_OAUTH_CLIENT_SECRET \(or _FILE\) is not set"),
        ({"sasl_oauth_client_secret_file": Path("/nowhere")}, "FHIRLINE_SASL_OAUTH_CLIENT_SECRET_FILE: No such file"),
        ({"sasl_oauth_ca_file": Path("/nowhere")}, "FHIRLINE_SASL_OAUTH_CA_FILE: No such file"),
    ],
)
def test_a_setting_that_is_missing_or_wrong_is_named(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named) as error:
        token_source(settings(**{"url": "https://idp.example/token", **wrong}))
    assert SECRET not in str(error.value)
