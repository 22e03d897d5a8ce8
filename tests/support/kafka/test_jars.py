"""Installation of Apache Kafka for the tests: once, whole, and with the name of what is missing."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.kafka import jars
from tests.support.kafka.brokers import unavailable
from tests.support.kafka.jars import Unavailable, kafka_jars

MAVEN = """#!/bin/sh
for argument; do case $argument in -DoutputDirectory=*) output=${{argument#-DoutputDirectory=}};; esac; done
echo called >> {calls}
mkdir "$output" && echo jar > "$output/kafka_2.13-4.jar"
echo 'no such artifact'
exit {code}
"""


def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> Path:
    """A machine with an empty cache and an ``mvn`` that ends with ``code``; where that notes its calls."""
    calls, programs = tmp_path / "calls", tmp_path / "bin"
    programs.mkdir()
    (programs / "mvn").write_text(MAVEN.format(calls=calls, code=code))
    (programs / "mvn").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    monkeypatch.setattr(jars, "CACHE", tmp_path / "cache")
    return calls


def test_runs_that_start_at_once_fetch_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = machine(tmp_path, monkeypatch, code=0)
    with ThreadPoolExecutor(4) as runs:
        found = set(runs.map(lambda _: kafka_jars(), range(4)))
    assert [path.name for path in found.pop().iterdir()] == ["kafka_2.13-4.jar"]
    assert not found
    assert calls.read_text() == "called\n"


def test_what_maven_says_is_in_the_reason_and_nothing_half_made_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(tmp_path, monkeypatch, code=1)
    with pytest.raises(Unavailable, match="no such artifact"):
        kafka_jars()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["lock"]


def test_without_maven_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jars, "CACHE", tmp_path / "cache")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="no mvn on the PATH"):
        kafka_jars()


def test_what_is_skipped_at_home_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no java"):
        unavailable("no java")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no java"):
        unavailable("no java")
