"""Files of credentials while another program writes them anew."""

import asyncio
from pathlib import Path

import pytest

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import load_settings
from fhirline.streams.deliver.auth import authorization


@pytest.mark.parametrize("written", ["", None, "two\nlines"])
def test_a_file_that_is_being_written_ends_nothing(tmp_path: Path, written: str | None) -> None:
    """The credentials that were read last are sent. Only where the server refuses them is the file named."""
    file = tmp_path / "token"
    file.write_text("first")
    file.chmod(0o600)
    settings = load_settings(fhir_server="https://x.example", fhir_auth="bearer", fhir_token_file=file)
    sending = authorization(settings)
    file.unlink() if written is None else file.write_text(written)
    first = asyncio.run(sending.headers())
    assert first == {"Authorization": "Bearer first"}
    with pytest.raises(ConfigurationError, match="FHIRLINE_FHIR_"):
        asyncio.run(sending.renewed(first))
    with pytest.raises(ConfigurationError, match="FHIRLINE_FHIR_"):
        authorization(settings)
    file.write_text("second")
    assert asyncio.run(sending.headers()) == {"Authorization": "Bearer second"}
