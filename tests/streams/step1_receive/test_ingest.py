"""``fhirline ingest`` as a process with a real broker: the gateway's records, and every line accounted for."""

import os
import pty
import signal
import stat
import subprocess
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import orjson
import pytest

from fhirline.config.own_command import own_command
from fhirline.mappers.instants import Instant
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.step1_receive.files import lines
from fhirline.streams.step1_receive.raw_record import raw_record
from tests.support import cli
from tests.support.messages import key_of, text_headers, value_of
from tests.support.receiving import create_raw_topics, environment, running_gateway, stored
from tests.support.waiting import LIMIT, wait_until

PAST = "2021-03-04T05:06:07.089+01:00"


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


def ingest(broker: EmbeddedBroker, folder: Path, *arguments: str, stdin: bytes = b"", **environ: str) -> Ended:
    done = cli.run("ingest", *arguments, stdin=stdin, cwd=folder, env=environment(broker.bootstrap, **environ))
    return Ended(done.returncode, done.stdout, done.stderr)


def survey(survey_id: object) -> bytes:
    return orjson.dumps({"event_type": "survey_finished", "content": {"survey_id": survey_id}})


def kept(broker: EmbeddedBroker, vendor: str, tenant: str) -> list[tuple[bytes, bytes, dict[str, str], int]]:
    """Return key, value, headers and timestamp of a tenant's records. Each test has its own tenant or vendor."""
    return [
        (key_of(message), value_of(message), text_headers(message), message.timestamp()[1])
        for message in stored(broker.bootstrap, vendor)
        if text_headers(message)["tenant"] == tenant
    ]


def test_a_line_becomes_the_record_that_the_gateway_makes(broker: EmbeddedBroker, tmp_path: Path) -> None:
    body = {"user_id": 5, "data": {"dispense": {"pass_code": "4711", "url": "https://rx"}}}
    (tmp_path / "events.ndjson").write_bytes(orjson.dumps(body) + b"\n")
    done = ingest(broker, tmp_path, "altibbi", "events.ndjson", "--tenant", "acme", "--received-at", PAST)
    assert (done.code, done.err) == (0, "")
    assert done.out == "1 line: 1 in the topic, 0 rejected, 0 blank\n"
    with running_gateway(broker.bootstrap, tmp_path) as gateway:
        event_key = gateway.post("/webhooks/altibbi/acme", body).json["event_key"]
    [ingested, received] = sorted(kept(broker, "altibbi", "acme"), key=lambda item: item[3])
    assert ingested[:2] == received[:2]
    assert b"4711" not in ingested[1]
    assert ingested[2] == {"received-at": PAST, "tenant": "acme", "event-key": event_key}
    assert {**received[2], "received-at": PAST} == ingested[2]
    past = Instant.parse(PAST)
    assert past is not None
    assert ingested[3] == past.order[0] * 1000 + 89


def test_azodhas_event_is_an_option(broker: EmbeddedBroker, tmp_path: Path) -> None:
    line = b'{"patientId": "p-1"}'
    done = ingest(broker, tmp_path, "azodha", "-", "--event", "BookAppointment", stdin=line)
    assert done.code == 0
    [(key, value, headers, _)] = kept(broker, "azodha", "default")
    assert (key, value, headers["event-type"]) == (b"default|p-1", b'{"patientId":"p-1"}', "BookAppointment")


def test_a_bad_line_is_reported_and_the_others_are_ingested(broker: EmbeddedBroker, tmp_path: Path) -> None:
    bad = {2: b'{"secret name": ', 4: b'["secret name"]', 5: b"\xff\xfe", 7: b'{"a":' + b"[" * 99 + b"]" * 99 + b"}"}
    first = [bad.get(number, b"" if number == 6 else survey(f"bad-{number}")) for number in range(1, 9)]
    (tmp_path / "first.ndjson").write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(first))
    (tmp_path / "second.ndjson").write_bytes(b"no json\n" + survey("bad-second") + b"\n")
    before = kept(broker, "infermedica", "default")
    done = ingest(broker, tmp_path, "infermedica", "first.ndjson", "second.ndjson", "--rejects", "rejects.ndjson")
    assert done.code == 1
    assert done.out == "10 lines: 4 in the topic, 5 rejected, 1 blank\n"
    assert all(f"SHA-256 {sha256(line).hexdigest()} (" in done.err for line in (*bad.values(), b"no json"))
    places = [(line.split(": ")[0], line.rpartition("(")[2]) for line in done.err.splitlines()]
    assert places == [
        ("first.ndjson:2", "not-json)"),
        ("first.ndjson:4", "not-an-object)"),
        ("first.ndjson:5", "not-json)"),
        ("first.ndjson:7", "too-deep)"),
        ("second.ndjson:1", "not-json)"),
    ]
    assert "secret name" not in done.err + done.out
    assert (tmp_path / "rejects.ndjson").read_bytes().splitlines() == [*bad.values(), b"no json"]
    assert stat.S_IMODE((tmp_path / "rejects.ndjson").stat().st_mode) == 0o600
    taken = [key for key, *_ in kept(broker, "infermedica", "default")]
    for key, *_ in before:
        taken.remove(key)
    assert sorted(taken) == sorted(f"default|survey/bad-{n}".encode() for n in (1, 3, 8, "second"))


