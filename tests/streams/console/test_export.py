"""The export of a group of dead letters: the command's file, with a reason and audit lines, streamed."""

import http.client
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import orjson
import pytest

from fhirline.config.settings import Settings
from fhirline.mappers.instants import Instant
from fhirline.streams.console.views.dead_letters import MOST_REVEALED
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.step1_receive.raw_record import raw_record
from tests.streams.console.test_access import audited
from tests.support import cli
from tests.support.console_pages import Answer, Visitor, console
from tests.support.kafka.brokers import RunningBroker
from tests.support.load import Load, load_on
from tests.support.waiting import LIMIT

PAGE, EXPORT = "/dead-letters/events?vendor=altibbi&code=resource-refused", "/dead-letters/export"
MARKER = "Xanthippe-7731"


def refused_events(tenant: str, count: int, size: int = 10) -> Iterator[ProducerRecord]:
    """Events that name no patient, with a text that no page shows."""
    at = Instant.parse("2024-06-12T15:20:00Z")
    assert at
    for number in range(count):
        body = {"type": "status_update", "consultation_id": number + 1, "note": MARKER + "x" * size}
        yield raw_record("altibbi", tenant, orjson.dumps(body), at, None, 64)


def fields(visitor: Visitor) -> dict[str, str]:
    form = visitor.get(PAGE).text.partition(f'action="{EXPORT}"')[2].partition("</form>")[0]
    return dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', form))


def exported(settings: Settings, folder: Path, *more: str) -> bytes:
    """Run the command and return what it writes."""
    path = folder / "letters.jsonl"
    arguments = ("--to", str(path), "--vendor", "altibbi", "--code", "resource-refused", *more)
    said = cli.run("dead-letters", "export", *arguments, env={"FHIRLINE_BOOTSTRAP": settings.bootstrap, "PATH": ""})
    assert said.returncode == 0, said.stderr
    return path.read_bytes()


@pytest.fixture
def load(own_broker: RunningBroker) -> Load:
    return load_on(own_broker)


def test_the_export_is_the_file_of_the_command(load: Load, tmp_path: Path) -> None:
    load.send(load.events(60, seed=31))
    load.send(refused_events(load.tenant, 3))
    with console(load.settings) as (url, process):
        visitor = Visitor(url).log_in()
        form = fields(visitor)
        assert {form["vendor"], form["code"]} == {"altibbi", "resource-refused"}
        without = visitor.post(EXPORT, **form)
        assert without.status == 200
        assert without.text.encode() == exported(load.settings, tmp_path)
        assert without.text.count("\n") >= 3
        assert MARKER not in without.text
        name = 'attachment; filename="dead-letters-altibbi-resource-refused.jsonl"'
        assert without.headers["Content-Disposition"] == name
        assert without.headers["Cache-Control"] == "no-store"

        whole = {**form, "payloads": "on", "reason": "ticket 12"}
        assert visitor.post(EXPORT, **{**whole, "form-token": "x"}).status == 403
        assert visitor.post(EXPORT, **{**whole, "reason": " "}).status == 400
        revealed = visitor.post(EXPORT, **whole)
        assert revealed.text.encode() == exported(load.settings, tmp_path, "--reveal", "--reason", "x")
        assert revealed.text.count(MARKER) == 3
        ids = [orjson.loads(line)["id"] for line in revealed.text.splitlines()]
        written = audited(process, "dead letter revealed", len(ids))
        assert sorted(line["letter"] for line in written) == sorted(ids)
        assert {(line["by"], line["reason"]) for line in written} == {("console export", "ticket 12")}
        assert MARKER not in process.output

        answers = list[Answer]()
        while not answers or answers[-1].status == 200:
            answers.append(visitor.post(EXPORT, **whole))
            assert len(answers) < 20, "nobody limits it"
        assert answers[-1].status == 429
        assert 0 < int(answers[-1].headers["Retry-After"]) <= 60
        assert visitor.post(EXPORT, **form).status == 200, "without payloads there is no limit"


def test_a_file_with_payloads_is_of_a_bounded_number_of_events(load: Load) -> None:
    load.send(refused_events(load.tenant, MOST_REVEALED + 1))
    with console(load.settings) as (url, process):
        visitor = Visitor(url).log_in()
        form = fields(visitor)
        refused = visitor.post(EXPORT, **form, payloads="on", reason="too many")
        assert refused.status == 400
        assert "fhirline dead-letters export --reveal" in refused.text
        assert visitor.post(EXPORT, **form).text.count("\n") == MOST_REVEALED + 1
        assert audited(process, "dead letter revealed", 0) == []
        assert MARKER not in process.output


def test_a_client_that_goes_away_holds_up_nobody(load: Load) -> None:
    """Others are answered while it has taken a part, and get the whole file afterwards."""
    count, size = 400, 100_000
    load.send(refused_events(load.tenant, count, size))
    with console(load.settings) as (url, process):
        visitor = Visitor(url).log_in()
        form = {**fields(visitor), "payloads": "on", "reason": "a test"}
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=LIMIT)
        headers = {"Cookie": visitor.cookie, "Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", EXPORT, urlencode(form), headers)
        answer = connection.getresponse()
        assert answer.read(size).startswith(b'{"id":"raw.altibbi/')
        assert visitor.get("/dead-letters").status == 200, "while somebody takes a part"
        answer.close()
        connection.close()
        whole = visitor.post(EXPORT, **form)
        lines = whole.text.splitlines()
        assert len(lines) == count, process.report("sent a part")
        assert len({orjson.loads(line)["id"] for line in lines}) == count
        assert "page failed" not in process.output
