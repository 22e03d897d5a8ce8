"""``fhirline tables`` with PostgreSQL on the secured cluster: it joins a group, and may only with Read on its name."""

import pytest

from fhirline.topics.privileges import Grant
from fhirline.topics.tables_group import shared_tables_group
from tests.support.expected_tables import different, expected, held
from tests.support.kafka.users import Cluster
from tests.support.postgres import Postgres
from tests.support.processes import command
from tests.support.tables import of_the_demo, write
from tests.support.waiting import wait_until

pytestmark = pytest.mark.long


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
