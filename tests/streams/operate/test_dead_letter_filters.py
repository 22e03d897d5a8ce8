"""Filters of ``fhirline dead-letters`` that name what does not exist: an error, not an empty answer."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.enrich.stage import CODES as ENRICHMENT_CODES
from fhirline.streams.kafka.records import ConsumerRecord
from fhirline.streams.step2_consume.metrics import CODES
from fhirline.streams.step4_normalize.dead_letter import dead_letter
from tests.support import cli
from tests.support.kafka.brokers import RunningBroker, create_topics
from tests.support.kafka.producing import patient_producer
from tests.support.paths import DOCS
from tests.support.receiving import environment
from tests.support.waiting import LIMIT

ONCE = ("tenant", "gone"), ("code", "code-of-an-older-version")
"""Values of the one letter that neither this version nor vendors.yaml knows."""


@pytest.fixture(scope="module")
def board() -> Iterator[RunningBroker]:
    """A broker with one dead letter, of a tenant and a code that are no longer known."""
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        found = RunningBroker("embedded", broker.bootstrap)
        known = dict(ONCE)
        headers = [("tenant", known["tenant"].encode())]
        raw = ConsumerRecord("raw.mediquo", 3, 7, 1_717_000_000_000, b"gone|p", b"{}", headers)
        letter = dead_letter(raw, raw.value, known["code"])
        producer = patient_producer(found.settings())
        producer.produce(letter.topic, letter.value, letter.key, headers=list(letter.headers))
        assert producer.flush(LIMIT) == 0
        yield found


def dead_letters(board: RunningBroker, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return cli.run("dead-letters", *arguments, env=environment(board.bootstrap))


def test_an_unknown_value_is_an_error_that_names_the_known_ones(board: RunningBroker) -> None:
    for option, value, known in (
        ("--code", "nonsense", "resource-refused"),
        ("--tenant", "acmee", "acme, default, gone"),
        ("--event-type", "status_updated", "status_update"),
        ("--mapping-version", "map-0", "map-"),
        ("--vendor", "mediqo", "mediquo"),
    ):
        ran = dead_letters(board, "list", option, value)
        assert (ran.returncode, ran.stdout) == (2, ""), option
        assert ran.stderr.startswith(f"fhirline: {option}: unknown "), ran.stderr
        assert known in ran.stderr
        assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [("redrive", "--yes"), ("export", "--to")])
def test_other_commands_do_nothing_for_an_unknown_value(
    command: tuple[str, ...], board: RunningBroker, tmp_path: Path
) -> None:
    to = [str(tmp_path / "letters.jsonl")] if command[0] == "export" else []
    for option in (("--code", "nonsense"), ("--id", "raw.mediquo/3/8")):
        ran = dead_letters(board, *command, *to, *option)
        assert (ran.returncode, ran.stdout) == (2, "")
        assert f"{option[0]}: unknown value" in ran.stderr
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(("option", "value"), ONCE)
def test_what_a_letter_has_is_known(option: str, value: str, board: RunningBroker) -> None:
    """Letters of a removed tenant or of an older version can still be chosen."""
    ran = dead_letters(board, "list", "--each", "--json", f"--{option}", value)
    assert ran.returncode == 0, ran.stderr
    assert [case["id"] for case in json.loads(ran.stdout)] == ["raw.mediquo/3/7"]


def test_a_known_value_without_letters_is_an_empty_answer(board: RunningBroker) -> None:
    ran = dead_letters(board, "list", "--json", "--code", "resource-refused")
    assert (ran.returncode, json.loads(ran.stdout)) == (0, [])


def test_every_code_of_the_contracts_is_known() -> None:
    page = (DOCS / "contracts.md").read_text("utf-8")
    documented = re.findall(r"`([a-z-]+)`", page.partition("Error codes of dead letters:")[2].partition("\n\n")[0])
    assert len(documented) >= 10
    assert set(documented) == {*CODES, *ENRICHMENT_CODES}
