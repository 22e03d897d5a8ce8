"""A replay that is killed at random moments and resumed ends as one that nobody disturbed."""

import os
import random
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fhirline.config.own_command import own_command
from fhirline.config.settings import Settings
from fhirline.streams.operate.replay import folders
from tests.support.replaying import DIFFERS, Replayed, environment, replay, unchanged
from tests.support.running_worker import running, wait_until_as
from tests.support.waiting import LIMIT
from tests.support.workload import Store, events, produce, undisturbed

EVENTS = int(os.environ.get("REPLAY_EVENTS") or 300)
KILLS = int(os.environ.get("REPLAY_KILLS") or 4)
"""Kills of each phase: while it maps and compares, and while it publishes."""
SEED = int(os.environ.get("REPLAY_SEED") or 1)


@dataclass
class Killed:
    """Runs ``fhirline replay`` and kills it, with its processes, at random moments of the time that it needs."""

    settings: Settings
    folder: Path
    environment: dict[str, str]
    rng: random.Random
    kills: list[str] = field(default_factory=list)
    """What each kill left: no run yet, or a run."""

    def run(self, seconds: float, kills: int, *arguments: str) -> Replayed:
        """Kill it ``kills`` times within ``seconds``, then let it finish. A start resumes the run, if there is one."""
        for _ in range(kills):
            process = self.started(*arguments)
            with suppress(subprocess.TimeoutExpired):
                process.wait(self.rng.uniform(0, seconds))
                continue  # it was faster
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(LIMIT)
            self.kills.append("a run" if folders.ids(self.folder / "runs") else "no run yet")
        return replay(self.settings, self.folder, *self.options(*arguments), **self.environment)

    def started(self, *arguments: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            own_command("replay", *self.options(*arguments)),
            env=environment(self.settings, self.folder, **self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def options(self, *arguments: str) -> list[str]:
        found = folders.ids(self.folder / "runs")
        assert len(found) <= 1, "a start that resumes begins no second run"
        return [*(("--resume", found[0]) if found else ()), *arguments]


@pytest.mark.long
def test_killed_at_random_moments(own: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same differences, and the topics that a mapping of all events by the new tables makes."""
    new = {"FHIRLINE_TERMINOLOGY_DIR": str(own.terminology_dir)}
    raws = produce(own, events(EVENTS, seed=SEED))
    store = Store(own)
    with running(own) as worker:
        wait_until_as(undisturbed(own.model_copy(update={"terminology_dir": None}), raws), store, worker)
        assert worker.stop() == 0
    for folder in ("undisturbed", "killed", "after"):
        (tmp_path / folder).mkdir()
    found = replay(own, tmp_path / "undisturbed", "--jobs", "2", **new)
    assert found.code == DIFFERS, found.said
    assert found.lines

    killed = Killed(own, tmp_path / "killed", new, random.Random(SEED))
    began = time.monotonic()
    killed.started("--jobs", "2").wait(LIMIT)
    seconds = time.monotonic() - began
    folders.discard(tmp_path / "killed" / "runs", *folders.ids(tmp_path / "killed" / "runs"))
    compared = killed.run(seconds, KILLS, "--jobs", "2")
    assert (compared.code, compared.lines) == (found.code, found.lines), compared.said
    comparing = [*killed.kills]
    published = killed.run(seconds / 2, KILLS, "--jobs", "2", "--publish")  # it is mapped already
    with capsys.disabled():
        publishing = Counter(killed.kills[len(comparing) :])
        print(f"\n{len(raws)} events, {len(found.lines)} differences; kills while it compared, and what they left: ")
        print(f"{dict(Counter(comparing))}; while it published: {dict(publishing)}; {seconds:.1f} s undisturbed")
    assert comparing, "no kill came before the end"
    store.read_to_the_end()
    assert store.different(undisturbed(own, raws)) == {"missing": [], "differing": [], "unexpected": []}, published.said
    store.close()
    unchanged(replay(own, tmp_path / "after", "--jobs", "2", **new))
