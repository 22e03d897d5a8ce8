"""A replay that publishes while a worker and ``fhirline tables`` run: the tables are those of the changed mapping."""

from pathlib import Path

import pytest

from fhirline.config.settings import Settings
from tests.support.expected_tables import different, expected, held
from tests.support.postgres import Postgres
from tests.support.replaying import own, replay
from tests.support.running_worker import running, wait_until_as
from tests.support.tables import keeping
from tests.support.waiting import wait_until
from tests.support.workload import Store, events, produce, undisturbed

__all__ = ["own"]

pytestmark = pytest.mark.long

FEMALE = "select count(*) from fhir.patient where vendor = 'azodha' and gender = 'female'"


def test_the_tables_follow_a_replay_that_publishes(own: Settings, postgres: Postgres, tmp_path: Path) -> None:
    """Also events that come meanwhile. The changed row of a code table is in the rows, and in no other column."""
    new = {"FHIRLINE_TERMINOLOGY_DIR": str(own.terminology_dir)}
    raws = produce(own, events(200, seed=21))
    store = Store(own)
    with postgres.database() as database, keeping(own, **database.environment) as tables:

        def wait_for_tables() -> None:
            wanted = expected(own)
            wait_until(
                lambda: not tables.running or different(held(database.rows), wanted) == {},
                lambda: f"the tables differ: {different(held(database.rows), wanted)}",
            )
            assert tables.running, tables.report("has ended")

        with running(own) as worker:
            wait_until_as(undisturbed(own.model_copy(update={"terminology_dir": None}), raws), store, worker)
        wait_for_tables()
        [(before,)] = database.rows(FEMALE)
        assert before
        with running(own, **new) as worker:
            raws += produce(own, events(30, seed=22))
            published = replay(own, tmp_path, "--publish", **new)
            assert " published" in published.said, published.said
            in_order = sorted(raws, key=lambda raw: (raw.topic, raw.partition, raw.offset))
            wait_until_as(undisturbed(own, in_order), store, worker)
        wait_for_tables()
        assert database.rows(FEMALE) == [(0,)]
        assert tables.stop() == 0, tables.output
    store.close()
