"""Every command of ours as the containers run it, outside a container.

The images of others (Kafka, Prometheus, Grafana, Kafka UI) are not: tests/streams/observe/test_metrics.py asks
promtool about what Prometheus is given, and tests/support/kafka runs Apache Kafka itself.
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import yaml

from fhirline.config.own_command import own_command
from fhirline.config.settings import PREFIX
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.demo.stack import Process
from tests.docker.files import DOCKERFILE, EXAMPLE, IMAGE, SERVICES, VARIABLE, image
from tests.support.encryption import ENCRYPTION
from tests.support.infermedica_server import CLIENT_ID, CLIENT_SECRET, InfermedicaServer
from tests.support.kafka.apache import free_ports
from tests.support.paths import ROOT
from tests.support.receiving import environment
from tests.support.waiting import LIMIT


def environment_of(name: str, bootstrap: str, env: Mapping[str, str]) -> dict[str, str]:
    """A process's environment by the image, the service and ``env`` (which stands for .env), and nothing of ours."""
    given = SERVICES[name]["environment"]
    bare = {item: value for item, value in environment(bootstrap).items() if not item.startswith(PREFIX)}
    return {
        **bare,
        **{name: value for name, value in IMAGE.items() if name.startswith(PREFIX)},
        **{name: fill(value, env) for name, value in given.items() if value is not None},
        **{name: env[name] for name, value in given.items() if value is None and name in env},
        "FHIRLINE_BOOTSTRAP": bootstrap,
    }


class Container:
    """A service's command with the image's and the service's environment; ports are free ones of this machine."""

    def __init__(self, name: str, bootstrap: str, **env: str) -> None:
        service = SERVICES[name]
        metrics, listens = free_ports(2)
        self._ports = {IMAGE["FHIRLINE_METRICS_PORT"]: metrics, "8080": listens}
        own = environment_of(name, bootstrap, env) | {
            "FHIRLINE_METRICS_PORT": str(metrics),
            "FHIRLINE_GATEWAY_PORT": str(listens),
            "FHIRLINE_SESSION_TIMEOUT": "6",
        }
        assert image("ENTRYPOINT") == ["fhirline"]
        self.process = Process(name, *service["command"], environment=own, echo=lambda _: None)
        self._healthchecks = [service["healthcheck"].get("test"), ["CMD", *image("HEALTHCHECK")]]

    def healthy(self) -> list[bool]:
        """Run the service's own healthcheck and the image's, and return whether each passes."""
        return [self._run(healthcheck) for healthcheck in self._healthchecks]

    def _run(self, check: Sequence[str]) -> bool:
        kind, program, *arguments = check
        assert (kind, program) == ("CMD", "python")
        for inside, outside in self._ports.items():
            arguments = [re.sub(rf"\b{inside}\b", str(outside), argument) for argument in arguments]
        return not subprocess.run(
            [sys.executable, *arguments], capture_output=True, timeout=LIMIT, check=False
        ).returncode

    def become_healthy(self) -> None:
        end = time.monotonic() + LIMIT
        while self.healthy() != [True, True]:
            assert self.process.running, self.process.report("has ended")
            assert time.monotonic() < end, self.process.report("is not healthy")
            time.sleep(0.2)


def fill(value: object, env: Mapping[str, str]) -> str:
    """Compose's interpolation, of the forms that the file uses."""

    def one(found: re.Match[str]) -> str:
        name, how, what = found.groups()
        if env.get(name):
            return env[name]
        assert how == "-", f"{name}: {what}"
        return str(what)

    return VARIABLE.sub(one, str(value))


@pytest.fixture
def enriching(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """An empty broker, and what a .env says of a deployment with a tenant whose events are enriched."""
    vendors = yaml.safe_load((ROOT / "config" / "vendors.yaml").read_text("utf-8"))
    vendors["vendors"]["infermedica"]["tenants"]["acme"] = {"enrichment": True}
    (tmp_path / "vendors.yaml").write_text(yaml.safe_dump(vendors), "utf-8")
    asked = {name: f"Zx81-qmRt7-Lw2-{name}" for name in re.findall(r"^(\w+)=$", EXAMPLE, re.MULTILINE)}
    with EmbeddedBroker() as broker, InfermedicaServer() as api:
        yield (
            broker.bootstrap,
            {
                **asked,
                "FHIRLINE_BASE": "https://fhir.clinic.example",
                "FHIRLINE_ENCRYPTION": ENCRYPTION,
                "FHIRLINE_VENDORS_FILE": str(tmp_path / "vendors.yaml"),
                "FHIRLINE_INFERMEDICA_URL": api.url,
                "FHIRLINE_INFERMEDICA_CLIENT_ID": CLIENT_ID,
                "FHIRLINE_INFERMEDICA_CLIENT_SECRET": CLIENT_SECRET,
            },
        )


@pytest.mark.long
def test_every_command_runs_and_becomes_healthy(enriching: tuple[str, dict[str, str]]) -> None:
    """From an empty broker: the topics are applied, then gateway, worker and enrichment work and stop in order."""
    bootstrap, env = enriching
    early = Container("gateway", bootstrap, **env)
    try:
        early.process.wait_for("metrics listening")
        assert early.healthy() == [False, True]  # it lives, but without topics it has nowhere to keep an event
        Container("topics", bootstrap, **env).process.finish()
        early.become_healthy()
    finally:
        assert early.process.stop() == 0
    running = [Container(name, bootstrap, **env) for name in ("worker", "enrich")]
    try:
        for item in running:
            item.become_healthy()
    finally:
        codes = [item.process.stop() for item in running]
    assert codes == [0, 0]


@pytest.mark.long
def test_an_operators_commands_run_one_after_another(enriching: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    """Each `docker compose run tools …` is a new container; a folder stands for the volume, which is what remains."""
    bootstrap, env = enriching
    service = SERVICES["tools"]
    [mount] = [item.partition(":")[2] for item in service["volumes"] if item.startswith("tools:")]
    assert service["working_dir"] == mount
    made = next(rest for name, rest in DOCKERFILE if name == "RUN" and "useradd" in rest)
    assert f"install --directory --owner fhirline --group fhirline --mode 0700 {mount}" in made
    volume = tmp_path / "volume"
    volume.mkdir(mode=0o700)

    def ran(code: int, *command: str) -> str:
        done = subprocess.run(
            own_command(*command),
            env={
                name: value.replace(mount, str(volume))
                for name, value in environment_of("tools", bootstrap, env).items()
            },
            cwd=volume,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    ran(0, "topics", "apply")
    doctor = ran(0, "doctor", "--online")
    assert "tenant acme" in doctor
    assert "new data keys are wrapped by 2026-05" in doctor
    events = tmp_path / "events.ndjson"
    sample = ROOT / "streams" / "demo" / "samples" / "mediquo-report.json"
    events.write_text(json.dumps(json.loads(sample.read_text("utf-8"))), "utf-8")  # on one line
    ran(0, "ingest", "mediquo", str(events))
    found = ran(1, "replay", "--vendor", "mediquo", "--jobs", "1", "--diff-out", "changes.jsonl")
    assert (volume / "changes.jsonl").stat().st_size
    [id] = re.findall(r"fhirline replay --resume (\S+) --publish", found)
    ran(0, "replay", "--resume", id, "--publish", "--jobs", "1")
