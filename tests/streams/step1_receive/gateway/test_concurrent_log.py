"""Requests at the same time: no line of the log has what belongs to another one."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson

from tests.support.receiving import GatewayProcess

AT_ONCE = 24
ROUTES = ("mediquo", "altibbi", "infermedica", "azodha/acme/BookAppointment")
BROKEN = b'{"cut": "off'


def lines_of(gateway: GatewayProcess) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in gateway.logged.splitlines()]


def test_no_line_has_the_event_key_of_another_request(gateway: GatewayProcess) -> None:
    bodies = [
        (route, BROKEN + b" " * number if broken else orjson.dumps({"beside": number, "route": route}))
        for number in range(30)
        for route in ROUTES
        for broken in (False, True)
    ]
    with ThreadPoolExecutor(AT_ONCE) as senders:
        answers = [*senders.map(lambda sent: (sent[0], gateway.post(f"/webhooks/{sent[0]}", sent[1])), bodies)]
    vendors = {answer.json["event_key"]: route.partition("/")[0] for route, answer in answers if answer.status == 202}
    assert len(vendors) == len(bodies) // 2
    gateway.line(lambda _: set(vendors) <= {line.get("event_key") for line in lines_of(gateway)})
    lines = lines_of(gateway)
    keyed = [line for line in lines if line.get("event_key") in vendors]
    assert sorted(line["event_key"] for line in keyed) == sorted(vendors), "a key is in the line of one request"
    for line in keyed:
        told = (line["event"], line["status"], line["vendor"])
        assert told == ("request", 202, vendors[line["event_key"]])
    assert [line for line in lines if line.get("status") == 400 and "event_key" in line] == []
