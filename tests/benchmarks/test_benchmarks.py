"""The benchmarks measure what they say: each in small, on the embedded broker. No figure is held to any value."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import NoReturn

import pytest

from benchmarks import core, latency
from benchmarks.__main__ import NAMES, TAKEN, main
from benchmarks.console import PAGES
from benchmarks.mix import SHARES, events, mix
from benchmarks.results import GOALS, TITLES
from fhirline.streams.console.rendering import NAVIGATION
from fhirline.streams.kafka.records import TopicPartition
from fhirline.streams.step3_restore.state import PartitionState
from fhirline.streams.step4_normalize.map_event import map_event

pytestmark = pytest.mark.long
LINUX = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="CPU time of a process is read from /proc")

EVENTS = 400


def test_every_benchmark_has_a_title() -> None:
    assert {name.partition("-")[0] for name in TITLES} == {*NAMES}


def test_output_that_is_a_file_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(SystemExit, match="2"):
        main(["--output", str(file)])
    assert f"--output {file}: is a file; name a folder" in capsys.readouterr().err


def test_interrupted_in_its_first_part_it_says_so_and_measures_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(core, "measure", interrupted)
    assert main(["--output", str(tmp_path / "results")]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_mix_is_seeded_and_holds_its_shares() -> None:
    count = 4_000
    kinds = Counter((event.vendor, event.kind) for event in events(count))
    assert kinds.keys() == SHARES.keys()
    for kind, share in SHARES.items():
        assert abs(kinds[kind] / count - share / 100) < 0.03, kind
    assert mix(50) == tuple(mix.__wrapped__(50))
    assert mix(50) != mix(50, seed=1)


def test_every_event_of_the_mix_is_mapped_and_counted_once() -> None:
    """The benchmarks count events by their Provenance; `shape` asserts that nothing is a dead letter."""
    of = core.raws(300)
    normalize = core.core("spec")
    states: dict[TopicPartition, PartitionState] = {}
    for raw in of:
        state = states.setdefault(raw.topic_partition, PartitionState())
        followed = map_event(raw, normalize, state, core.PARTITIONS)
        state.apply(followed.state_updates)
        assert sum(record.topic == "fhir.r4.Provenance" for record in followed.records) == 1
    assert core.shape(of)["records an event"]["resources"] > 4
    assert len({raw.key for raw in of}) > 50
    assert len({raw.value for raw in of}) == len(of)


def test_each_page_of_the_consoles_navigation_is_measured() -> None:
    assert {path for path, _ in NAVIGATION} <= {path for _, path in PAGES}


@LINUX
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "only",
    [
        "core",
        "validation",
        "worker",
        "idiomatic",
        "floor",
        "librdkafka",
        "gateway",
        "latency",
        "workers",
        "delivery",
        "tables",
        "console",
    ],
)
def test_figures_are_there(only: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FHIRLINE_TABLES_BATCH", "100")
    monkeypatch.setenv("FHIRLINE_BATCH_SIZE", "20")  # so that so few events are several batches
    monkeypatch.setenv("FHIRLINE_SESSION_TIMEOUT", "6")  # the embedded broker lets a group wait for half of it
    monkeypatch.setattr(latency, "WARM_UP_SECONDS", 3.0)
    affinity = os.sched_getaffinity(0)
    arguments = ["--broker", "embedded", "--repeat", "1", "--events", str(EVENTS), "--only", only]
    few = ["--partitions", "2", "--scaling-partitions", "2", "--workers", "2", "--seconds", "2"]
    assert main([*arguments, *few, "--output", str(tmp_path)]) == 0
    assert os.sched_getaffinity(0) == affinity
    found = json.loads((tmp_path / "results.json").read_text("utf-8"))
    measured = found["benchmarks"]
    assert {name.partition("-")[0] for name in measured} == {only}
    assert all(0 <= figures[TAKEN]["median"] < 1 for figures in measured.values())
    for name, figures in measured.items():
        assert len(figures) >= 4, name
        for figure, value in figures.items():
            if figure == "lag after the end":
                assert value["runs"] == [0], name
            elif not figure.startswith(("CPU of", "broker's CPU", TAKEN)):  # 10 ms ticks: may be none in so short a run
                assert value["median"] > 0, f"{name}: {figure}"
    for goal in GOALS:
        if goal.to is None and goal.benchmark == only:
            assert goal.figure in measured[only], goal.text
    page = (tmp_path / "RESULTS.md").read_text("utf-8")
    assert "## Goals" in page
    assert found["machine"]["cpu"] in page
