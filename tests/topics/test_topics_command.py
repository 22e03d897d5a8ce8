"""``fhirline topics`` as a process, against real brokers: what it prints, and its exit codes."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping

import pytest

from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.kafka.clients import kafka_python
from fhirline.topics.cluster import Cluster
from fhirline.topics.declared import (
    declared,
)
from tests.support import cli
from tests.support.kafka.brokers import RunningBroker, settings_for
from tests.support.waiting import LIMIT

NOWHERE = "127.0.0.1:9"


def fhirline(*arguments: str, bootstrap: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run ``fhirline topics`` as a process of its own, away from any ``.env`` file."""
    ours: Mapping[str, str] = {name: value for name, value in os.environ.items() if not name.startswith("FHIRLINE_")}
    return cli.run("topics", *arguments, env={**ours, "FHIRLINE_BOOTSTRAP": bootstrap, **settings})


@pytest.fixture
def empty() -> Iterator[str]:
    """A broker without any topic."""
    with EmbeddedBroker() as broker:
        yield broker.bootstrap


def test_plan_apply_plan(empty: str) -> None:
    where = empty
    before = fhirline("plan", "--json", bootstrap=where)
    assert before.returncode == 1, before.stderr
    missing = {
        difference["topic"]
        for difference in json.loads(before.stdout)["differences"]
        if difference["action"] == "create"
    }
    assert missing == {item.name for item in declared(settings_for(where))}
    done = fhirline("apply", bootstrap=where)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith(f"{len(missing)} done, 0 failed, 0 refused")
    after = fhirline("plan", bootstrap=where)
    assert (after.returncode, after.stdout, after.stderr) == (0, "Nothing to do: the cluster is as declared.\n", "")
    again = fhirline("apply", bootstrap=where)
    assert (again.returncode, again.stdout) == (0, "Nothing to do: the cluster is as declared.\n")


def test_a_conflict_is_left_alone_and_said(broker: RunningBroker) -> None:
    result = fhirline("apply", bootstrap=broker.bootstrap, FHIRLINE_PARTITIONS="7", FHIRLINE_REPLICATION_FACTOR="1")
    assert result.returncode == 1
    assert "raw.mediquo: partitions 6, declared 7, not changed: a key never moves" in result.stderr
    with Cluster(kafka_python(broker.settings()), timeout=LIMIT) as cluster:
        topics = declared(broker.settings())
        read = cluster.read(topics)
    assert {item.partitions for item in read.values()} == {6, 1}


def test_list_says_what_is_declared_and_what_is_there(broker: RunningBroker) -> None:
    lines = fhirline("list", bootstrap=broker.bootstrap).stdout.splitlines()
    rows = {line.split("\t")[0]: line.split("\t") for line in lines[1:]}
    assert rows.keys() == {item.name for item in declared(broker.settings())}
    assert rows["fhir.r4.Patient"][1:4] == ["6 x 1", "6 x 1", "compact"]
    listed = json.loads(fhirline("list", "--json", bootstrap=broker.bootstrap).stdout)
    assert next(item for item in listed if item["topic"] == "raw.mediquo")["cluster"]["partitions"] == 6


def test_list_offline_asks_no_cluster() -> None:
    result = fhirline("list", "--offline", bootstrap=NOWHERE)
    assert result.returncode == 0
    assert "not asked" in result.stdout


@pytest.mark.parametrize("command", ["plan", "apply", "list"])
def test_unreachable_is_one_line_and_exit_code_2(command: str) -> None:
    result = fhirline(command, "--timeout", "0.3", bootstrap=NOWHERE)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"fhirline: FHIRLINE_BOOTSTRAP: no Kafka broker answered at {NOWHERE} within 0.3 s")
    assert result.stderr.count("\n") == 1


def test_wrong_usage_is_exit_code_2() -> None:
    assert fhirline("plan", "--nonsense", bootstrap=NOWHERE).returncode == 2
    wrong = fhirline("plan", bootstrap=NOWHERE, FHIRLINE_PARTITIONS="none")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("fhirline: FHIRLINE_PARTITIONS: ")
