"""Retention of a vendor's records: declared in vendors.yaml, shown in the plan before anything goes by it."""

import os
import pty
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from fhirline.config.errors import ConfigurationError
from fhirline.config.own_command import own_command
from fhirline.config.vendors import load_vendors
from fhirline.streams.cli.topics import verdict
from fhirline.streams.kafka.clients import kafka_python
from fhirline.topics.cluster import Cluster
from fhirline.topics.declared import DAY, FOREVER, Cleanup, Topic, declared
from fhirline.topics.plan import Action, Existing, compare
from tests.support.kafka.brokers import RunningBroker, settings_for
from tests.support.receiving import environment
from tests.support.waiting import LIMIT

NOWHERE = "127.0.0.1:9"


def vendors(tmp_path: Path, retention: str) -> Path:
    path = tmp_path / "vendors.yaml"
    path.write_text(
        f"vendors:\n  infermedica: {{ name: I, defaults: {{}}, tenants: {{ acme: }}, retention: {retention} }}\n"
        "  mediquo: { name: M, defaults: {}, tenants: { acme: } }\n"
    )
    return path


def test_each_vendor_has_its_own_and_without_one_everything_is_kept(tmp_path: Path) -> None:
    file = vendors(tmp_path, "{ raw_days: 365, dead_letter_days: 90 }")
    kept = {item.name: item.retention for item in declared(settings_for(NOWHERE, vendors_file=file))}
    assert kept["raw.infermedica"] == kept["raw.infermedica.enriched"] == 365 * DAY
    assert kept["dead-letter.infermedica"] == 90 * DAY
    assert kept["raw.mediquo"] == kept["dead-letter.mediquo"] == FOREVER


def test_a_retention_that_is_none_is_named(tmp_path: Path) -> None:
    file = vendors(tmp_path, "{ raw_days: 0 }")
    with pytest.raises(ConfigurationError, match=r"vendors.infermedica.retention.raw_days: .*greater than or equal"):
        load_vendors(file)


@pytest.mark.parametrize(
    ("days", "actual", "reason"),
    [
        (365, "-1", "kept indefinitely, from now on 365 days; older records will be deleted"),
        (None, "604800000", "kept 7 days, from now on indefinitely"),
        (30, "604800000", "kept 7 days, from now on 30 days"),
    ],
)
def test_the_plan_says_what_goes(days: int | None, actual: str, reason: str) -> None:
    retention = FOREVER if days is None else days * DAY
    topic = Topic("raw.x", 6, 1, "delete", 1_048_576, "key", "for a test", retention)
    found = Existing(topic.name, 6, 1, {**topic.config, "retention.ms": actual})
    (difference,) = compare([topic], {topic.name: found}).differences
    assert (difference.action, difference.reason) == (Action.ALTER, reason)
    assert difference.deletes is ("deleted" in reason)


@pytest.mark.parametrize(
    ("declared_policy", "actual", "deletes"),
    [("compact", "delete", True), ("delete", "compact", True), ("delete", "compact,delete", False)],
)
def test_another_cleanup_policy_deletes_records(declared_policy: Cleanup, actual: str, deletes: bool) -> None:
    topic = Topic("raw.x", 6, 1, declared_policy, 1_048_576, "key", "for a test")
    found = Existing(topic.name, 6, 1, {**topic.config, "cleanup.policy": actual})
    plan = compare([topic], {topic.name: found})
    assert bool(plan.deleting) is deletes
    assert ("will be deleted" in plan.differences[0].reason) is deletes


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (1, "1 difference: 1 for `fhirline topics apply` (1 of them deleting records)"),
        (2, "2 differences: 2 for `fhirline topics apply` (2 of them deleting records)"),
    ],
)
def test_the_last_line_of_a_plan_counts_in_the_right_number(number: int, line: str) -> None:
    topics = [Topic(f"raw.{name}", 6, 1, "delete", 1_048_576, "key", "for a test", 30 * DAY) for name in range(number)]
    found = {topic.name: Existing(topic.name, 6, 1, {**topic.config, "retention.ms": "-1"}) for topic in topics}
    assert verdict(compare(topics, found)) == line


# The command line asks


SHORT = "{ raw_days: 30 }"


def apply(bootstrap: str, file: Path, *options: str, answer: str | None = None) -> "subprocess.CompletedProcess[str]":
    """Run ``fhirline topics apply``; with an ``answer`` on a terminal, whose user gives it."""
    terminal, stdin = pty.openpty()
    try:
        if answer is not None:
            os.write(terminal, f"{answer}\n".encode())
        return subprocess.run(
            own_command("topics", "apply", *options),
            env=environment(bootstrap, FHIRLINE_VENDORS_FILE=str(file)),
            cwd="/",
            stdin=subprocess.DEVNULL if answer is None else stdin,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
    finally:
        os.close(terminal)
        os.close(stdin)


def retention(bootstrap: str) -> str:
    topics = [item for item in declared(settings_for(bootstrap)) if item.name == "raw.infermedica"]
    with Cluster(kafka_python(settings_for(bootstrap)), timeout=LIMIT) as cluster:
        return cluster.read(topics)["raw.infermedica"].config["retention.ms"]


def test_without_a_terminal_a_change_that_deletes_needs_yes(own_broker: RunningBroker, tmp_path: Path) -> None:
    file = vendors(tmp_path, SHORT)
    refused = apply(own_broker.bootstrap, file)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == (
        "fhirline: --yes: required without a terminal, because records would be deleted: raw.infermedica: "
        f"retention.ms -1 -> {30 * DAY} (kept indefinitely, from now on 30 days; older records will be deleted) "
        "and 1 other change; nothing was done\n"
    )
    assert retention(own_broker.bootstrap) == "-1"
    done = apply(own_broker.bootstrap, file, "--yes")
    assert done.returncode == 0, done.stderr
    assert retention(own_broker.bootstrap) == str(30 * DAY)
    longer = apply(own_broker.bootstrap, vendors(tmp_path, "{}"))
    assert longer.returncode == 0, "a longer retention deletes nothing"
    assert retention(own_broker.bootstrap) == "-1"


def test_on_a_terminal_it_asks(own_broker: RunningBroker, tmp_path: Path) -> None:
    file = vendors(tmp_path, SHORT)
    no = apply(own_broker.bootstrap, file, answer="n")
    assert (no.returncode, no.stdout.strip()) == (1, "")
    assert "raw.infermedica.enriched: retention.ms -1" in no.stderr
    assert "Apply all changes, and delete these records?" in no.stderr
    assert retention(own_broker.bootstrap) == "-1"
    yes = apply(own_broker.bootstrap, file, answer="y")
    assert yes.returncode == 0, yes.stderr
    assert retention(own_broker.bootstrap) == str(30 * DAY)


def test_a_replaced_value_has_an_end_on_the_cluster_too(broker: RunningBroker) -> None:
    """Without a bound on compaction, what a tombstone replaces stays until enough else is written."""
    topics = [item for item in declared(broker.settings()) if item.name == "fhir.r4.Patient"]
    assert topics[0].config["max.compaction.lag.ms"] == str(7 * DAY)
    with Cluster(kafka_python(broker.settings()), timeout=LIMIT) as cluster:
        assert not cluster.plan(topics).differences
        if broker.kind == "apache":
            shorter = [replace(topic, compaction_lag=DAY) for topic in topics]
            assert [difference.what for difference in cluster.plan(shorter).differences] == ["max.compaction.lag.ms"]
