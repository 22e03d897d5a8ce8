"""Dashboard and alerts: valid files, which link to the runbook and are mounted where they are read."""

import re
import shutil
import subprocess

import pytest
import yaml

from tests.support.dashboard import DASHBOARD, GRAFANA, RULES, named
from tests.support.waiting import LIMIT

OPERATIONS = (
    *("lag-grows", "dead-letters-grow", "a-vendor-changes-its-payload", "codes-without-a-row", "the-gateway-refuses"),
    *("a-practitioner-is-refused", "a-worker-ends", "validators-disagree", "state-grows"),
    *("patients-are-parked", "the-server-keeps-what-was-erased", "the-fhir-server-does-not-answer"),
    "the-tables-stand",
)
"""Headings of docs/operations.md."""


def test_names_are_found_in_an_expression() -> None:
    first = 'sum by (le, a) (rate(x_bucket{a=~"$a", b!="by(c)"}[5m] offset 1w))'
    expression = f"{first} / on (d) group_left (e) max(y) > 2e9 or z{{}}"
    assert named(expression) == ({"x_bucket", "y", "z"}, {"x_bucket": {"a", "b"}, "z": set()}, {"le", "a", "d", "e"})


def test_the_dashboard_is_valid() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"]
            assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])


def test_every_alert_links_to_what_to_do() -> None:
    for rule in RULES:
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert (page, anchor in OPERATIONS) == ("docs/operations.md", True), rule["alert"]
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
    assert {rule["annotations"]["runbook"].partition("#")[2] for rule in RULES} == set(OPERATIONS)
    assert len({rule["alert"] for rule in RULES}) == len(RULES)


def test_provisioned_files_exist() -> None:
    compose = yaml.safe_load((GRAFANA.parent / "compose.yaml").read_text("utf-8"))
    config = yaml.safe_load((GRAFANA / "prometheus" / "prometheus.yml").read_text("utf-8"))
    assert config["rule_files"] == ["rules/*.yml"]
    assert all(job["job_name"].startswith("fhirline-") for job in config["scrape_configs"])
    [port] = re.findall(r"FHIRLINE_METRICS_PORT=(\d+)", (GRAFANA.parent / "Dockerfile").read_text("utf-8"))
    assert {target["port"] for job in config["scrape_configs"] for target in job["dns_sd_configs"]} == {int(port)}
    volumes = [volume for service in compose["services"].values() for volume in service.get("volumes", ())]
    mounts = [volume.split(":") for volume in volumes if isinstance(volume, str)]
    assert all((GRAFANA.parent / source).exists() for source, *_ in mounts if source.startswith("."))
    provider = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "fhirline.yaml").read_text("utf-8"))
    assert provider["providers"][0]["options"]["path"] in {target for _, target, *_ in mounts}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Prometheus) is not installed")
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("test", "rules", "rules.test.yml"),
        ("test", "rules", "rules.weeks.test.yml"),
    ],
    ids=lambda arguments: arguments[-1],
)
def test_promtool_agrees(arguments: tuple[str, ...]) -> None:
    ran = subprocess.run(
        ["promtool", *arguments], cwd=GRAFANA / "prometheus", check=False, capture_output=True, text=True, timeout=LIMIT
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
