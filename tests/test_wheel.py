"""The wheel: it installs one import name, ``fhirline``, its data and its types, and gets along with other packages."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.support.paths import ROOT

SOURCES = ("pyproject.toml", "README.md", "LICENSE", "src", "config", "topics", "mappers", "streams")
TOPS = ("config", "topics", "mappers", "streams")
USER_PROGRAM = """
from pathlib import Path
from typing import Any, assert_type

import fhirline


def summary(body: bytes, state: fhirline.InMemoryState) -> list[str]:
    options = fhirline.Options(vendors_file=Path("vendors.yaml"), validation="off")
    try:
        event = fhirline.normalize(body, vendor="altibbi", state=state, options=options)
    except fhirline.UnreadableBody as error:
        return [error.code]
    except fhirline.ConfigurationError as error:
        assert_type(error, fhirline.ConfigurationError)
        raise
    assert_type(event, fhirline.NormalizedEvent)
    assert_type(event.bundle, dict[str, Any] | None)
    assert_type(event.resources, list[dict[str, Any]])
    assert_type(event.outcome_json, bytes | None)
    problems: list[fhirline.Problem] = [problem for refusal in event.refusals for problem in refusal.problems]
    return [flag.code for flag in event.flags] + [problem.path for problem in problems] + [fhirline.__version__]
"""


def run(*command: str | Path, cwd: Path, fails: bool = False) -> str:
    """Run a command outside of the checkout, without its import path, and return what it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FHIRLINE_", "PYTHON"))}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=170, check=False)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


def wheel_of(source: Path, into: Path) -> Path:
    """Build the wheel of a project with this environment's build tools."""
    options = ("--quiet", "--no-build-isolation", "--no-deps", "--no-index", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", into, source, cwd=source)
    (wheel,) = into.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built of a copy, so that no build/ is left in the checkout."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("*.egg-info"))
        else:
            shutil.copy(ROOT / name, source / name)
    return wheel_of(source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of another distribution, with a package ``config``."""
    source = tmp_path_factory.mktemp("other")
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "config"\nversion = "1.0"\n[tool.setuptools]\npackages = ["config"]\n'
    )
    (source / "config").mkdir()
    (source / "config" / "__init__.py").write_text('WHOSE = "another distribution\'s"\n')
    return wheel_of(source, tmp_path_factory.mktemp("other-wheel"))


def environment(path: Path, *wheels: Path) -> Path:
    """Make an environment with these wheels, installed in this order, that also sees the packages of this one."""
    run(sys.executable, "-m", "venv", "--without-pip", path, cwd=path.parent)
    python = path / "bin" / "python"
    for wheel in wheels:
        options = ("--quiet", "--no-deps", "--no-index", "--disable-pip-version-check")
        run(sys.executable, "-m", "pip", "--python", python, "install", *options, wheel, cwd=path.parent)
    (packages,) = path.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return path


@pytest.mark.long
def test_it_holds_one_package_with_its_data_and_its_types(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (top_level,) = (name for name in names if name.endswith(".dist-info/top_level.txt"))
        assert archive.read(top_level).decode().split() == ["fhirline"]
        assert {name.partition("/")[0] for name in names} == {"fhirline", top_level.partition("/")[0]}
    expected = {
        f"fhirline/{path.relative_to(ROOT)}"
        for top in TOPS
        for path in (ROOT / top).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".md"
    }
    assert expected - names == set()
    assert "fhirline/py.typed" in names


@pytest.mark.long
@pytest.mark.parametrize("first", ["fhirline", "config"])
def test_another_distribution_may_bring_a_package_config(first: str, wheel: Path, other: Path, tmp_path: Path) -> None:
    """The wheel once installed a top-level ``config``: whichever came second overwrote the other's."""
    venv = environment(tmp_path / "venv", *((wheel, other) if first == "fhirline" else (other, wheel)))
    program = (
        "import config, fhirline.config; print(config.WHOSE, config.__file__, fhirline.config.__file__, sep='\\n')"
    )
    whose, *files = run(venv / "bin" / "python", "-c", program, cwd=tmp_path).splitlines()
    assert whose == "another distribution's"
    assert all(Path(file).is_relative_to(venv) for file in files)
    assert "gateway" in run(venv / "bin" / "fhirline", "--help", cwd=tmp_path)
    sample = ROOT / "streams" / "demo" / "samples" / "mediquo-report.json"
    assert run(venv / "bin" / "fhirline", "map", "mediquo", sample, cwd=tmp_path).startswith('{"resourceType":"Bundle"')


@pytest.mark.long
def test_a_typed_program_is_checked_against_it(wheel: Path, tmp_path: Path) -> None:
    """mypy reads the installed types (``py.typed``), and finds a wrong argument with them."""
    venv = environment(tmp_path / "venv", wheel)
    mypy = (
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--cache-dir",
        "cache",
        "--python-executable",
        venv / "bin/python",
    )
    (tmp_path / "right.py").write_text(USER_PROGRAM)
    assert "Success: no issues found" in run(*mypy, "right.py", cwd=tmp_path)
    (tmp_path / "wrong.py").write_text('import fhirline\n\nfhirline.normalize(7, vendor="altibbi").bundel\n')
    found = run(*mypy, "wrong.py", cwd=tmp_path, fails=True)
    assert '"normalize" has incompatible type "int"' in found
    assert '"NormalizedEvent" has no attribute "bundel"' in found


def test_imports_by_the_names_of_the_folders_are_refused(tmp_path: Path) -> None:
    """``import config`` works in the checkout, and imports somebody else's package in an installation."""
    module = tmp_path / "module.py"
    module.write_text(
        "".join(f"import {top}.x\n" for top in TOPS) + "from config import y\nfrom fhirline import config\n"
    )
    ruff = (sys.executable, "-m", "ruff", "check", "--config", ROOT / "pyproject.toml", "--select", "TID251")
    found = run(*ruff, "--output-format", "concise", module, cwd=ROOT, fails=True)
    assert [f"module.py:{line}:" in found for line in range(1, 7)] == [True] * 5 + [False]
