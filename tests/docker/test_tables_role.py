"""``docker/postgres/fhirline.sh`` on a real PostgreSQL: the tables' role owns its database, and is no superuser."""

import os
import subprocess

import psycopg
import pytest

from tests.support.kafka.apache import HOST
from tests.support.kafka.brokers import RunningBroker
from tests.support.paths import DOCKER
from tests.support.postgres import Postgres, programs
from tests.support.tables import keep, of_the_demo, write
from tests.support.waiting import LIMIT

PASSWORD = "Zx81-qmRt7-Lw2'tables"
"""With a quote, which must reach the role as it is."""

RESEARCH = "Zx81-qmRt7-Lw2-research"


def run(server: Postgres, script: str, user: str, password: str) -> None:
    """Run a script as the image does, but for the address of the server."""
    own = {"PGHOST": HOST, "PGPORT": str(server.port), "PGPASSWORD": password, "POSTGRES_USER": user}
    given = {
        "POSTGRES_DB": "warehouse",
        "FHIRLINE_TABLES_PASSWORD": PASSWORD,
        "FHIRLINE_RESEARCH_PASSWORD": RESEARCH,
    }
    ran = subprocess.run(
        ["bash", DOCKER / "postgres" / script],
        env={**own, **given, "PATH": f"{programs()}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert PASSWORD not in ran.stdout + ran.stderr


@pytest.mark.long
def test_the_role_keeps_its_tables_and_is_no_superuser(own_broker: RunningBroker, own_postgres: Postgres) -> None:
    """As its owner it opens its own database and no other one, once `research.sh` has run too."""
    with own_postgres.connect() as admin:
        admin.execute(f"create role first superuser login password '{own_postgres.password}'")
        admin.execute("create database warehouse owner first")
    run(own_postgres, "fhirline.sh", "first", own_postgres.password)
    run(own_postgres, "research.sh", "postgres", own_postgres.password)
    with own_postgres.connect() as admin:
        found = admin.execute("select rolsuper, rolcreaterole, rolcreatedb from pg_roles where rolname = 'fhirline'")
        assert found.fetchall() == [(False, False, False)]
        assert admin.execute("select rolpassword from pg_authid where rolname = 'first'").fetchall() == [(None,)]
    settings = own_broker.settings(
        tables_url=f"postgresql://fhirline@{HOST}:{own_postgres.port}/warehouse", tables_password=PASSWORD
    )
    write(settings, of_the_demo(settings))
    keep(settings)
    with psycopg.connect(
        host=HOST, port=own_postgres.port, dbname="warehouse", user="fhirline", password=PASSWORD
    ) as own:
        [(patients,)] = own.execute("select count(*) from fhir.patient").fetchall()
        assert patients
    with pytest.raises(psycopg.OperationalError, match='permission denied for database "research"'):
        psycopg.connect(host=HOST, port=own_postgres.port, dbname="research", user="fhirline", password=PASSWORD)
