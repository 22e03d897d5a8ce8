"""``fhirline doctor``: each check against a deployment that is broken in this respect, and one that is not."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from fhirline.mappers.registry import VENDORS
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.operate.doctor import cluster, machine, work
from fhirline.streams.operate.doctor.examine import at_the_cluster, examine
from fhirline.streams.operate.doctor.finding import Level
from fhirline.streams.operate.status.groups import Group
from fhirline.streams.operate.status.summary import Members
from fhirline.topics.declared import declared, raw_topic
from fhirline.topics.plan import Existing, compare
from tests.support import cli
from tests.support.doctor import GOOD, NOWHERE, OK, PROBLEM, SECRETS, WARNING, said
from tests.support.kafka.apache import free_ports
from tests.support.kafka.brokers import RunningBroker, settings_for
from tests.support.receiving import environment, running_gateway
from tests.support.waiting import LIMIT

FIRST = raw_topic(min(VENDORS))
"""The first of the declared topics."""


# This machine


def test_a_port_is_free_or_ours_or_of_another_program(embedded: RunningBroker, tmp_path: Path) -> None:
    free, other = free_ports(2)
    assert machine.gateway_port(settings_for(NOWHERE, gateway_port=free)).level is OK
    assert machine.metrics_port(settings_for(NOWHERE, metrics_port=free, gateway_port=other)).level is OK
    assert machine.metrics_port(settings_for(NOWHERE, metrics_port=free, gateway_port=free)).level is PROBLEM
    assert machine.metrics_port(settings_for(NOWHERE)).level is OK
    brokers = int(embedded.bootstrap.rpartition(":")[2])
    for check, port in ((machine.gateway_port, "gateway_port"), (machine.metrics_port, "metrics_port")):
        found = check(settings_for(NOWHERE, **{port: brokers}))
        assert (found.level, "another program" in found.text) == (PROBLEM, True)
    with running_gateway(embedded.bootstrap, tmp_path, FHIRLINE_METRICS_PORT="0") as gateway:
        metrics = int(gateway.event("metrics listening")["url"].removesuffix("/metrics").rpartition(":")[2])
        ours = settings_for(NOWHERE, gateway_port=gateway.port, metrics_port=metrics, metrics_host="localhost")
        assert "is ready" in machine.gateway_port(ours).text
        assert machine.gateway_is_ready(ours)
        assert machine.metrics_port(ours).level is OK


def test_a_gateway_that_is_not_ready_is_a_problem(tmp_path: Path) -> None:
    with EmbeddedBroker() as broker, running_gateway(broker.bootstrap, tmp_path) as gateway:  # no topics there
        found = machine.gateway_port(settings_for(NOWHERE, gateway_port=gateway.port))
        assert not machine.gateway_is_ready(settings_for(NOWHERE, gateway_port=gateway.port))
    assert (found.level, FIRST in found.text) == (PROBLEM, True)


def test_the_folder_of_replays_is_private_and_writable(tmp_path: Path) -> None:
    folder = tmp_path / "replays"
    settings = settings_for(NOWHERE, replay_dir=folder)
    assert "GB free" in machine.replay_folder(settings).text
    folder.mkdir(mode=0o755)
    assert machine.replay_folder(settings).level is WARNING
    folder.chmod(0o700)
    assert machine.replay_folder(settings).level is not PROBLEM
    folder.rmdir()
    folder.write_text("", "utf-8")
    assert machine.replay_folder(settings).level is PROBLEM


def test_clocks() -> None:
    def levels(newest: float | None, kept: bool | None) -> list[Level]:
        return [level for level, _ in said(machine.clock(1_000.0, newest, kept), "clock")]

    assert levels(1_060.0, True) == [WARNING, OK]
    assert levels(1_001.0, None) == [OK]
    assert levels(None, False) == [OK, WARNING]


# The cluster


def test_addresses_that_do_not_answer(embedded: RunningBroker) -> None:
    [closed] = free_ports(1)
    for wrong, words in (
        (f"127.0.0.1:{closed}", "refused"),
        ("no-such-host.invalid:9092", "no such host"),
        ("kafka", "no host:port"),
    ):
        [(level, text)] = said(cluster.bootstrap(settings_for(wrong)), "bootstrap")
        assert level is PROBLEM
        assert words in text
        both = said(cluster.bootstrap(settings_for(f"{embedded.bootstrap},{wrong}")), "bootstrap")
        assert [level for level, _ in both] == [OK, WARNING]  # the other one will do


def test_another_protocol_is_reported_as_such(apache_kafka: RunningBroker) -> None:
    tls = apache_kafka.settings(security_protocol="SSL")
    found = list(at_the_cluster(tls, LIMIT))
    [(level, text)] = said(found, "kafka")
    assert level is PROBLEM
    assert "no Kafka broker answered" not in text
    assert "SECURITY_PROTOCOL" in text
    assert said(found, "bootstrap")[0][0] is OK
    assert not said(found, "topics")  # checks that depend on a connection are left out
    away = list(at_the_cluster(settings_for(NOWHERE), 0.5))
    assert "no Kafka broker answered" in said(away, "kafka")[0][1]


def test_an_advertised_address_that_cannot_be_reached() -> None:
    [closed] = free_ports(1)
    [(level, text)] = said(cluster.advertised({7: ("127.0.0.1", closed)}, ["kafka:9092"]), "brokers")
    assert level is PROBLEM
    assert "broker 7" in text


def test_a_healthy_cluster_and_one_that_differs_from_the_declaration(apache_kafka: RunningBroker) -> None:
    good = list(at_the_cluster(apache_kafka.settings(group="doctor"), LIMIT))
    for check in ("bootstrap", "kafka", "brokers", "version", "broker settings", "topics", "durability"):
        assert [level for level, _ in said(good, check)] == [OK], (check, good)
    assert said(good, "groups") == [(WARNING, "doctor: no members, so nothing is read")]
    otherwise = apache_kafka.settings(group="doctor", partitions=7, message_max_bytes=200_000_000)
    found = list(at_the_cluster(otherwise, LIMIT))
    problems = [text for level, text in said(found, "topics") if level is PROBLEM]
    assert [text.split(" ", 1)[0] for text in problems] == ["partitions", "max.message.bytes"]
    assert said(found, "broker settings")[0][0] is PROBLEM  # socket.request.max.bytes is 100 MiB


def test_missing_topics() -> None:
    with EmbeddedBroker() as broker:
        found = list(at_the_cluster(settings_for(broker.bootstrap), LIMIT))
    [(level, text)] = said(found, "topics")
    assert level is PROBLEM
    assert f"missing: {FIRST}" in text
    secured = settings_for(NOWHERE, security_protocol="SSL")
    [(_, text)] = said(cluster.topics(compare(declared(secured), {}), secured), "topics")
    assert f"missing, or not visible to this Kafka user: {FIRST}" in text


def test_events_survive_the_loss_of_a_broker() -> None:
    topics = declared(settings_for(NOWHERE, replication_factor=3))
    kept = {"min.insync.replicas": "2", "unclean.leader.election.enable": "false"}
    whole = {topic.name: Existing(topic.name, 6, 3, {**topic.config, **kept}) for topic in topics}

    def with_raw(replicas: int, **config: str) -> list[tuple[Level, str]]:
        named = {name.replace("_", "."): value for name, value in config.items()}
        raw = replace(
            whole["raw.mediquo"],
            replication_factor=replicas,
            config={**whole["raw.mediquo"].config, **named},
        )
        return said(cluster.durability({**whole, "raw.mediquo": raw}, 3), "durability")

    assert [level for level, _ in with_raw(3)] == [OK]
    for found, words in (
        (with_raw(1), "one replica"),
        (with_raw(3, min_insync_replicas="1"), "acks=all may mean one"),
        (with_raw(2), "without one broker, writing stops"),
        (with_raw(3, unclean_leader_election_enable="true"), "without the latest events"),
    ):
        [(level, text)] = found
        assert level is WARNING
        assert words in text
        assert "raw.mediquo" in text
    untold = {name: replace(item, config={}) for name, item in whole.items()}
    [(level, text)] = said(cluster.durability(untold, 3), "durability")
    assert "is hidden" in text  # unknown settings are not claimed to be good
    drifted = replace(whole["raw.mediquo"], config={**whole["raw.mediquo"].config, "cleanup.policy": "compact"})
    plan = compare(topics, {**whole, "raw.mediquo": drifted})
    assert said(cluster.topics(plan, settings_for(NOWHERE)), "topics")[0][0] is PROBLEM


def test_every_partition_has_a_member() -> None:
    group = Group("fhirline", "stable", 2, frozenset())
    assert work.group(Members(group, 24, 0), "worker").level is OK
    assert "3 of 24 partitions" in work.group(Members(group, 24, 3), "worker").text
    moving = replace(group, state="preparing rebalancing")
    assert work.group(Members(moving, 24, 24), "worker").level is WARNING
    unnamed = work.group(Members(replace(group, members=0), 24, 24), "worker")
    assert (unnamed.level, "names no members" in unnamed.text) == (OK, True)
    for state in ("empty", "none"):
        assert work.group(Members(replace(group, members=0, state=state), 24, 24), "worker").level is WARNING


# The command


def run(bootstrap: str, folder: Path, *options: str, **more: str) -> subprocess.CompletedProcess[str]:
    return cli.run("doctor", *options, env={**environment(bootstrap), **more}, cwd=folder)


def test_the_exit_code(embedded: RunningBroker, tmp_path: Path) -> None:
    [port] = free_ports(1)
    own = {**SECRETS, "FHIRLINE_BASE": "https://fhir.clinic.example", "FHIRLINE_GATEWAY_PORT": str(port)}
    healthy = run(embedded.bootstrap, tmp_path, **own)
    assert healthy.returncode == 0, healthy.stdout
    assert "\n0 problems, " in healthy.stdout
    broken = run(embedded.bootstrap, tmp_path, "--json", **{**own, "FHIRLINE_PARTITIONS": "7"})
    assert broken.returncode == 1
    found = json.loads(broken.stdout)["findings"]
    assert {"topics"} == {item["check"] for item in found if item["level"] == "problem"}
    assert GOOD not in healthy.stdout + broken.stdout


@pytest.mark.parametrize(
    ("name", "value", "checks"),
    [
        ("PARTITIONS", "many", {"settings"}),
        ("TERMINOLOGY_DIR", "not-there", {"tables"}),
        ("VENDORS_FILE", "empty.yaml", {"vendors"}),
        ("VENDORS", "nobody", {"settings"}),
    ],
)
def test_what_ends_other_commands_is_their_exit_code(name: str, value: str, checks: set[str], tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").touch()
    found = run(NOWHERE, tmp_path, "--json", "--timeout", "0.1", **{**SECRETS, f"FHIRLINE_{name}": value})
    findings = json.loads(found.stdout)["findings"]
    assert found.returncode == 2
    assert checks <= {finding["check"] for finding in findings if finding["level"] == "problem"}
    assert (len(findings) > 8) == ("settings" not in checks)  # the other checks are made


def test_every_check_has_a_finding(embedded: RunningBroker) -> None:
    found = list(examine(embedded.settings(), SECRETS, LIMIT, online=True))
    assert len({item.check for item in found}) >= 18
    assert all(item.text for item in found)
