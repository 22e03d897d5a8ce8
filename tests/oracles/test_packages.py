"""Installation of the oracles for the tests: once, whole, and with the name of what is missing."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.oracles import packages
from tests.oracles.packages import MANIFESTS, Unavailable, node_modules, unavailable

NPM = """#!/bin/sh
echo "$1 $(ls)" >> {calls}
mkdir node_modules
echo 'no such package'
exit {code}
"""


def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> Path:
    """A machine with an empty cache and an ``npm`` that ends with ``code``; where that notes its calls."""
    calls, programs = tmp_path / "calls", tmp_path / "bin"
    programs.mkdir()
    for name, text in (("npm", NPM.format(calls=calls, code=code)), ("node", "#!/bin/sh\n")):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    monkeypatch.setattr(packages, "CACHE", tmp_path / "cache")
    return calls


def test_runs_that_start_at_once_install_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = machine(tmp_path, monkeypatch, code=0)
    with ThreadPoolExecutor(4) as runs:
        found = set(runs.map(lambda _: node_modules(), range(4)))
    assert [item.is_dir() for item in found] == [True]
    assert calls.read_text().split() == ["ci", "package-lock.json", "package.json"]


def test_what_npm_says_is_in_the_reason_and_nothing_half_made_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(tmp_path, monkeypatch, code=1)
    with pytest.raises(Unavailable, match="no such package"):
        node_modules()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["lock"]


def test_without_node_or_npm_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(tmp_path, monkeypatch, code=0)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin" / "npm").unlink()
    with pytest.raises(Unavailable, match="no npm on the PATH"):
        node_modules()
    (tmp_path / "bin" / "node").unlink()
    with pytest.raises(Unavailable, match="no node on the PATH"):
        node_modules()


def test_what_is_skipped_at_home_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no node"):
        unavailable("no node")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no node"):
        unavailable("no node")


def test_versions_are_exact_and_no_registry_is_named() -> None:
    manifest, lock = (json.loads(path.read_text("utf-8")) for path in MANIFESTS)
    installed = {name: package for name, package in lock["packages"].items() if name}
    assert manifest["dependencies"] == {
        name: installed[f"node_modules/{name}"]["version"] for name in manifest["dependencies"]
    }
    assert all("integrity" in item or item.get("inBundle") for item in installed.values())
    assert not any("resolved" in item for item in installed.values())
