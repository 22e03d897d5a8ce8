"""Wrong settings and refused credentials end the start of ``fhirline enrich``."""

from pathlib import Path

import pytest

from fhirline.config.vendors import load_vendors
from tests.support.enriching import TENANT, enriching
from tests.support.infermedica_server import InfermedicaServer
from tests.support.kafka.brokers import RunningBroker
from tests.support.paths import CONFIG


def test_refused_credentials_end_the_start(own_broker: RunningBroker, api: InfermedicaServer, vendors: Path) -> None:
    api.client_secret = "another"
    with enriching(own_broker, api, vendors) as process:
        assert process.wait() == 2
    assert "refuses the OAuth client credentials (token-http-401)" in process.report("said")


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("FHIRLINE_INFERMEDICA_URL", "http://intake.example.org", "FHIRLINE_INFERMEDICA_URL: must be https://"),
        ("FHIRLINE_INFERMEDICA_CLIENT_ID", "", "FHIRLINE_INFERMEDICA_CLIENT_ID is not set"),
        ("FHIRLINE_INFERMEDICA_CLIENT_SECRET_FILE", "nowhere", "FHIRLINE_INFERMEDICA_CLIENT_SECRET_FILE: No such file"),
        ("FHIRLINE_VENDORS_FILE", "", "has `enrichment: true`"),
    ],
)
def test_wrong_settings_end_the_start(
    own_broker: RunningBroker, api: InfermedicaServer, vendors: Path, setting: str, value: str, told: str
) -> None:
    if setting == "FHIRLINE_VENDORS_FILE":
        vendors.write_text((CONFIG / "vendors.yaml").read_text("utf-8"), "utf-8")
        value = str(vendors)
    with enriching(own_broker, api, vendors, **{setting: value}) as process:
        assert process.wait() == 2
    assert told in process.report("said")


def test_vendors_file_of_the_tests_is_valid(vendors: Path) -> None:
    assert load_vendors(vendors)["infermedica"].settings(TENANT).enrichment
