"""No value of a payload is in a log line or a metric. One event id leads from webhook to dead letter."""

import copy
import random
import re
import time
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from confluent_kafka import Producer
from confluent_kafka._types import HeadersType

from fhirline.topics.declared import BUNDLE, dead_letter_topic, raw_topic
from tests.support.cases import Case, cases
from tests.support.messages import header_of, value_of
from tests.support.mutations import mutated
from tests.support.receiving import HEADER, SECRETS
from tests.support.waiting import LIMIT
from tests.support.watching import WorkerEndpoint, first_record, watched

MARKED = re.compile(r"zq\d{6}qz", re.I)
"""A marker is a word that survives truncation, folding and escaping."""

TYPES = frozenset({"event", "event_type", "type", "new_status", "old_status", "webhookEvent"})
"""Keys with the event's type. A marker there would turn every event into an unknown one."""

pytestmark = pytest.mark.long  # the worker validates twice

MAX_BODY = 200_000


class Markers:
    """Gives each string its own marker, which tells where a leaked one came from."""

    def __init__(self) -> None:
        self.places: list[str] = []

    def new(self, place: str) -> str:
        self.places.append(place)
        return f"zq{len(self.places) - 1:06}qz"

    def found(self, text: str) -> dict[str, str]:
        """Marker → its payload and path."""
        return {match: self.places[int(match[2:8])] for match in MARKED.findall(text)}

    def marked(self, value: Any, place: str, keep: random.Random | None) -> Any:
        """Put a marker into each string: in its place, or, where the string must be readable, behind it.

        With ``keep`` half of the strings stay, so that mappings get beyond the first unreadable one.
        """
        if isinstance(value, dict):
            return {key: self._field(key, item, f"{place}/{key}", keep) for key, item in value.items()}
        if isinstance(value, list):
            return [self.marked(item, f"{place}/{number}", keep) for number, item in enumerate(value)]
        if not isinstance(value, str) or (keep is not None and keep.random() < 0.5):
            return value
        return f"{value} {self.new(place)}" if " " in value else self.new(place)

    def _field(self, key: str, item: Any, place: str, keep: random.Random | None) -> Any:
        return item if key in TYPES and isinstance(item, str) else self.marked(item, place, keep)


def variants(case: Case, markers: Markers, rng: random.Random) -> Iterator[dict[str, Any]]:
    """Return payloads with every string marked, with half of them marked (twice), and broken ones."""
    for number, body in enumerate(case.events):
        place = f"{case.vendor}/{case.name}#{number}"
        yield markers.marked(body, place, None)
        yield markers.marked(body, place, rng)
        yield markers.marked(mutated(copy.deepcopy(body), rng), place, rng)


@pytest.fixture(scope="module")
def markers() -> Markers:
    return Markers()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerEndpoint]:
    own = {
        "FHIRLINE_LOG_LEVEL": "debug",
        "FHIRLINE_VALIDATION": "both",  # logs disagreements of the validators too; it is slow, therefore:
        "FHIRLINE_BATCH_SIZE": "10",
        "FHIRLINE_SESSION_TIMEOUT": "30",  # longer than any pause of the machine
        "FHIRLINE_MAX_BODY_BYTES": str(MAX_BODY),
        "FHIRLINE_MAX_DEPTH": "20",
    }
    with watched(tmp_path_factory.mktemp("logs"), **own) as running:
        yield running


def test_no_value_of_a_payload_is_in_logs_or_metrics(stack: WorkerEndpoint, markers: Markers) -> None:
    rng, kept = random.Random(11), 0
    for case in cases():
        path = f"/webhooks/{case.vendor}/acme" + (f"/{case.route_event}" if case.route_event else "")
        for body in variants(case, markers, rng):
            answer = stack.gateway.post(path, body)
            assert answer.status in (202, 413)
            assert not markers.found(answer.body.decode())
            kept += answer.status == 202
    kept += straight_to_kafka(stack, markers)
    refused_requests(stack, markers)
    told = stack.until(lambda text: _sum(text, "fhirline_events_total") >= kept)
    assert _sum(told, "fhirline_events_total") == kept
    for outcome in ("mapped", "partial", "nothing", "dead-letter"):
        assert _sum(told, "fhirline_events_total", f'outcome="{outcome}"') > 0, f"no event was {outcome}"
    assert len(markers.places) > 5_000
    logged = stack.logged
    assert logged.count('"dead letter"') > 20
    assert logged.count('"event mapped"') > 500
    marked = first_record(
        stack.broker.bootstrap, BUNDLE, lambda message: bool(MARKED.search(value_of(message).decode()))
    )
    assert markers.found(value_of(marked).decode()), "they reach the resources"
    assert markers.found(logged) == {}
    scraped = "\n".join(stack.scraped().values())
    assert markers.found(scraped) == {}
    for secret in SECRETS.values():
        assert secret not in logged + scraped


