"""Other configurations of a HAPI server than the one that the other tests deliver to.

Each takes a server of its own, half a minute: one by default, all with ``EHR_CONFIGURATIONS=all``.
"""

import os
from pathlib import Path

import pytest

from tests.streams.deliver.test_erasure import KEY, forget, remaining, reported
from tests.support.delivery import (
    bumped,
    delivering,
    differing,
    erasable,
    golden_records,
    letters,
    versions,
    wait_until_delivered,
    waiting,
    write,
)
from tests.support.ehr.fixture import own_ehr_server
from tests.support.kafka.brokers import RunningBroker
from tests.support.waiting import wait_until

pytestmark = pytest.mark.long

ALL = pytest.mark.skipif(os.environ.get("EHR_CONFIGURATIONS") != "all", reason="EHR_CONFIGURATIONS is not `all`")


@pytest.mark.parametrize(
    ("switches", "environ"),
    [
        pytest.param(
            {"refint": False, "clientid": "ANY", "contained": True, "entries": "20"},
            {"FHIRLINE_DELIVER_ENTRIES": "20"},
            id="any client ids, no referential integrity, 20 entries",
        ),
        pytest.param({"history": False, "tags": "NON_VERSIONED"}, {}, id="no history, tags of all versions", marks=ALL),
        pytest.param({"tags": "INLINE", "placeholders": True, "retry": True}, {}, id="placeholders", marks=ALL),
    ],
)
def test_all_golden_bundles_arrive(
    own_broker: RunningBroker, switches: dict[str, bool | str], environ: dict[str, str], tmp_path: Path
) -> None:
    """As on any other server: nothing is refused, nothing unchanged is sent again, and an erasure leaves nothing."""
    settings = own_broker.settings()
    with own_ehr_server(False, **switches) as server:
        gone = erasable(settings, of_each=1)[0]
        expected = write(settings, [*golden_records(settings), *gone.records])
        with delivering(settings, server.base, **environ, **KEY) as process:
            wait_until_delivered(settings, process)
            assert letters(settings) == {}
            assert differing(server, expected) == []
            assert bumped(server, settings, expected) == []
            assert forget(settings, gone).returncode == 0
            wait_until_delivered(settings, process)
        assert remaining(server, gone) == []
        assert reported(settings, gone, tmp_path)["server"] == {"purged": len(gone.keys)}
        before = versions(server, expected)
        again = own_broker.settings(group="again")
        with delivering(again, server.base, FHIRLINE_GROUP="again", **environ, **KEY) as process:
            wait_until_delivered(again, process)
        assert versions(server, expected) == before


@ALL
def test_a_server_that_deletes_nothing_stops_nobody(own_broker: RunningBroker, tmp_path: Path) -> None:
    """The erasure waits with a dead letter. Other patients' Bundles go on."""
    settings = own_broker.settings()
    with own_ehr_server(delete=False, expunge=False) as server:
        gone, other = erasable(settings, of_each=1)
        write(settings, gone.records)
        with delivering(settings, server.base, **KEY) as process:
            wait_until_delivered(settings, process)
            assert forget(settings, gone).returncode == 0
            wait_until(lambda: waiting(settings) or not process.running, process.output)
            expected = write(settings, other.records)
            wait_until_delivered(settings, process)
        assert differing(server, expected) == []
        assert reported(settings, gone, tmp_path)["server"] == {"not-deleted": len(gone.keys)}
