"""Kafka away and back, on Apache Kafka: readiness that is true, and a few lines, all of them JSON."""

import logging
import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from fhirline.streams.kafka.watch import ANSWER_SECONDS, ASK_SECONDS, LIBRARIES, REMIND_SECONDS, LibraryLines
from fhirline.streams.step1_receive.raw_producer import METADATA_TIMEOUT
from tests.support.infermedica_server import CLIENT_ID, CLIENT_SECRET, InfermedicaServer
from tests.support.kafka.brokers import apache, create_topics
from tests.support.paths import CONFIG, ROOT
from tests.support.processes import Command, command
from tests.support.receiving import SURVEY, GatewayProcess, environment, post_until_taken, running_gateway
from tests.support.waiting import wait_until
from tests.support.watching import get

BOUND = ASK_SECONDS + 2 * ANSWER_SECONDS
"""Seconds after which `streams.kafka.watch` promises to know that no broker answers."""

SLOW_MACHINE = 3.0
"""Factor for a machine with other tests on it."""


def parsed(lines: list[str], name: str = "") -> list[dict[str, Any]]:
    """Every line, which must be JSON."""
    return [orjson.loads(line.removeprefix(f"{name}: ")) for line in lines]


NUMBERS = re.compile(r" \(\d+ such lines\)|\d+")
"""The parts in which two lines of one kind differ. Each kind is logged once a minute at most."""

MEANWHILE = ("request", "gateway listening", "partitions assigned", "state restored", "offsets not committed")
"""Events of the log that may lie between `kafka away` and `kafka back`: a process may be in its group first."""


def enriching_tenants(folder: Path) -> Path:
    content = yaml.safe_load((CONFIG / "vendors.yaml").read_text("utf-8"))
    content["vendors"]["infermedica"]["tenants"]["acme"] = {"enrichment": True}
    path = folder / "vendors.yaml"
    path.write_text(yaml.safe_dump(content), "utf-8")
    return path


def seconds_until_ready(url: str, status: int, process: Command) -> float:
    began = time.monotonic()
    wait_until(lambda: get(url)[0] == status, lambda: process.report(f"/readyz does not answer {status}"))
    return time.monotonic() - began


def idle_after(metrics: str, events: int) -> bool:
    """Tell whether a worker has mapped and committed so many events. In the middle of a batch it would end."""
    sums = dict.fromkeys(("fhirline_events_total", "fhirline_lag_records"), 0.0)
    for line in metrics.splitlines():
        name, value = line.partition("{")[0], line.rpartition(" ")[2]
        if name in sums:
            sums[name] += float(value)
    return sums["fhirline_events_total"] >= events and sums["fhirline_lag_records"] == 0


def refused_at_once(gateway: GatewayProcess, count: int) -> list[float]:
    """Post so many webhooks at once, each of which is refused with 503. Return the seconds that each took."""

    def refused(n: int) -> float:
        began = time.monotonic()
        assert gateway.post("/webhooks/infermedica", {**SURVEY, "at-once": n}).status == 503
        return time.monotonic() - began

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(refused, range(count)))