def test_a_body_over_several_lines_is_reported_as_such(broker: EmbeddedBroker, tmp_path: Path) -> None:
    body = orjson.dumps(orjson.loads(survey("pretty")), option=orjson.OPT_INDENT_2)
    (tmp_path / "pretty.json").write_bytes(body)
    done = ingest(broker, tmp_path, "infermedica", "pretty.json")
    assert done.code == 1
    assert done.err.splitlines()[-1].startswith("most lines are not JSON. A body is one line")


def test_rejected_lines_can_be_corrected_and_ingested_again(broker: EmbeddedBroker, tmp_path: Path) -> None:
    """The same line twice is the same event twice, so that an ingest can be repeated."""
    options = ("mediquo", "-", "--tenant", "acme", "--received-at", PAST)
    line = b'{"type": "x", "payload": {"patient": {"code": "p-1"}}}\n'
    assert (
        ingest(
            broker,
            tmp_path,
            *options,
            stdin=line + line[:9],
        ).code
        == 1
    )
    assert ingest(broker, tmp_path, *options, stdin=line).code == 0
    [first, again] = kept(broker, "mediquo", "acme")
    assert first == again


@pytest.mark.parametrize("name", ["rejects.ndjson", "./rejects.ndjson", "linked.ndjson"])
def test_a_file_that_is_read_is_not_emptied_for_rejects(broker: EmbeddedBroker, tmp_path: Path, name: str) -> None:
    """Corrected rejects may be all that is left of their events."""
    (tmp_path / "rejects.ndjson").write_bytes(survey("corrected"))
    (tmp_path / "linked.ndjson").symlink_to("rejects.ndjson")
    done = ingest(broker, tmp_path, "infermedica", "rejects.ndjson", "--rejects", name)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("fhirline: --rejects")
    assert (tmp_path / "rejects.ndjson").read_bytes() == survey("corrected")


