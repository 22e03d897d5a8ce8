"""``fhirline tables`` with PostgreSQL on the secured cluster: it joins a group, and may only with Read on its name."""

import pytest

from fhirline.config.settings import Settings
from fhirline.streams.kafka.headers import EVENT_KEY, TENANT, VENDOR, header
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord, from_confluent
from fhirline.topics.declared import OUTCOME, canonical_topic
from fhirline.topics.privileges import Grant
from fhirline.topics.tables_group import shared_tables_group
from tests.support.kafka.users import Cluster
from tests.support.postgres import Postgres
from tests.support.processes import command
from tests.support.tables import different, expected, held, of_the_demo, write
from tests.support.waiting import wait_until

pytestmark = pytest.mark.long


def delete_outcomes_of_erased(settings: Settings) -> None:
    """Delete the outcomes of events that other tests have erased. Tables that are filled later would have them."""
    events: dict[bytes, tuple[str | None, ...]] = {}
    newest: dict[bytes, ConsumerRecord] = {}
    with Scanner(settings) as scanner:
        topics = canonical_topic("Provenance"), OUTCOME
        for message in scanner.read(dict.fromkeys(scanner.topic_partitions(topics))):
            record = from_confluent(message)
            key = record.key or b""
            newest[key] = record
            if record.value is not None:
                events[key] = tuple(header(record.headers, name) for name in (VENDOR, TENANT, EVENT_KEY))
    erased = {events.get(key) for key, record in newest.items() if record.topic != OUTCOME and record.value is None}
    outcomes = [record for record in newest.values() if record.topic == OUTCOME and record.value is not None]
    mine = [record for record in outcomes if events[record.key or b""] in erased]
    write(settings, [ProducerRecord(OUTCOME, record.key or b"", None, record.partition) for record in mine])


def test_tables_in_postgresql_need_read_on_the_group_of_their_database(cluster: Cluster, postgres: Postgres) -> None:
    """Refused at the start and by name without it. With it, the tables follow, and a rebuild runs beside."""
    with postgres.database() as database:
        settings = cluster.settings.model_copy(update={"tables_url": database.url})
        group = shared_tables_group(settings)
        assert group is not None
        environ = cluster.environ("tables", **database.environment)
        with command("tables", environ=environ) as refused:
            assert refused.wait() == 2, refused.output
        [line] = refused.said()
        assert "user tables lacks privileges" in line
        assert f": Read on group {group};" in line
        cluster.acls.grant("tables", [Grant("Group", group, "Read")])
        delete_outcomes_of_erased(settings)
        with command("tables", environ=environ) as tables:
            tables.wait_for("following")
            write(cluster.settings, of_the_demo(cluster.settings))
            wanted = expected(cluster.settings)
            wait_until(
                lambda: not tables.running or different(held(database.rows), wanted) == {},
                lambda: tables.report(f"does not keep the tables: {different(held(database.rows), wanted)}"),
            )
            assert tables.running, tables.output
            with command("tables", "rebuild", "patient", environ=environ) as rebuild:
                assert rebuild.wait() == 0, rebuild.output
            assert different(held(database.rows), wanted) == {}
            assert tables.stop() == 0, tables.output
        assert "AUTHORIZATION" not in tables.output.upper(), tables.output
