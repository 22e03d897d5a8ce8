"""``fhirline replay --as-of`` and the export of it: what the topics would hold had nothing been received since."""

from pathlib import Path

import pytest

from fhirline.config.settings import Settings
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from tests.support import cli
from tests.support.kafka.brokers import RunningBroker, create_topics
from tests.support.replaying import WRONG, Shadows, environment, replay
from tests.support.running_worker import running, wait_until_as
from tests.support.workload import MESSAGES, Store, events, produce, undisturbed

AT = "2024-06-01T12:02:00Z"
AT_MS = 1_717_243_320_000


def without_messages(store: dict[str, bytes]) -> dict[str, bytes]:
    return {name: value for name, value in store.items() if not name.startswith(MESSAGES)}


def exported(settings: Settings, folder: Path) -> list[bytes]:
    done = cli.run(
        "export", "--to", str(folder / "files"), "--from-prefix", "shadow.", env=environment(settings, folder)
    )
    assert done.returncode == 0, done.stderr
    files = (folder / "files").glob("*.ndjson")
    return sorted(line for file in files for line in file.read_bytes().splitlines())


@pytest.mark.long
def test_nothing_of_what_came_later_is_in_it(tmp_path: Path) -> None:
    """A worker has mapped all events, so its state and its Practitioners have what later events contribute."""
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        settings = RunningBroker("embedded", broker.bootstrap).settings(session_timeout=6)
        raws = produce(settings, events(300, seed=52))
        everything = undisturbed(settings, raws)
        store = Store(settings)
        with running(settings) as worker:
            wait_until_as(everything, store, worker)
            assert worker.stop() == 0
        store.close()
        then = without_messages(undisturbed(settings, [raw for raw in raws if raw.timestamp_ms < AT_MS]))
        since = [name for name, value in then.items() if everything[name] != value]
        changed = {name.partition(" ")[2].partition("/")[0] for name in since}
        assert changed >= {"Encounter", "Patient", "Practitioner"}, "the test would not see what came later"

        made = replay(settings, tmp_path, "--publish", "--as-of", AT, "--to-prefix", "shadow.")
        assert "records and 0 tombstones published" in made.said, made.said
        assert " 0 state entries" in made.said
        shadows = Shadows(settings)
        shadows.read_to_the_end()
        found = {name.removeprefix("shadow."): value for name, value in shadows.values.items()}
        shadows.close()
        assert found.keys() == then.keys()
        assert [name for name in found if found[name] != then[name]] == []
        assert exported(settings, tmp_path) == sorted(then.values())

        again = replay(settings, tmp_path, "--publish", "--as-of", AT, "--to-prefix", "shadow.")
        assert again.code == WRONG
        assert "has records already: choose another prefix" in again.said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--as-of", AT), "--as-of: requires --to-prefix"),
        (("--as-of", "yesterday", "--to-prefix", "june."), "--as-of: not an RFC 3339 instant"),
        (("--as-of", AT, "--to-prefix", "june.", "--tenant", "acme"), "--as-of: takes all events of a vendor"),
        (("--as-of", AT, "--to-prefix", "june.", "--publish", "--tombstones"), "--tombstones: requires all events"),
    ],
)
def test_what_does_not_go_together(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = cli.run("replay", *arguments, env=environment(Settings(_env_file=None), tmp_path))
    assert (done.returncode, done.stderr.count("\n")) == (WRONG, 1)
    assert said in done.stderr
