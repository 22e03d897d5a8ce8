"""How long a vendor's records stay: declared in vendors.yaml, shown in the plan before anything goes by it."""

from dataclasses import replace
from pathlib import Path

import pytest

from fhirline.config.errors import ConfigurationError
from fhirline.config.vendors import load_vendors
from fhirline.streams.kafka.clients import kafka_python
from fhirline.topics.cluster import Cluster
from fhirline.topics.declared import DAY, FOREVER, Topic, declared
from fhirline.topics.plan import Action, Existing, compare
from tests.support.kafka.brokers import RunningBroker, settings_for
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
    kept = {each.name: each.retention for each in declared(settings_for(NOWHERE, vendors_file=file))}
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


def test_a_replaced_value_has_an_end_on_the_cluster_too(broker: RunningBroker) -> None:
    """Without a bound on compaction, what a tombstone replaces stays until enough else is written."""
    topics = [each for each in declared(broker.settings()) if each.name == "fhir.r4.Patient"]
    assert topics[0].config["max.compaction.lag.ms"] == str(7 * DAY)
    with Cluster(kafka_python(broker.settings()), timeout=LIMIT) as cluster:
        assert not cluster.plan(topics).differences
        if broker.kind == "apache":
            shorter = [replace(each, compaction_lag=DAY) for each in topics]
            assert [each.what for each in cluster.plan(shorter).differences] == ["max.compaction.lag.ms"]
