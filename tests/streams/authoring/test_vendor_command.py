"""``fhirline vendor new`` as a command: it writes whole or nothing, and what it writes is green."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from fhirline.config.errors import ConfigurationError
from fhirline.streams.authoring import checkout as at
from fhirline.streams.authoring.checkout import Checkout
from fhirline.streams.authoring.new_vendor import Options, plan, write
from fhirline.streams.authoring.samples import Sample, read_samples
from fhirline.streams.cli import vendor
from tests.streams.authoring.events import LABS, PING, VISIT
from tests.support.checkout import copied, printed, run_in
from tests.support.paths import ROOT

HERE = Checkout(ROOT)


def invoked(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    app = typer.Typer()
    vendor.register(app)
    monkeypatch.chdir(folder)
    return CliRunner().invoke(app, ["vendor", "new", *arguments])


def sample(folder: Path, *bodies: dict[str, Any]) -> str:
    path = folder / "samples.ndjson"
    path.write_text("".join(f"{json.dumps(body)}\n" for body in bodies), "utf-8")
    return str(path)


def test_elsewhere_than_in_a_checkout_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = invoked(tmp_path, monkeypatch, "inventedcare", "--sample", sample(tmp_path, VISIT))
    assert isinstance(result.exception, ConfigurationError)
    assert str(result.exception).startswith(f"{tmp_path} is in no checkout of fhirline")


def test_a_missing_tool_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(at, "TOOLS", ("genson_that_nobody_has",))
    result = invoked(ROOT, monkeypatch, "inventedcare", "--sample", sample(tmp_path, VISIT))
    assert isinstance(result.exception, ConfigurationError)
    assert "genson_that_nobody_has not installed" in str(result.exception)
    assert str(result.exception).endswith("-m pip install --require-hashes -r requirements/dev.lock")


def test_a_dry_run_prints_the_files_and_writes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ROOT / "docs"  # a folder inside the checkout
    result = invoked(folder, monkeypatch, "inventedcare", "--dry-run", "--sample", sample(tmp_path, VISIT, *LABS))
    assert (result.exit_code, result.exception) == (0, None)
    for path in ("mappers/inventedcare/payload.py", "tests/mappers/test_inventedcare.py", "mappers/registry.py"):
        assert f"--- {path}\n" in result.output
    assert re.search(r'^\+VENDORS = \(.*"inventedcare", ', result.output, re.M)
    assert "event type: /event (guessed: a text of this name in all 3 samples with 2 different values" in result.output
    assert "/room/access_token (its key 'access_token') is stored in the raw topic: add its key to" in result.output
    listed = result.output.partition("Would be written:\n")[2].partition("\n\nNext:")[0].splitlines()
    assert {"  docs/asyncapi.yaml (changed)", "  tests/golden/inventedcare/lab_result.out.json"} <= {*listed}
    assert not (ROOT / "mappers" / "inventedcare").exists()
    assert "inventedcare" not in HERE.read(at.REGISTRY)


def test_what_may_be_a_secret_is_named_and_is_not_said_to_be_withheld(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {**VISIT, "inventedPin": "4711"}
    output = invoked(ROOT, monkeypatch, "inventedcare", "--dry-run", "--sample", sample(tmp_path, body)).output
    line = "  /inventedPin (its key has the word 'pin') is stored and published: if it is one, add its key to"
    assert f"\nValues that may be secrets, which no table knows:\n{line} config/secrets.yaml\n" in output
    assert re.search(r"^\+\| `/inventedPin` \| text \| kept on the Provenance \|$", output, re.M)
    assert re.search(r"^\+\| `/room/access_token` \| text \| withheld as a secret \|$", output, re.M)


def test_a_second_pointer_behind_one_option_is_no_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pointers = ("--patient-field", "/patient/id", "/member/id")
    result = invoked(ROOT, monkeypatch, "inventedcare", "--sample", sample(tmp_path, VISIT), *pointers)
    assert isinstance(result.exception, ConfigurationError)
    assert str(result.exception) == (
        "/member/id: no such file; where it is a JSON Pointer, repeat the option before it: --patient-field /member/id"
    )


def test_an_event_whose_patient_stands_elsewhere_is_told_with_the_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = invoked(ROOT, monkeypatch, "inventedcare", "--dry-run", "--sample", sample(tmp_path, VISIT, PING)).output
    assert "  visit.completed: 1 sample, Patient\n" in output
    assert "  ping: 1 sample, nothing yet: no sample has a patient key (--patient-field, once for each place" in output


@pytest.mark.long
def test_a_dry_run_lists_what_is_written(tmp_path: Path) -> None:
    """Every file that differs afterwards, and no other."""
    tree = copied(tmp_path / "tree", "benchmarks")
    command = f"fhirline vendor new inventedcare --sample {sample(tmp_path, VISIT, *LABS)}"
    before = files(tree)
    listed = printed(tree, f"{command} --dry-run").partition("Would be written:\n")[2].partition("\n\nNext:")[0]
    assert files(tree) == before
    written = printed(tree, command).partition("Written:\n")[2].partition("\n\nNext:")[0]
    assert listed == written
    changed = {path for path, content in files(tree).items() if before.get(path) != content}
    assert {line.split()[0] for line in listed.splitlines()} == changed


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        ("s/visit.json", "fhirline map inventedcare --resources s/visit.json"),
        ("my samples.ndjson:3", "fhirline map inventedcare --resources --ndjson 'my samples.ndjson'"),
        ("all.json[2]", "jq -c '.[]' all.json | fhirline map inventedcare --resources --ndjson"),
    ],
)
def test_the_next_step_maps_the_file_of_the_sample(origin: str, command: str) -> None:
    assert f": {command}\n" in vendor._next_steps(plan(HERE, Options("inventedcare"), [Sample(origin, VISIT)]))


@pytest.mark.long
def test_if_anything_fails_every_file_is_as_before(tmp_path: Path) -> None:
    tree = copied(tmp_path / "tree", "golden", "benchmarks")
    (tree / "topics" / "asyncapi.py").write_text("raise SystemExit('no contract')\n")
    before = files(tree)
    checkout = Checkout(tree)
    made = plan(checkout, Options("inventedcare"), read_samples([Path(sample(tmp_path, VISIT))]))
    with pytest.raises(ConfigurationError, match="no contract"):
        write(checkout, made)
    assert files(tree) == before


def files(tree: Path) -> dict[str, bytes]:
    return {
        path.relative_to(tree).as_posix(): path.read_bytes()
        for path in tree.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and ".ruff_cache" not in path.parts
    }


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_an_invented_vendor_is_green_from_the_first_minute(tmp_path: Path) -> None:
    """In a copy of the repository: lint, types, all mapping tests, and the documents that list vendors.

    There are several samples of each event, and one field is a boolean in the first and a text in the second.
    """
    tree = copied(tmp_path / "tree")
    printed(tree, "git init --quiet")  # the documents' tests list the repository's files
    visits = {**VISIT, "insured": True}, {**VISIT, "insured": "no", "sent_at": "2031-05-03T10:31:07Z"}
    samples = sample(tmp_path, *visits, *LABS, PING, {**PING, "sent_at": "2024-05-03T10:31:07Z"})
    report = printed(tree, f"fhirline vendor new inventedcare --name 'Acme Care' --sample {samples}")
    assert "Acme Care, 3 events:" in report
    assert run_in(tree, f"fhirline vendor new inventedcare --sample {samples}").returncode == 2
    printed(tree, "ruff check . && ruff format --check .")
    printed(tree, "mypy src/fhirline/mappers/inventedcare tests/mappers/test_inventedcare.py", 600)
    printed(tree, "pytest -n 2 tests/mappers", 1500)
    documents = "tests/docs/test_mapping.py tests/docs/test_reference.py tests/docs/test_readme.py"
    printed(tree, f"pytest {documents} tests/topics/test_asyncapi.py -k 'not keeps_to'", 600)
    printed(
        tree,
        "fhirline map inventedcare --tenant acme --resources " + samples + " --ndjson > mapped.ndjson || [ $? = 2 ]",
    )
    mapped = [json.loads(line) for line in (tree / "mapped.ndjson").read_text("utf-8").splitlines()]
    assert [item["identifier"][0]["value"] for item in mapped if item["resourceType"] == "Patient"] == [
        "P-77",
        "P-77",
        "77",
        "P-78",
    ]
    assert "not-to-be-shown" not in (tree / "mapped.ndjson").read_text("utf-8")
