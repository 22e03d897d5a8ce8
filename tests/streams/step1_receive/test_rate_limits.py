"""Rate limits by vendor and tenant: excess requests are answered 429 with Retry-After."""

import sys
import threading
from pathlib import Path
from time import thread_time
from timeit import timeit

import pytest
import yaml

from fhirline.config.errors import ConfigurationError
from fhirline.config.vendors import RateLimit, load_vendors
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.step1_receive.rate_limit import RateLimits, TokenBucket
from tests.support.paths import CONFIG
from tests.support.receiving import SECRETS, SURVEY, Answer, create_raw_topics, running_gateway, stored

PACKAGED = CONFIG / "vendors.yaml"


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def limited(folder: Path, **limits: object) -> Path:
    """Load the packaged vendors with limits for Infermedica: ``vendor``, ``defaults`` and ``acme``."""
    content = yaml.safe_load(PACKAGED.read_text("utf-8"))
    vendor = content["vendors"]["infermedica"]
    if "vendor" in limits:
        vendor["rate_limit"] = limits["vendor"]
    if "defaults" in limits:
        vendor["defaults"]["rate_limit"] = limits["defaults"]
    if "acme" in limits:
        vendor["tenants"]["acme"] = {"rate_limit": limits["acme"]}
    path = folder / "vendors.yaml"
    path.write_text(yaml.safe_dump(content), "utf-8")
    return path


def test_without_a_limit_in_vendors_yaml_nothing_is_limited() -> None:
    limits = RateLimits(load_vendors(), Clock())
    assert not any(limits.wait(vendor, "default") for vendor in SECRETS for _ in range(10_000))


def test_a_burst_then_the_rate(tmp_path: Path) -> None:
    clock = Clock()
    limits = RateLimits(load_vendors(limited(tmp_path, defaults={"per_second": 0.5, "burst": 3})), clock)
    waits = [limits.wait("infermedica", "default") for _ in range(5)]
    assert waits == [0, 0, 0, 2, 2], "refused requests take nothing"
    assert limits.wait("infermedica", "acme") == 0, "each tenant has its own bucket"
    clock.now += 2.0
    assert [limits.wait("infermedica", "default") for _ in range(2)] == [0, 2]
    clock.now += 3_600
    assert [limits.wait("infermedica", "default") for _ in range(4)] == [0, 0, 0, 2], "never more than the burst"


def test_a_vendors_limit_is_shared_by_its_tenants(tmp_path: Path) -> None:
    clock = Clock()
    vendors = load_vendors(limited(tmp_path, vendor={"per_second": 1, "burst": 3}, acme={"per_second": 1, "burst": 1}))
    limits = RateLimits(vendors, clock)
    assert [limits.wait("infermedica", "acme") for _ in range(3)] == [0, 1, 1]
    assert [limits.wait("infermedica", "default") for _ in range(3)] == [0, 0, 1], "refused requests take no token"
    assert limits.wait("altibbi", "default") == 0


@pytest.mark.parametrize("wrong", [{"per_second": 0}, {"burst": 3}, {"per_second": 1, "burst": 0}, {"rate": 1}, 5])
def test_an_invalid_limit_is_reported_with_its_place(tmp_path: Path, wrong: object) -> None:
    with pytest.raises(ConfigurationError, match="rate_limit"):
        load_vendors(limited(tmp_path, vendor=wrong))


def test_it_costs_no_more_than_a_few_dictionary_lookups() -> None:
    """Compared with known work on the same machine, in its own CPU time: no other process's share counts."""
    bucket = TokenBucket(RateLimit(per_second=1e6), 0.0)
    table = {str(n): n for n in range(100)}

    def take() -> None:
        bucket.wait(0.5)
        bucket.take()

    taking = min(timeit(take, timer=thread_time, number=20_000) for _ in range(5))
    reading = min(timeit(lambda: [table[name] for name in table], timer=thread_time, number=20_000) for _ in range(5))
    assert taking < reading, f"{taking / 20_000 * 1e6:.2f} µs on Python {sys.version_info[:2]}"


def test_over_http_excess_is_answered_429_and_nothing_accepted_is_lost(tmp_path: Path) -> None:
    vendors = limited(tmp_path, defaults={"per_second": 0.0001, "burst": 20})
    with EmbeddedBroker() as broker:
        create_raw_topics(broker)
        with running_gateway(broker.bootstrap, tmp_path, FHIRLINE_VENDORS_FILE=str(vendors)) as gateway:
            stranger = {"x_webhook_infermedica_token": "wrong"}
            wrong = {gateway.post("/webhooks/infermedica", SURVEY, **stranger).status for _ in range(30)}
            answers: list[Answer] = []

            def send(sender: int) -> None:
                answers.extend(gateway.post("/webhooks/infermedica", {"n": f"{sender}-{n}"}) for n in range(10))

            senders = [threading.Thread(target=send, args=(n,)) for n in range(4)]
            for sender in senders:
                sender.start()
            for sender in senders:
                sender.join()
            assert wrong == {401}, "requests without a credential use up nothing"
            refused = [answer for answer in answers if answer.status == 429]
            assert len(answers) - len(refused) == 20 == sum(answer.status == 202 for answer in answers)
            assert {item.refused for item in refused} == {(429, "rate-limited")}
            assert all(9_000 < int(item.headers["retry-after"]) <= 10_000 for item in refused)
            assert gateway.post("/webhooks/altibbi", {"user_id": 1}).status == 202
            assert len(stored(broker.bootstrap, "infermedica")) == 20
