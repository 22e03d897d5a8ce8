"""``docker/compose.yaml`` and ``.env.example``: what can be known of them without a Docker engine."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema_rs
import pytest
import yaml

from fhirline.config.settings import PREFIX, Settings
from fhirline.config.settings.delivery import DeliverySettings
from fhirline.config.vendors import load_vendors
from fhirline.streams.cli import COMMANDS
from fhirline.streams.kafka.encryption.secrets import encryption
from tests.docker.files import COMPOSE, DOCKERFILE, EXAMPLE, IMAGE, OURS, SERVICES, VARIABLE
from tests.support.kafka.brokers import settings_for
from tests.support.paths import DOCKER
from tests.support.waiting import LIMIT

END_BY_THEMSELVES = ("topics", "tools")


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
    """Secrets that are asked for are empty in the example, which Compose refuses; no secret has a default."""
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