@pytest.mark.long
def test_an_outage_is_told_once_and_readiness_is_true(tmp_path: Path) -> None:
    started = time.monotonic()
    with apache() as kafka, InfermedicaServer() as api:
        create_topics(kafka.bootstrap)
        own = {
            "FHIRLINE_SESSION_TIMEOUT": "12",  # a worker whose batch waits longer for the brokers ends, and should
            "FHIRLINE_METRICS_PORT": "0",
            "FHIRLINE_GATEWAY_DELIVERY_TIMEOUT": "1.5",
            "FHIRLINE_VENDORS_FILE": str(enriching_tenants(tmp_path)),
            "FHIRLINE_INFERMEDICA_URL": api.url,
            "FHIRLINE_INFERMEDICA_CLIENT_ID": CLIENT_ID,
            "FHIRLINE_INFERMEDICA_CLIENT_SECRET": CLIENT_SECRET,
        }
        environ = environment(kafka.bootstrap, **own)
        with (
            command("worker", environ=environ) as worker,
            command("enrich", environ=environ) as enrich,
            running_gateway(kafka.bootstrap, tmp_path, **own) as gateway,
        ):
            urls = {
                process: process.wait_for("metrics listening")["url"].replace("/metrics", "/readyz")
                for process in (worker, enrich)
            }
            for process, url in urls.items():
                seconds_until_ready(url, 200, process)
            keys = {post_until_taken(gateway, n=n) for n in range(3)}
            metrics = urls[worker].replace("/readyz", "/metrics")
            wait_until(lambda: idle_after(get(metrics)[1], len(keys)), lambda: worker.report("has not committed"))
            kafka.kill(1)
            for process, url in urls.items():
                assert seconds_until_ready(url, 503, process) < BOUND * SLOW_MACHINE
                assert "FHIRLINE_BOOTSTRAP: no broker has answered" in get(url)[1]
            gateway.event("kafka away")
            began = time.monotonic()
            for _ in range(20):
                assert gateway.request("GET", "/readyz").status == 503
            assert time.monotonic() - began < SLOW_MACHINE, "the public /readyz asks Kafka, which is known to be away"
            for n in range(3):
                assert gateway.post("/webhooks/infermedica", {**SURVEY, "m": n}).status == 503
            assert max(refused_at_once(gateway, 30)) < (METADATA_TIMEOUT + 1.5) * SLOW_MACHINE
            kafka.start(1)
            for process, url in urls.items():
                seconds_until_ready(url, 200, process)
            gateway.event("kafka back")
            wait_until(lambda: gateway.post("/webhooks/infermedica", SURVEY).status == 202, gateway.logged)
        for process in (worker, enrich):
            assert process.exit_code == 0, process.report("did not end in order")
        told = {
            "worker": parsed(worker.printed, "worker"),
            "enrich": parsed(enrich.printed, "enrich"),
            "gateway": parsed(gateway.logged.splitlines()),
        }
    for name, lines in told.items():
        events = [line["event"] for line in lines]
        assert events.count("kafka away") == 1, name
        assert events.count("kafka back") == 1, name
        assert events.index("kafka away") < events.index("kafka back")
        assert "Connection refused" in next(line["reason"] for line in lines if line["event"] == "kafka away")
        withheld = next(line["withheld"] for line in lines if line["event"] == "kafka back")
        assert withheld > 10, f"{name}: nothing was withheld, so this test proves nothing"
        during = events[events.index("kafka away") + 1 : events.index("kafka back")]
        assert [item for item in during if item not in MEANWHILE] == [], name
        loud = [line for line in lines if str(line.get("logger")).partition(".")[0] in LIBRARIES]
        kinds = Counter((line["logger"], NUMBERS.sub("#", line["event"])) for line in loud)
        most = 1 + (time.monotonic() - started) // REMIND_SECONDS
        assert not kinds or max(kinds.values()) <= most, f"{name}: a kind of library line too often: {kinds}"
        assert events.count("offsets not committed") <= 1, name
    requests = [line for line in told["gateway"] if line["event"] == "request"]
    assert keys <= {line["event_key"] for line in requests if line["status"] == 202}
    refused = [line for line in requests if line["status"] == 503]
    assert all(line["error"] == "kafka-unavailable" and line["reason"] for line in refused)
    others = [line for line in told["gateway"] if line["event"] != "request"]
    assert [line for line in others if {"event_key", "route", "vendor"} & line.keys()] == []


@pytest.fixture
def passed() -> list[str]:
    return []


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def root(passed: list[str], clock: Clock, monkeypatch: pytest.MonkeyPatch) -> LibraryLines:
    """A filter on a root handler that collects what passes."""

    class Collecting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            passed.append(record.getMessage())

    monkeypatch.setattr(logging.getLogger(), "handlers", [Collecting()])
    lines = LibraryLines(lambda: None, clock)
    lines.attach()
    return lines


def test_library_lines_pass_once_a_minute_while_kafka_answers(
    root: LibraryLines, passed: list[str], clock: Clock
) -> None:
    fetching = logging.getLogger("aiokafka.consumer.fetcher")
    for _ in range(50):
        logging.getLogger("librdkafka").error("%s [%s] %s", "FAIL", "client", "broker 2: 100% refused")
        fetching.error("Failed fetch messages from %s", 2)
        root.release()
    assert passed == ["FAIL [client] broker 2: 100% refused", "Failed fetch messages from 2"]
    clock.now += 61
    logging.getLogger("librdkafka").error("%s [%s] %s", "FAIL", "client", "broker 3: refused")
    root.release()
    assert passed[2:] == [
        "FAIL [client] broker 3: refused (50 such lines)",
        "Failed fetch messages from 2 (49 such lines)",
    ]


def test_defects_and_our_own_lines_pass_at_once(root: LibraryLines, passed: list[str]) -> None:
    try:
        raise ValueError
    except ValueError:
        logging.getLogger("aiokafka").exception("Unexpected error in coordinator")
    logging.getLogger("faust").error("agent crashed")
    logging.getLogger("kafkaesque").error("another library")
    assert passed == ["Unexpected error in coordinator", "agent crashed", "another library"]
    logging.getLogger("kafka.conn").warning("withheld")
    root.drop()
    assert root.withheld() == 1
    root.release()
    assert len(passed) == 3


CONSTRUCTED = re.compile(r"(?<![\w.])(?:confluent_kafka\.)?(?:Consumer|Producer|AdminClient)\(")


def test_every_librdkafka_client_has_our_logger() -> None:
    """One without it writes ``%3|…|FAIL|`` to standard error."""
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in ("streams", "topics", "config", "mappers")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if CONSTRUCTED.search(line)
    ]
    assert found == [], "use streams.kafka.clients.new_client"


def searched(*texts: str) -> list[bool]:
    return [bool(CONSTRUCTED.search(text)) for text in texts]


def test_the_search_for_clients_finds_them() -> None:
    assert searched("x = Consumer(", "confluent_kafka.Producer({})", "[AdminClient(config)]") == [True] * 3
    assert searched("KafkaConsumer(", "new_client(Consumer, c)", "RawProducer(settings)") == [False] * 3
