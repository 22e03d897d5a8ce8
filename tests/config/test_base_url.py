"""The base URL of the FHIR server, which paths are appended to and which the log shows."""

import pytest

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import load_settings


@pytest.mark.parametrize(
    "url",
    [
        "https://ours:geheim@fhir.example/fhir",
        "https://geheim@fhir.example/fhir",
        "https://fhir.example/fhir?key=geheim",
        "https://fhir.example/fhir#geheim",
        "https:///geheim",
        "https://fhir.example:geheim/fhir",
        "https://[::1/geheim",
        "https://fhir.example/ge heim",
        "https://fhir.example/\ngeheim",
    ],
)
def test_what_no_path_can_be_appended_to_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^FHIRLINE_FHIR_SERVER: ") as refused:
        load_settings(fhir_server=url)
    assert "geheim" not in str(refused.value)


@pytest.mark.parametrize("url", ["http://[::1]:8080/fhir", "https://fhir.example", "https://fhir.example/a/@tenant"])
def test_any_other_is_taken(url: str) -> None:
    assert load_settings(fhir_server=f"{url}/").fhir_server == url
