"""The files of a project: licence, changelog, CI workflow, hooks before a commit, templates."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.paths import ROOT
from tests.support.waiting import LIMIT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
GITHUB = ROOT / ".github"
WORKFLOW = GITHUB / "workflows" / "ci.yml"
FORMS = [GITHUB / "ISSUE_TEMPLATE" / "bug.yml", GITHUB / "ISSUE_TEMPLATE" / "mapping-question.yml"]
HOOKS = ROOT / ".pre-commit-config.yaml"
APACHE_2_0 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
"""SHA-256 of the text that the Apache Software Foundation publishes."""


def run(command: Sequence[str | Path], folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT, check=False)


def tool(name: str) -> Path:
    """Return a command of the environment that runs the tests."""
    return Path(sys.executable).with_name(name)


# Licence and changelog


def test_the_licence_is_apache_2_0_and_the_wheel_names_it(tmp_path: Path) -> None:
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2_0
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "src" / "fhirline").mkdir(parents=True)
    prepare = "from setuptools import build_meta; print(build_meta.prepare_metadata_for_build_wheel('.'))"
    built = run([sys.executable, "-c", prepare], tmp_path)
    assert built.returncode == 0, built.stderr
    folder = tmp_path / built.stdout.splitlines()[-1]
    metadata = HeaderParser().parsestr((folder / "METADATA").read_text("utf-8"))
    assert metadata["License-Expression"] == PROJECT["license"] == "Apache-2.0"
    assert metadata.get_all("License-File") == PROJECT["license-files"] == ["LICENSE"]
    assert (folder / "licenses" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_changelog_begins_with_what_is_unreleased_and_knows_this_version() -> None:
    sections = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert sections[0] == "[Unreleased]"
    released = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)", section) for section in sections[1:]]
    found = [(release[1], release[2]) for release in released if release]
    assert len(found) == len(released), "a heading is not `[version] - date`"
    assert found[0][0] == PROJECT["version"]
    dates = [date for _, date in found]
    assert dates == sorted(dates, reverse=True)


# CI


def schema_findings(schema: str, *files: Path) -> str:
    """Validate files against a schema that check-jsonschema contains; return what it refuses, "" for nothing."""
    found = run([tool("check-jsonschema"), "--builtin-schema", schema, *files])
    assert found.returncode in (0, 1), found.stderr
    return found.stdout if found.returncode else ""


def test_the_workflow_is_valid(tmp_path: Path) -> None:
    wrong = tmp_path / "ci.yml"
    wrong.write_text(WORKFLOW.read_text("utf-8").replace("runs-on:", "run-on:"), "utf-8")
    assert schema_findings("vendor.github-workflows", WORKFLOW) == ""
    assert "run-on" in schema_findings("vendor.github-workflows", wrong)


def test_the_workflow_calls_ci_run_and_may_only_read() -> None:
    text = WORKFLOW.read_text("utf-8")
    workflow: dict[str, Any] = yaml.safe_load(text)
    (job,) = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == ["bash .ci/run"]
    assert (ROOT / ".ci" / "run").is_file()
    assert workflow["permissions"] == {"contents": "read"}
    assert "permissions" not in job
    assert job["timeout-minutes"] == 90
    assert "secrets." not in text


def test_the_workflow_pins_each_action_and_has_the_declared_python() -> None:
    text = WORKFLOW.read_text("utf-8")
    uses = re.findall(r"uses: (.+)$", text, re.M)
    pinned = re.compile(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
    assert len(uses) >= 4
    assert [action for action in uses if not pinned.fullmatch(action)] == []
    steps = next(iter(yaml.safe_load(text)["jobs"].values()))["steps"]
    inputs = {name: value for step in steps for name, value in step.get("with", {}).items()}
    assert PROJECT["requires-python"] == f">={inputs['python-version']}"
    for pattern in re.findall(r"'([^']+)'", inputs["key"]):
        assert (ROOT / pattern).is_file(), f"the cache's key hashes {pattern}, which does not exist"


# Templates


def test_the_issue_forms_are_valid() -> None:
    assert schema_findings("vendor.github-issue-forms", *FORMS) == ""
    assert schema_findings("vendor.github-issue-config", GITHUB / "ISSUE_TEMPLATE" / "config.yml") == ""


def test_every_template_asks_for_no_patient_data() -> None:
    assert {path.name for path in (GITHUB / "ISSUE_TEMPLATE").iterdir()} == {"config.yml", *(f.name for f in FORMS)}
    for path in FORMS:
        form = yaml.safe_load(path.read_text("utf-8"))
        assert "Attach no patient data" in form["body"][0]["attributes"]["value"]
        (confirmed,) = (field for field in form["body"] if field["type"] == "checkboxes")
        (option,) = confirmed["attributes"]["options"]
        assert option["required"] is True
        assert "no patient data" in option["label"]
    assert "Never attach patient data" in (GITHUB / "pull_request_template.md").read_text("utf-8")


# Hooks before a commit


def hooks() -> dict[str, list[str]]:
    """Read each hook's command, by its id, without the folder of the environment."""
    (repository,) = yaml.safe_load(HOOKS.read_text("utf-8"))["repos"]
    assert repository["repo"] == "local", "another repository would be cloned from the network"
    commands = {}
    for hook in repository["hooks"]:
        assert hook["language"] == "system", hook["id"]
        program, *arguments = hook["entry"].split()
        assert program.startswith(".venv/bin/"), hook["id"]
        commands[hook["id"]] = [program.removeprefix(".venv/bin/"), *arguments]
    return commands


def test_the_hooks_are_valid_and_their_commands_exist() -> None:
    checked = run([tool("pre-commit"), "validate-config", HOOKS])
    assert checked.returncode == 0, checked.stdout
    assert {"ruff-check", "ruff-format", "mypy"} <= hooks().keys()
    missing = [name for name, (program, *_) in hooks().items() if not os.access(tool(program), os.X_OK)]
    assert missing == []


@pytest.mark.parametrize(
    ("hook", "content"),
    [
        ("large-files", "0" * 600_000),
        ("merge-markers", "<" * 7 + " ours\n" + "=" * 7 + "\n" + ">" * 7 + " theirs\n"),
        ("private-keys", "-----BEGIN RSA " + "PRIVATE KEY-----\n"),
        ("ruff-check", "import os\nimport os.path\nprint(undefined)\n"),
    ],
    ids=lambda value: value if len(value) < 20 else "content",
)
def test_a_hook_refuses_what_it_is_for(hook: str, content: str, tmp_path: Path) -> None:
    program, *arguments = hooks()[hook]
    assert run(["git", "init", "--quiet"], tmp_path).returncode == 0
    file = tmp_path / "file.py"
    for text, accepted in ((content, False), ("GOOD = 1\n", True)):
        file.write_text(text, "utf-8")
        assert (run([tool(program), *arguments, file.name], tmp_path).returncode == 0) is accepted, text[:40]