def test_ctrl_c_ends_it_with_what_to_do(broker: EmbeddedBroker, tmp_path: Path) -> None:
    with subprocess.Popen(
        own_command("ingest", "infermedica", "-", "--rejects", "rejects.ndjson"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=environment(broker.bootstrap),
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write("no json\n")
        process.stdin.flush()
        assert "(not-json)" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 130
    assert errors.splitlines()[-1].startswith("fhirline ingest: interrupted; run it again")


def test_lines_too_large(broker: EmbeddedBroker, tmp_path: Path) -> None:
    """Lines beyond the limit of a line, and beyond that of Kafka: a record is larger than its line."""
    limit = 65_536
    much = [limit - 18 - 60, limit - 18 - 1, 10 * limit]
    content = b"".join(b'{"event_type": "' + b"x" * size + b'"}\n' for size in much) + survey("after")
    done = ingest(
        broker, tmp_path, "infermedica", "-", "--tenant", "acme", stdin=content, FHIRLINE_MESSAGE_MAX_BYTES=str(limit)
    )
    assert (done.code, done.out) == (1, "4 lines: 1 in the topic, 3 rejected, 0 blank\n")
    said = [line.rpartition("(")[2] for line in done.err.splitlines()]
    assert said == ["record-too-large)", "record-too-large)", "too-large)"]
    assert [key for key, *_ in kept(broker, "infermedica", "acme")] == [b"acme|survey/after"]


def test_many_lines(broker: EmbeddedBroker, tmp_path: Path) -> None:
    """More than are in flight at once. A patient's events stay in order."""
    count = 25_000
    content = b"".join(b'{"user_id":"many-%d","n":%d}\n' % (n % 7, n) for n in range(count))
    done = ingest(broker, tmp_path, "altibbi", "-", stdin=content)
    assert (done.code, done.out) == (0, "25,000 lines: 25,000 in the topic, 0 rejected, 0 blank\n")
    by_key: dict[bytes, list[int]] = {}
    for key, value, *_ in kept(broker, "altibbi", "default"):
        by_key.setdefault(key, []).append(orjson.loads(value)["n"])
    assert sum(map(len, by_key.values())) == count
    assert all(numbers == sorted(numbers) for numbers in by_key.values())
    assert len(by_key) == 7


@pytest.mark.long
def test_success_is_not_reported_when_kafka_stops(tmp_path: Path) -> None:
    with EmbeddedBroker() as broker:
        create_raw_topics(broker)
        process = subprocess.Popen(
            own_command("ingest", "infermedica", "-"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            env=environment(broker.bootstrap, FHIRLINE_DELIVERY_TIMEOUT="5"),
        )
        assert process.stdin is not None
        try:
            process.stdin.write((survey(1) + b"\n") * 20_000)  # more than the limit in flight, so some are stored
            process.stdin.flush()
            wait_until(lambda: stored(broker.bootstrap, "infermedica"), "nothing was stored")
            broker.stop()
            out, err = process.communicate((survey(2) + b"\n") * 5, timeout=LIMIT)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    assert process.returncode == 1
    assert b"Kafka did not take an event" in err
    assert b"lines: " in out
    taken = int(out.split(b"lines: ")[1].split(b" in the topic")[0].replace(b",", b""))
    assert taken <= 20_000, "lines sent after Kafka has stopped cannot be in the topic"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nobody", "-"), "VENDOR"),
        (("mediquo", "-", "--tenant", "stranger"), "--tenant"),
        (("mediquo", "-", "--event", "BookAppointment"), "--event"),
        (("azodha", "-", "--event", "Nothing"), "--event: one of AppointmentToCareTaskActivityLog"),
        (("mediquo", "-", "--received-at", "2024-01-01"), "--received-at"),
        (("mediquo", "-", "--received-at", "9000-01-01T00:00:00Z"), "--received-at"),
        (("mediquo", "missing.ndjson"), "missing.ndjson"),
        (("mediquo", "-", "--rejects", "no/such/folder"), "--rejects"),
    ],
)
def test_a_wrong_argument_is_one_line(
    broker: EmbeddedBroker, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = ingest(broker, tmp_path, *arguments, stdin=b"{}\n")
    assert (done.code, done.out) == (2, "")
    [line] = done.err.splitlines()
    assert line.startswith(f"fhirline: {said}")


def test_a_missing_topic_is_not_created(tmp_path: Path) -> None:
    with EmbeddedBroker() as empty:
        done = ingest(empty, tmp_path, "mediquo", "-", stdin=b"{}\n")
        assert done.code == 2
        assert done.err == "fhirline: topic raw.mediquo does not exist; run: fhirline topics apply\n"
    gone = ingest(empty, tmp_path, "mediquo", "-", stdin=b"{}\n", FHIRLINE_DELIVERY_TIMEOUT="1")
    assert gone.code == 2
    assert any(line.startswith("fhirline: FHIRLINE_BOOTSTRAP: ") for line in gone.err.splitlines())


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_on_a_terminal_there_is_a_progress_bar(broker: EmbeddedBroker, tmp_path: Path) -> None:
    (tmp_path / "events.ndjson").write_bytes((survey(3) + b"\n") * 50 + b"bad\n")
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            own_command("ingest", "infermedica", "events.ndjson"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=theirs,
            cwd=tmp_path,
            env=environment(broker.bootstrap, TERM="xterm-256color", COLUMNS="120"),
        )
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65_536):
                shown += part
        except OSError:  # Linux: the other end is closed
            pass
        out, _ = process.communicate(timeout=LIMIT)
    finally:
        os.close(ours)
    assert process.returncode == 1
    assert out == b"51 lines: 50 in the topic, 1 rejected, 0 blank\n"
    assert b"events.ndjson:51: " in shown
    assert b"50 in the topic, 1 rejected" in shown


def test_a_line_is_read_up_to_the_limit_only(tmp_path: Path) -> None:
    path = tmp_path / "one"
    path.write_bytes(b"x" * 100_000 + b"\nab\r\n" + b"y" * 10 + b"\n" + b"z" * 11)
    with path.open("rb") as stream:
        found = [(line.number, line.content, line.size) for line in lines("one", stream, 10)]
    assert found == [(1, None, 100_001), (2, b"ab", 4), (3, b"y" * 10, 11), (4, None, 11)]


def test_the_record_is_a_function_of_the_line_and_the_time(tmp_path: Path) -> None:
    at = Instant.parse("1969-12-31T23:59:59Z")
    assert at is not None
    made = raw_record("infermedica", "acme", survey(9), at, None, 64)
    assert made == raw_record("infermedica", "acme", survey(9), at, None, 64)
    assert made.timestamp_ms == 1  # Kafka has no earlier time; the header has
    assert ("received-at", b"1969-12-31T23:59:59Z") in made.headers
