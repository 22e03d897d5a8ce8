"""The process of a replay that the console begins: whatever fails while it is followed, it runs no longer."""

import asyncio
from contextlib import closing
from pathlib import Path

import pytest

from fhirline.config.errors import ConfigurationError
from fhirline.streams.console import replays
from fhirline.streams.console.replays import Replay, Replays
from fhirline.streams.operate.replay import folders
from fhirline.streams.operate.replay.journal import Batch, Journal
from fhirline.streams.operate.replay.view import events_line, failures
from tests.support.waiting import LIMIT


async def ended(folder: Path) -> Replay:
    """Begin a replay that ends at once, since it has an option that there is not, and wait until it does not run."""
    found = Replays(folder)
    await found.begin(Replay("compare", "altibbi", "", None), ["--nonsense"])
    assert found.current is not None
    async with asyncio.timeout(LIMIT):
        while found.running:
            await found.current.changed.wait()
    return found.current


def test_a_replay_that_fails_has_its_exit_code_and_no_run(tmp_path: Path) -> None:
    (tmp_path / "20260101-101500-4711").mkdir()
    done = asyncio.run(ended(tmp_path))
    assert (done.exit_code, done.run) == (2, None)
    assert any("--nonsense" in line for line in done.progress)


@pytest.mark.parametrize("erased", [[], [1]])
@pytest.mark.parametrize("failed", [[], [(2, "empty", "")]])
def test_failed_events_are_read_from_the_line_that_counts_them(
    tmp_path: Path, erased: list[int], failed: list[tuple[int, str, str]]
) -> None:
    with closing(Journal(tmp_path / "journal.sqlite")) as journal:
        journal.save(Batch(mapped=[0, 1, 2], erased=erased, failed=failed), 3, live=False)
        done = Replay("compare", "altibbi", "", None)
        done.printed.append(events_line([journal], failures([journal])))
    assert done.failed == bool(failed), done.printed


@pytest.mark.parametrize("fails", ["listing its run", "reading its lines"])
def test_a_replay_that_cannot_be_followed_runs_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    answers = iter([list[str]()])

    def listed(_: Path) -> list[str]:
        for answer in answers:
            return answer
        raise ConfigurationError("FHIRLINE_REPLAY_DIR: cannot be read")

    async def read(*_: object) -> None:
        raise BrokenPipeError

    if fails == "listing its run":
        monkeypatch.setattr(folders, "ids", listed)
    else:
        monkeypatch.setattr(replays, "_read", read)
    done = asyncio.run(ended(tmp_path))
    assert done.exit_code is not None
    assert done.run is None