def straight_to_kafka(stack: WorkerEndpoint, markers: Markers) -> int:
    """Return what another producer may write: no JSON, no object, odd headers and keys. Each is a dead letter."""
    producer = Producer({"bootstrap.servers": stack.broker.bootstrap})
    values = [
        f'{{"name": "{markers.new("not JSON")}"'.encode(),
        orjson.dumps([markers.new("no object")]),
        orjson.dumps(markers.new("no object")),
        b"\xff" + markers.new("no UTF-8").encode(),
        orjson.dumps({"a": markers.new("bad header")}),
    ]
    for value in values:
        names = ("event-key", "event-type", "tenant", "received-at", "traceparent", "attempt")
        headers: HeadersType = [(name, markers.new(f"header {name}").encode()) for name in names]
        producer.produce(raw_topic("mediquo"), value, markers.new("key").encode(), headers=headers)
    assert producer.flush(LIMIT) == 0
    return len(values)


def refused_requests(stack: WorkerEndpoint, markers: Markers) -> None:
    """Send requests with markers in every part."""
    new, proof = markers.new, {HEADER["mediquo"]: SECRETS["mediquo"], "content-type": "application/json"}
    name = new("body")
    deep = b'{"a":' * 30 + f'"{name}"'.encode() + b"}" * 30
    for method, path, body, headers in (
        ("POST", "/webhooks/mediquo", f'{{"{name}": '.encode(), proof),
        ("POST", "/webhooks/mediquo", deep, proof),
        ("POST", "/webhooks/mediquo", name.encode() * MAX_BODY, proof),
        ("POST", "/webhooks/mediquo", b"{}", {**proof, HEADER["mediquo"]: new("secret")}),
        ("POST", "/webhooks/mediquo", b"{}", {**proof, "content-type": f"text/{new('media type')}"}),
        ("POST", f"/webhooks/{new('vendor')}", b"{}", proof),
        ("POST", f"/webhooks/mediquo/{new('tenant')}", b"{}", proof),
        ("POST", f"/webhooks/azodha/acme/{new('event')}", b"{}", proof),
        ("PUT", f"/webhooks/mediquo?a={new('query')}", b"{}", {**proof, "user-agent": new("agent")}),
        ("GET", f"/{new('path')}", None, {"x-request-id": new("header")}),
    ):
        answer = stack.gateway.request(method, path, body, headers)
        assert 400 <= answer.status < 500
        assert not markers.found(answer.body.decode())


def test_one_event_id_leads_from_webhook_to_dead_letter(stack: WorkerEndpoint) -> None:
    case = next(item for item in cases() if item.vendor == "altibbi" and item.run()[0].refusals)
    answer = stack.gateway.post("/webhooks/altibbi", {**case.events[0], "only": "here"})
    event_key = answer.json["event_key"]
    letter = first_record(
        stack.broker.bootstrap,
        dead_letter_topic("altibbi"),
        lambda message: header_of(message, "event-key") == event_key,
    )
    received = stack.gateway.line(lambda line: line.get("event_key") == event_key)
    assert (received["event"], received["status"]) == ("request", 202)
    end = time.monotonic() + LIMIT
    while not (found := [line for line in stack.logged.splitlines() if event_key in line and "dead letter" in line]):
        assert time.monotonic() < end, stack.worker.report("does not tell of it")
        time.sleep(0.05)
    logged = orjson.loads(found[0].removeprefix("worker: "))
    assert logged["raw"] == header_of(letter, "raw")
    assert logged["code"] == header_of(letter, "error-code") == "resource-refused"


def _sum(metrics: str, name: str, label: str = "") -> float:
    return sum(
        float(line.rpartition(" ")[2])
        for line in metrics.splitlines()
        if line.startswith(f"{name}{{") and label in line
    )
