"""``fhirline keys encrypt-existing`` on a cluster with ACLs, as a user with exactly its rows of docs/security.md."""

import orjson
import pytest

from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.operate.keys.existing.deletion import delete_before
from fhirline.streams.operate.keys.existing.waiting import left
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.topics.declared import dead_letter_topic, raw_topic
from fhirline.topics.privileges import Grant
from tests.support.encryption import ENCRYPTION
from tests.support.erasure import RECEIVED_AT
from tests.support.kafka.users import Cluster
from tests.support.processes import command
from tests.support.workload import produce

pytestmark = pytest.mark.long  # a secured cluster

USER = "encrypt-existing"


def test_it_works_with_exactly_its_privileges_and_names_one_that_is_missing(cluster: Cluster) -> None:
    """The cluster is shared, so that nothing is written: a dry run, and a removal of nothing."""
    (plain,) = produce(
        cluster.settings,
        [raw_record("altibbi", "acme", orjson.dumps({"user_id": 1, "id": 1}), RECEIVED_AT, None, 64)],
        in_clear=True,
    )
    environ = cluster.environ(USER, FHIRLINE_ENCRYPTION=ENCRYPTION)
    with command("keys", "encrypt-existing", "--dry-run", environ=environ) as dry:
        assert dry.wait() == 0, dry.output
    rows = [line.split("\t") for line in dry.output.splitlines() if "raw.altibbi\t" in line]
    assert int(rows[0][1]) >= 1, dry.output
    assert "Nothing was done" in dry.output
    settings = cluster.settings_of(USER)
    left(settings, {plain.topic_partition: plain.offset + 1})
    with LogScanner(settings) as scanner:
        places = scanner.topic_partitions([raw_topic("altibbi"), dead_letter_topic("altibbi")])
        firsts = {place: scanner.first(*place) for place in places}
    delete_before(settings, firsts)
    for lacking in (Grant("Topic", raw_topic("mediquo"), "Delete"), Grant("Topic", "normalizer.keys", "Write")):
        with (
            cluster.without(USER, lacking),
            command("keys", "encrypt-existing", "--dry-run", environ=environ) as refused,
        ):
            assert refused.wait() == 2, refused.output
            assert f"{lacking.operation} on topic {lacking.name}" in refused.output
