"""``fhirline keys encrypt-existing`` as a command, on the embedded broker, which cannot delete records."""

import os

from fhirline.config.settings import Settings
from fhirline.streams.kafka.headers import COPY_OF, header
from fhirline.topics.declared import raw_topic
from tests.streams.operate.keys.conftest import ERASURE_KEY, PARTITIONS
from tests.streams.operate.keys.plain import FEW, of_few, stored
from tests.support import cli
from tests.support.encryption import ENCRYPTION
from tests.support.workload import produce

NAMED = (*map(raw_topic, FEW),)


def test_a_broker_that_cannot_delete_is_told_of_and_keep_is_asked_for_only_where_it_is_of_use(
    settings: Settings,
) -> None:
    environment = {
        **os.environ,
        "FHIRLINE_BOOTSTRAP": settings.bootstrap,
        "FHIRLINE_PARTITIONS": str(PARTITIONS),
        "FHIRLINE_ENCRYPTION": ENCRYPTION,
        "FHIRLINE_ERASURE_KEY": ERASURE_KEY,
    }

    def run(*options: str, code: int = 0) -> str:
        done = cli.run("keys", "encrypt-existing", *options, env=environment)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    for options in (("--dry-run",), ("--yes",), ("--yes", "--keep")):
        said = run(*options)
        assert "Nothing to encrypt." in said
        assert "--keep" not in said
    written = produce(settings, of_few(4, seed=4), in_clear=True)
    said = run("--dry-run")
    assert "Nothing was done. This embedded broker cannot delete records" in said
    assert "--keep" not in said
    assert "--keep: required here. This embedded broker cannot delete records" in run("--yes", code=2)
    assert len(stored(settings, *NAMED)) == len(written), "nothing was copied"
    said = run("--yes", "--keep", "--reason", "trying it")
    assert "what is plain stays until it ends" in said
    assert "kafka-delete-records" not in said
    assert '"reason":"trying it"' in said.replace('": "', '":"')
    copies = [record for record in stored(settings, *NAMED) if header(record.headers, COPY_OF)]
    assert len(copies) == len(written)
