"""Demo and dev on a cluster that FHIRLINE_BOOTSTRAP names: one in use is refused, another is as before at the end."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from fhirline.config.errors import ConfigurationError
from fhirline.config.own_command import own_command
from fhirline.streams.demo.borrowed_cluster import BorrowedCluster
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.demo.webhooks import samples
from fhirline.topics.declared import ERASED, declared, raw_topic
from tests.support import cli
from tests.support.kafka.brokers import RunningBroker, apache, create_topics, settings_for
from tests.support.waiting import LIMIT, wait_until


@pytest.fixture
def empty() -> Iterator[str]:
    """A broker without any topic."""
    with EmbeddedBroker() as broker:
        yield broker.bootstrap


@pytest.fixture(params=["embedded", pytest.param("apache", marks=pytest.mark.long)])
def cluster(request: pytest.FixtureRequest) -> Iterator[str]:
    """A cluster of each kind without any topic of ours."""
    if request.param == "embedded":
        with EmbeddedBroker() as broker:
            yield broker.bootstrap
    else:
        with apache() as kafka:
            yield kafka.bootstrap


def environment(bootstrap: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("FHIRLINE_")}
    return own | {"FHIRLINE_BOOTSTRAP": bootstrap}


def fhirline(*arguments: str, bootstrap: str) -> "subprocess.CompletedProcess[str]":
    return cli.run(*arguments, env=environment(bootstrap))


def topics_on(bootstrap: str) -> set[str]:
    topics = AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=LIMIT).topics
    return {name for name in topics if not name.startswith("__")}


def groups_on(bootstrap: str) -> set[str]:
    admin = AdminClient({"bootstrap.servers": bootstrap})  # its futures fail once it is collected
    return {group.group_id for group in admin.list_consumer_groups().result().valid}


def create(bootstrap: str, topic: str, partitions: int = 1) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result()


def commit(bootstrap: str, group: str, topic: str) -> None:
    """Commit an offset, as a worker that has ended has."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    consumer.commit(offsets=[TopicPartition(topic, 0, 1)], asynchronous=False)
    consumer.close()


def write(bootstrap: str, topic: str, tenant: str) -> None:
    errors: list[object] = []
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(
        topic, b"{}", b"key", headers={"tenant": tenant.encode()}, on_delivery=lambda error, _: errors.append(error)
    )
    assert producer.flush(LIMIT) == 0
    assert errors == [None]


@pytest.mark.parametrize("command", ["demo", "dev"])
def test_a_cluster_with_our_topics_is_refused_and_untouched(command: str, own_broker: RunningBroker) -> None:
    write(own_broker.bootstrap, raw_topic("altibbi"), "acme")
    before = topics_on(own_broker.bootstrap)
    ran = fhirline(command, bootstrap=own_broker.bootstrap)
    assert ran.returncode == 2
    assert ran.stderr.startswith(f"fhirline: FHIRLINE_BOOTSTRAP: {own_broker.bootstrap} is in use")
    assert "unset FHIRLINE_BOOTSTRAP" in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert topics_on(own_broker.bootstrap) == before
    assert groups_on(own_broker.bootstrap) == set()


def test_a_cluster_of_other_vendors_is_refused(empty: str) -> None:
    create(empty, "dead-letter.another")
    with pytest.raises(ConfigurationError, match=r"dead-letter\.another"), BorrowedCluster(settings_for(empty), print):
        pytest.fail("it was taken")


@pytest.mark.parametrize("group", ["fhirline", "own-name", "own-name.enrich", "fhirline-demo-00000000"])
def test_a_cluster_with_our_group_is_refused(group: str, empty: str) -> None:
    create(empty, "others")
    commit(empty, group, "others")
    with pytest.raises(ConfigurationError) as refused, BorrowedCluster(settings_for(empty, group="own-name"), print):
        pytest.fail("it was taken")
    assert f"group ({group})" in str(refused.value)
    assert ("that was killed" in str(refused.value)) is group.startswith("fhirline-demo-")
    assert topics_on(empty) == {"others"}


