"""A FHIR server over TLS: whose certificate is not the right one is sent nothing, and the code says why."""

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import load_settings
from fhirline.streams.deliver.auth import authorization
from fhirline.streams.deliver.fhir_client import Answer, FhirServer, ServerUnavailable
from tests.support.kafka.secured import Security
from tests.support.raw_server import RawServer, answered


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Security:
    made = Security(tmp_path_factory.mktemp("certificates"))
    made.make_certificates()
    return made


@contextmanager
def serving(certificates: Security) -> Iterator[RawServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.folder / "broker.pem")
    with RawServer(lambda _: answered({}), tls=context) as server:
        yield server


def posted(base: str, ca: Path | None) -> Answer:
    async def send() -> Answer:
        settings = load_settings(
            fhir_server=base, fhir_ca_file=ca, fhir_auth="basic", fhir_username="ours", fhir_password="secret"
        )
        async with FhirServer(settings, authorization(settings)) as server:
            return await server.transaction(b"{}")

    return asyncio.run(send())


def test_the_authority_that_is_set_is_trusted(certificates: Security) -> None:
    with serving(certificates) as server:
        assert posted(server.base, certificates.ca).status == 200
        assert len(server.requests) == 1


@pytest.mark.parametrize("ca", ["other", "system"])
def test_nothing_is_sent_to_a_certificate_of_somebody_else(certificates: Security, ca: str) -> None:
    with serving(certificates) as server:
        with pytest.raises(ServerUnavailable, match=r"^tls$"):
            posted(server.base, certificates.other_ca if ca == "other" else None)
        assert server.requests == []


def test_nothing_is_sent_to_a_certificate_of_another_host(certificates: Security) -> None:
    with serving(certificates) as server:
        with pytest.raises(ServerUnavailable, match=r"^tls$"):
            posted(server.base.replace("127.0.0.1", "localhost"), certificates.ca)
        assert server.requests == []


def test_a_server_without_tls_is_told_apart_from_one_that_is_away() -> None:
    with RawServer(lambda _: answered({})) as server, pytest.raises(ServerUnavailable, match=r"^tls$"):
        posted(server.base.replace("http:", "https:"), None)


def test_a_file_without_certificates_is_named(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    for content in ("", "no certificate"):
        file.write_text(content)
        with pytest.raises(ConfigurationError, match=r"^FHIRLINE_FHIR_CA_FILE: "):
            posted("https://127.0.0.1:9/fhir", file)
