"""Servers are recognised by what they say of themselves or by their host; each profile names where it is from."""

import pytest

from fhirline.config.fhir_servers import fhir_servers, profile_of
from fhirline.config.settings import Settings


@pytest.mark.parametrize(
    ("software", "base", "profile"),
    [
        ("HAPI FHIR Server", "https://fhir.example.org/fhir", "hapi"),
        ("medplum", "https://fhir.example.org/fhir/R4", "medplum"),
        ("Microsoft FHIR Server", "https://fhir.example.org", "azure"),
        (None, "https://x-y.fhir.azurehealthcareapis.com", "azure"),
        (None, "https://healthcare.googleapis.com/v1/projects/p/locations/l/datasets/d/fhirStores/s/fhir", "google"),
        (None, "https://healthlake.us-east-1.amazonaws.com/datastore/d/r4", "healthlake"),
        ("Another", "https://notmedplum.com/fhir", "generic"),
        (None, "https://abc.execute-api.us-east-1.amazonaws.com/fhir", "generic"),
        (7, "https://fhir.example.org", "generic"),
    ],
)
def test_a_server_is_recognised(software: object, base: str, profile: str) -> None:
    assert profile_of({"software": {"name": software}}, base) == profile


def test_the_setting_offers_every_profile() -> None:
    offered = Settings.model_json_schema()["properties"]["fhir_profile"]["enum"]
    assert offered == ["auto", *fhir_servers().profiles]


def test_only_what_was_tried_here_says_so() -> None:
    assert [name for name, profile in fhir_servers().profiles.items() if profile.tried] == ["hapi"]
