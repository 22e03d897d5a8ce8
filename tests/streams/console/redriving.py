"""A console that may redrive, and what its tests need: events that fail, the form, and the end of a redrive."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import orjson

from fhirline.mappers.instants import Instant
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.operate.dead_letters.board import Board
from fhirline.streams.operate.dead_letters.cases import Case
from fhirline.streams.step1_receive.raw_record import raw_record
from tests.support.console_pages import Visitor, console
from tests.support.load import Load
from tests.support.processes import Command
from tests.support.waiting import wait_until

PAGE = "/dead-letters/redrive"
PROGRESS = "/dead-letters/redrive/progress"


@dataclass(slots=True)
class Redriving:
    url: str
    process: Command
    load: Load

    def visitor(self) -> Visitor:
        return Visitor(self.url).log_in()

    def cases(self) -> list[Case]:
        """The dead letters, as the command line reads them."""
        with Board(self.load.settings, ["altibbi"]) as board:
            return board.read()

    def form(self, visitor: Visitor, **chosen: str) -> dict[str, str]:
        """The fields of the page that says what would be sent."""
        query = "&".join(f"{name}={value}" for name, value in {"vendor": "altibbi", **chosen}.items())
        return dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', visitor.get(f"{PAGE}?{query}").text))

    def until(self, visitor: Visitor, words: str) -> str:
        """Wait until the page of the progress matches ``words``, and return it."""
        pages = [""]

        def said() -> bool:
            pages.append(visitor.get(PROGRESS).text)
            return re.search(words, pages[-1]) is not None

        wait_until(said, lambda: self.process.report(pages[-1]))
        return pages[-1]


ENDED = "<dt>Sent</dt>"


@contextmanager
def redriving(load: Load, *arguments: str) -> Iterator[Redriving]:
    with console(load.settings, "--allow", "redrive", *arguments) as (url, process):
        yield Redriving(url, process, load)


def refused_events(tenant: str, count: int = 2) -> Iterator[ProducerRecord]:
    """Events that name no patient."""
    at = Instant.parse("2024-06-12T15:20:00Z")
    assert at
    for number in range(count):
        body = orjson.dumps({"type": "status_update", "consultation_id": number + 1})
        yield raw_record("altibbi", tenant, body, at, None, 64)


def facts(page: str) -> dict[str, str]:
    """The numbers of a redrive that has ended."""
    found = re.findall(r"<dt>([^<]+)</dt><dd>(.*?)</dd>", page)
    return {name: re.sub("<[^>]+>", "", text) for name, text in found}
