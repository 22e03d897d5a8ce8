"""docs/security.md names the privileges and the settings that there are."""

import re
from pathlib import Path

from fhirline.config.settings import PREFIX, Settings
from fhirline.streams.kafka.acl_check import missing_acls
from fhirline.topics.privileges import table
from tests.support.kafka.brokers import settings_for
from tests.support.paths import CONFIG, ROOT

DOCUMENTATION = (ROOT / "docs" / "security.md").read_text("utf-8")


def test_the_documentation_shows_the_privileges_that_are_tested_here() -> None:
    """``python -c "from fhirline.topics.privileges import table; print(table())"`` prints the table."""
    shown = DOCUMENTATION.partition("<!-- privileges -->\n")[2]
    assert shown.partition("\n<!-- /privileges -->")[0] == table()


def test_every_setting_that_the_documentation_names_exists() -> None:
    named = set(re.findall(r"FHIRLINE_[A-Z_]+[A-Z]", DOCUMENTATION))
    assert len(named) > 15
    secrets = set(re.findall(r"FHIRLINE_[A-Z_]+_SECRET", (CONFIG / "vendors.yaml").read_text("utf-8")))
    assert named <= {PREFIX + name.upper() for name in Settings.model_fields} | secrets


def test_replacing_certificates_is_not_mistaken_for_a_missing_privilege(tmp_path: Path) -> None:
    settings = settings_for("127.0.0.1:9", security_protocol="SSL", ssl_ca_file=tmp_path / "gone.pem")
    assert missing_acls(settings, "worker") == ""
