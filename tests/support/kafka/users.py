"""A secured cluster on which every process is a user of its own, with exactly its privileges (topics/privileges.py)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from fhirline.config.settings import PREFIX, Settings
from fhirline.topics.privileges import PROCESSES, Grant, grants
from tests.support.encryption import ENCRYPTION
from tests.support.kafka.apache import ApacheKafka
from tests.support.kafka.brokers import unavailable
from tests.support.kafka.jars import Unavailable
from tests.support.kafka.secured import Acls, Security
from tests.support.paths import CONFIG
from tests.support.processes import command
from tests.support.receiving import environment

PASSWORDS = {process: f"password-of-{process}" for process in (*PROCESSES, "stranger")}
PARTITIONS = 2
GROUP = "secured"
ERASURE_KEY = "0123456789abcdef0123456789abcdef"
"""All processes have it: one test erases a patient, and a worker without the key would not start after it."""


@dataclass
class Cluster:
    """The secured cluster, where users come by its secure listener only."""

    kafka: ApacheKafka
    security: Security
    acls: Acls
    folder: Path
    settings: Settings
    """A settings object of the super user: names topics and groups, and reads what is on them."""

    def environ(self, user: str, **more: str) -> dict[str, str]:
        """Return the environment of a process that comes as ``user``; the password is in a file."""
        password = self.folder / f"{user}.password"
        if not password.exists():  # a process that was started before may be reading it
            password.touch(mode=0o600)
            password.write_text(f"{PASSWORDS[user]}\n")
        own = {
            "FHIRLINE_SECURITY_PROTOCOL": "SASL_SSL",
            "FHIRLINE_SASL_MECHANISM": "SCRAM-SHA-512",
            "FHIRLINE_SASL_USERNAME": user,
            "FHIRLINE_SASL_PASSWORD_FILE": str(password),
            "FHIRLINE_SSL_CA_FILE": str(self.security.ca),
            "FHIRLINE_PARTITIONS": str(PARTITIONS),
            "FHIRLINE_GROUP": GROUP,
            "FHIRLINE_SESSION_TIMEOUT": "6",
            "FHIRLINE_ERASURE_KEY": ERASURE_KEY,
            "FHIRLINE_ENCRYPTION": ENCRYPTION,
            "FHIRLINE_VENDORS_FILE": str(self.settings.vendors_file),
        }
        return environment(self.kafka.secure_bootstrap, **{**own, **more})

    def settings_of(self, user: str) -> Settings:
        """Return the settings that a process that comes as ``user`` reads from its `environ`."""
        given: dict[str, Any] = {
            name.removeprefix(PREFIX).lower(): value
            for name, value in self.environ(user).items()
            if name.startswith(PREFIX)
        }
        return Settings(_env_file=None, **given)

    @contextmanager
    def without(self, user: str, *lacking: Grant) -> Iterator[None]:
        for grant in lacking:
            self.acls.revoke(user, grant)
        try:
            yield
        finally:
            self.acls.grant(user, lacking)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Topics made by ``fhirline topics apply`` with its own privileges; every process has its own, nobody has more."""
    folder = tmp_path_factory.mktemp("secured")
    security = Security(folder, PASSWORDS)
    vendors = yaml.safe_load((CONFIG / "vendors.yaml").read_text("utf-8"))
    vendors["vendors"]["infermedica"]["tenants"]["clinic"] = {"enrichment": True}
    (folder / "vendors.yaml").write_text(yaml.safe_dump(vendors), "utf-8")
    try:
        with ApacheKafka(security=security) as kafka:
            settings = Settings(
                _env_file=None,
                bootstrap=kafka.bootstrap,
                partitions=PARTITIONS,
                group=GROUP,
                vendors_file=folder / "vendors.yaml",
                encryption=SecretStr(ENCRYPTION),
            )
            acls = Acls(kafka.bootstrap)
            for process in PROCESSES:
                acls.grant(process, grants(process, settings))
            cluster = Cluster(kafka, security, acls, folder, settings)
            for _ in range(2):  # the second finds nothing to do: it may read what it has made
                with command("topics", "apply", environ=cluster.environ("topics")) as topics:
                    assert topics.wait() == 0, topics.output
            assert "Nothing to do" in topics.output
            yield cluster
    except Unavailable as error:
        unavailable(error)
