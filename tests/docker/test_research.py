"""``docker/postgres/research.sh`` on a real PostgreSQL: who may log in where, and read what."""

import os
import subprocess

import psycopg
import pytest

from tests.support.kafka.apache import HOST
from tests.support.kafka.brokers import RunningBroker
from tests.support.paths import DOCKER
from tests.support.postgres import ADMIN, Postgres, programs
from tests.support.tables import keep, of_the_demo, write
from tests.support.waiting import LIMIT
from tests.support.without_identities import KEY

PASSWORD = "Zx81-qmRt7-Lw2'research"
"""With a quote, which must reach the role as it is."""


def prepare(server: Postgres) -> None:
    """Run the script as the image does, but for the address of the server."""
    own = {"PGHOST": HOST, "PGPORT": str(server.port), "PGPASSWORD": server.password, "POSTGRES_USER": ADMIN}
    given = {"POSTGRES_DB": "warehouse", "FHIRLINE_RESEARCH_PASSWORD": PASSWORD}
    ran = subprocess.run(
        ["bash", DOCKER / "postgres" / "research.sh"],
        env={**own, **given, "PATH": f"{programs()}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert PASSWORD not in ran.stdout + ran.stderr


@pytest.mark.long
def test_the_role_keeps_its_tables_and_opens_no_other_database(
    own_broker: RunningBroker, own_postgres: Postgres
) -> None:
    with own_postgres.connect() as admin:
        admin.execute("create database warehouse")
    prepare(own_postgres)
    prepare(own_postgres)
    settings = own_broker.settings(
        tables_url=f"postgresql://research@{HOST}:{own_postgres.port}/research",
        tables_password=PASSWORD,
        tables_without_identities=True,
        research_key=KEY,
    )
    write(settings, of_the_demo(settings))
    keep(settings)
    with own_postgres.connect() as admin:
        admin.execute(f"create role ana login password '{own_postgres.password}' in role researcher")
    with own_postgres.connect("research", "ana") as analyst:
        [(patients,)] = analyst.execute("select count(*) from without_identities.patient").fetchall()
        assert patients == 16
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            analyst.execute("delete from without_identities.patient")
    for user, password in (("ana", own_postgres.password), ("research", PASSWORD)):
        with pytest.raises(psycopg.OperationalError, match='permission denied for database "warehouse"'):
            psycopg.connect(host=HOST, port=own_postgres.port, dbname="warehouse", user=user, password=password)
