"""The gateway of all modules here as a process, and its broker."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from tests.streams.step1_receive.gateway.connections import MAX_BODY, MAX_DEPTH
from tests.support.receiving import GatewayProcess, create_raw_topics, running_gateway, vendors_file


@pytest.fixture(scope="package")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        create_raw_topics(running)
        yield running


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gateway")


@pytest.fixture(scope="package")
def gateway(broker: EmbeddedBroker, folder: Path) -> Iterator[GatewayProcess]:
    with running_gateway(
        broker.bootstrap,
        folder,
        FHIRLINE_VENDORS_FILE=str(vendors_file(folder)),
        FHIRLINE_MAX_BODY_BYTES=str(MAX_BODY),
        FHIRLINE_MAX_DEPTH=str(MAX_DEPTH),
        FHIRLINE_LOG_LEVEL="debug",
        TEST_SIGNING_OLD="old",
        TEST_SIGNING_NEW_FILE=str(folder / "signing"),
    ) as running:
        yield running


@pytest.fixture(scope="package")
def hasty(broker: EmbeddedBroker, folder: Path) -> Iterator[GatewayProcess]:
    """A gateway that waits a second for a head and for a body, which an honest sender on a busy machine may need."""
    with running_gateway(broker.bootstrap, folder, FHIRLINE_GATEWAY_READ_TIMEOUT="1") as running:
        yield running
