"""``fhirline map`` as an operator runs it: lineage, counts, and code tables of his own."""

import gzip
import json
import os
import subprocess
from copy import deepcopy
from pathlib import Path
from typing import Any

from tests.support import cli
from tests.support.paths import GOLDEN


def run(*arguments: str | Path, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {name: value for name, value in os.environ.items() if not name.startswith("FHIRLINE_")}
    return cli.run("map", *arguments, stdin=stdin, cwd=Path.cwd(), env={**settings, **environment})


def events(vendor: str, case: str) -> list[dict[str, Any]]:
    read: list[dict[str, Any]] = json.loads((GOLDEN / vendor / f"{case}.in.json").read_text("utf-8"))["events"]
    return read


def lines(bodies: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(body) + "\n" for body in bodies)


def resources(made: subprocess.CompletedProcess[str], resource_type: str) -> list[dict[str, Any]]:
    read = [json.loads(line) for line in made.stdout.splitlines()]
    return [item for item in read if item["resourceType"] == resource_type]


# -- lineage


def test_explain_prints_where_each_value_came_from() -> None:
    made = run("altibbi", "--explain", stdin=json.dumps(events("altibbi", "status_update")[0]))
    assert made.returncode == 0
    rows = [line.split("\t") for line in made.stdout.splitlines()]
    assert {len(row) for row in rows} == {3}
    told = {path: source for _, path, source in rows}
    assert told["Encounter.status"] == "/new_status"
    assert told["Patient.identifier[0].value"] == "/user_id"
    assert told["Encounter.class.code"] == "rule"
    assert len({resource for resource, _, _ in rows}) == 6


def test_explain_reports_values_that_are_read_and_in_no_resource() -> None:
    body = events("azodha", "route-event-named")[0]
    made = run("azodha", "--explain", "--event", body["eventName"], stdin=json.dumps(body))
    assert made.returncode == 0
    assert made.stderr == "fhirline map: standard input: read by the mapping, and in no resource: /eventName\n"


def test_explain_names_each_of_several_events() -> None:
    made = run("altibbi", "--explain", "--ndjson", stdin=lines(events("altibbi", "both_samples")))
    headings = [line for line in made.stdout.splitlines() if line.startswith("# ")]
    assert headings == ["# standard input:1 status_update", "# standard input:2 recommendation_data"]


def test_explain_replaces_resources() -> None:
    made = run("altibbi", "--explain", "--resources", stdin="{}")
    assert (made.returncode, made.stdout) == (2, "")
    assert made.stderr == "fhirline: --explain: prints sources instead of resources; omit --resources\n"


# -- counts


def test_counts_name_words_and_paths_and_no_other_values() -> None:
    [body] = events("altibbi", "unmapped_codes")
    bodies = [deepcopy(body) | {"news": {"4711": "a secret"}} for _ in range(2)]
    bodies[0]["consultation_id"] = 73  # otherwise the later of both replaces the other's prescriptions
    bodies[0]["data"]["drug"]["fdaDrug"][0]["frequency"] = "as Jane Doe told her neighbour on the telephone"
    made = run("altibbi", "--ndjson", "--counts", stdin=lines(bodies))
    assert made.returncode == 0
    counted = [line.split("\t") for line in made.stderr.splitlines()]
    assert counted[0] == ["events", "", "2"]
    assert counted[1] == ["no row in table", "dose-unit", "4"]
    assert ["no row in table", "frequency", "2"] in counted
    assert ["no row for word", "frequency: as needed", "1"] in counted
    assert ["word not shown", "frequency", "1"] in counted
    assert ["no rule for path", "/news", "2"] in counted
    for value in ("a secret", "4711", "Jane"):
        assert value not in made.stderr


# -- an operator's code tables


def test_a_row_of_the_operators_changes_the_coding(tmp_path: Path) -> None:
    body = events("altibbi", "recommendation")[0]
    (tmp_path / "frequency.yaml").write_text(
        "version: own-1\n"
        "title: Ours\n"
        "rows:\n"
        "  - source: [Four Times Daily]\n"
        "    means: {frequency: 1, period: 6, period_unit: h}\n"
        "    codings: [{system: 'http://example.org/ours', code: six-hourly, evidence: our pharmacist}]\n",
        "utf-8",
    )
    timings = []
    for settings in ({}, {"FHIRLINE_TERMINOLOGY_DIR": str(tmp_path)}):
        made = run("altibbi", "--resources", stdin=json.dumps(body), **settings)
        assert made.returncode == 0
        timings.append(resources(made, "MedicationRequest")[0]["dosageInstruction"][0]["timing"])
    packaged, own = timings
    assert packaged["repeat"] == {"frequency": 4, "period": 1, "periodUnit": "d"}
    assert packaged["code"]["coding"][0]["code"] == "QID"
    assert own["repeat"] == {"frequency": 1, "period": 6, "periodUnit": "h"}
    assert own["code"]["coding"] == [{"system": "http://example.org/ours", "code": "six-hourly"}]
    assert own["code"]["text"] == packaged["code"]["text"]


def test_a_wrong_row_is_one_line_with_its_place(tmp_path: Path) -> None:
    table = tmp_path / "frequency.yaml"
    table.write_text(
        "version: own-1\ntitle: Ours\nrows:\n"
        "  - source: [thrice daily]\n"
        "    means: {frequency: 0, period: 1, period_unit: d}\n",
        "utf-8",
    )
    made = run("altibbi", stdin="{}", FHIRLINE_TERMINOLOGY_DIR=str(tmp_path))
    assert (made.returncode, made.stdout) == (2, "")
    assert made.stderr.startswith(f"fhirline: {table}:5: rows.0.means.")
    assert made.stderr.count("\n") == 1


def test_a_byte_order_mark_is_ignored_on_every_line(tmp_path: Path) -> None:
    bodies = [json.dumps(body) for body in events("altibbi", "both_samples")]
    file = tmp_path / "events.ndjson"
    file.write_text("".join(f"\ufeff{body}\r\n" for body in bodies) + "\ufeff\n", "utf-8")
    made = run("altibbi", "--ndjson", "--resources", file)
    plain = run("altibbi", "--ndjson", "--resources", stdin="\n".join(bodies))
    assert (made.returncode, made.stderr) == (plain.returncode, plain.stderr) == (0, "")
    assert resources(made, "Encounter") == resources(plain, "Encounter") != []


def test_a_compressed_file_is_named_as_such(tmp_path: Path) -> None:
    file = tmp_path / "events.json.gz"
    file.write_bytes(gzip.compress(b"{}"))
    made = run("altibbi", file)
    assert (made.returncode, made.stdout) == (2, "")
    assert f"{file}: the file is gzip, not UTF-8 text" in made.stderr


def test_ids_that_no_double_holds_are_two_patients() -> None:
    update = events("altibbi", "status_update")[0]
    made = run("altibbi", "--ndjson", "--resources", stdin=lines([{**update, "user_id": 2**64 + n} for n in (0, 1)]))
    assert made.returncode == 0
    found = [resource["identifier"][0]["value"] for resource in resources(made, "Patient")]
    assert found == ["18446744073709551616", "18446744073709551617"]


def test_a_file_of_lines_without_the_option_is_told_of_it(tmp_path: Path) -> None:
    file = tmp_path / "events.ndjson"
    for text in (lines(events("altibbi", "both_samples")), "\ufeff{}\r\n\r\n{}\r\n"):
        file.write_text(text, "utf-8")
        made = run("altibbi", file)
        assert (made.returncode, made.stdout) == (2, "")
        assert made.stderr.startswith(f"fhirline map: {file}: ")
        assert made.stderr.endswith("; it seems to have one body per line: try --ndjson\n")
    for text in ('{"type": \n', '{\n"a": 1,\n}\n', "{\n"):
        file.write_text(text, "utf-8")
        assert "--ndjson" not in run("altibbi", file).stderr
    assert "try --ndjson" not in run("altibbi", "--ndjson", stdin="{\n{}\n{}").stderr