def test_a_topic_that_appears_before_creation_ends_the_run(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process creates a topic after the check: its topic stays, and those of this run are deleted."""
    taken = raw_topic("mediquo")
    check: Callable[..., None] = BorrowedCluster._refuse_where_used

    def check_then_lose(self: BorrowedCluster, *arguments: object) -> None:
        check(self, *arguments)
        create(empty, taken, 6)

    monkeypatch.setattr(BorrowedCluster, "_refuse_where_used", check_then_lose)
    with pytest.raises(ConfigurationError, match=f"topics appeared .*{taken}"):
        BorrowedCluster(settings_for(empty), print).__enter__()
    assert topics_on(empty) == {taken}


@pytest.mark.parametrize("moment", ["asked", "clearing"])
def test_an_interrupted_creation_leaves_no_topic(moment: str, cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while Kafka creates the topics, and once more while they are deleted."""
    clear: Callable[..., None] = BorrowedCluster._clear

    class Interrupting(AdminClient):
        def create_topics(self, *arguments: Any, **more: Any) -> Any:
            asked = super().create_topics(*arguments, **more)
            signal.raise_signal(signal.SIGINT)
            return asked

    def clear_interrupted(self: BorrowedCluster) -> None:
        if moment == "clearing":
            signal.raise_signal(signal.SIGINT)
        clear(self)

    monkeypatch.setattr("fhirline.streams.demo.borrowed_cluster.AdminClient", Interrupting)
    monkeypatch.setattr(BorrowedCluster, "_clear", clear_interrupted)
    with pytest.raises(KeyboardInterrupt):
        BorrowedCluster(settings_for(cluster), pytest.fail).__enter__()
    wait_until(lambda: topics_on(cluster) == set(), lambda: f"left: {topics_on(cluster)}")


def test_topics_and_group_are_deleted_at_the_end(cluster: str) -> None:
    create(cluster, "others")
    commit(cluster, "others", "others")
    settings = settings_for(cluster)
    with BorrowedCluster(settings, pytest.fail) as taken:
        assert topics_on(cluster) == {"others", *(topic.name for topic in declared(settings))}
        write(cluster, raw_topic("altibbi"), taken.tenant)
        commit(cluster, taken.group, raw_topic("altibbi"))
    assert topics_on(cluster) == {"others"}
    assert groups_on(cluster) == {"others"}


@pytest.mark.parametrize("use", ["event", "erasure", "group"])
def test_what_a_deployment_uses_meanwhile_is_not_deleted(use: str, cluster: str) -> None:
    """A deployment is started while the run is there: nothing of it is deleted, and what remains is named."""
    remaining: list[str] = []
    with BorrowedCluster(settings_for(cluster), remaining.append):
        created = topics_on(cluster)
        create_topics(cluster)  # the deployment's `topics apply`
        if use == "event":
            write(cluster, raw_topic("altibbi"), "default")
        elif use == "erasure":
            write(cluster, ERASED, "")
        else:
            commit(cluster, "fhirline", raw_topic("altibbi"))
    assert topics_on(cluster) == created
    [line] = remaining
    assert line.startswith("remaining")
    assert {"event": raw_topic("altibbi"), "erasure": ERASED, "group": "(fhirline)"}[use] in line


@pytest.mark.long
@pytest.mark.parametrize("ending", [None, signal.SIGINT, signal.SIGTERM])
def test_the_demo_leaves_the_cluster_as_it_was(ending: signal.Signals | None, cluster: str, tmp_path: Path) -> None:
    """To its end, and interrupted twice, also while it cleans up."""
    with subprocess.Popen(
        own_command("demo"),
        env=environment(cluster),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as ran:
        assert ran.stdout is not None
        assert ran.stderr is not None
        if ending:
            assert any("gateway" in line for line in ran.stdout)
            ran.send_signal(ending)
            ran.send_signal(ending)
        printed, errors = ran.stdout.read(), ran.stderr.read()
        code = ran.wait(LIMIT)
    assert code == (130 if ending else 0), printed + errors
    assert "remaining" not in printed
    if not ending:
        assert f"resources from {len(samples())} webhooks, all validated" in printed
        assert "https://demo.fhirline.example.org/" in printed
    assert topics_on(cluster) == set()
    assert groups_on(cluster) == set()
