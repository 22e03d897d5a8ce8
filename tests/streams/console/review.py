"""A console that may replay, on events that were mapped before a row of a code table changed."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from fhirline.config.settings import Settings
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from tests.support.console_pages import Visitor, console
from tests.support.erasure import SECRET
from tests.support.kafka.brokers import RunningBroker, create_topics
from tests.support.load import Load, load_on
from tests.support.processes import Command
from tests.support.waiting import wait_until

WAS, NOW = "QID", "Q6H"
ROW = f"""\
version: maps-3
title: Frequency
rows:
  - source: [four times daily]
    means: {{ frequency: 4, period: 1, period_unit: d }}
    codings: [{{ system: http://terminology.hl7.org/CodeSystem/v3-GTSAbbreviation, code: {NOW}, evidence: a test }}]
"""
"""A row of this deployment: another code for the words of many prescriptions."""


@dataclass(slots=True)
class Review:
    url: str
    process: Command
    load: Load
    runs: Path

    @property
    def settings(self) -> Settings:
        return self.load.settings

    def visitor(self) -> Visitor:
        return Visitor(self.url).log_in()

    def ended(self, visitor: Visitor) -> str:
        """Wait until the replay has ended, and return the page of its progress."""
        pages = [""]

        def ended() -> bool:
            pages.append(visitor.get("/changes/progress").text)
            return not re.search("<strong>(Running|Stopping)", pages[-1])

        wait_until(ended, lambda: self.process.report(pages[-1]))
        return pages[-1]

    def compared(self, visitor: Visitor, **form: str) -> str:
        """Compare by the form, and return the path of the run's page."""
        form = {"vendor": "altibbi", "form-token": visitor.form_token("/changes"), **form}
        answer = visitor.post("/changes", **form)
        assert (answer.status, answer.headers.get("Location")) == (303, "/changes/progress"), answer.text
        page = self.ended(visitor)
        assert "Compared." in page, page
        return page.partition('href="/changes/2')[1][6:] + page.partition('href="/changes/2')[2].partition('"')[0]


@contextmanager
def review(broker: RunningBroker, folder: Path, *arguments: str) -> Iterator[Review]:
    """Run the console. ``folder``: for the runs and the changed table."""
    load = load_on(broker)
    load.send(load.events(60, seed=31))
    tables = folder / "tables"
    tables.mkdir()
    (tables / "frequency.yaml").write_text(ROW)
    runs = folder / "runs"
    environ = {
        "FHIRLINE_TERMINOLOGY_DIR": str(tables),
        "FHIRLINE_REPLAY_DIR": str(runs),
        "FHIRLINE_ERASURE_KEY": SECRET,
    }
    with console(load.settings, *arguments, **environ) as (url, process):
        yield Review(url, process, load, runs)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Review]:
    """A console that may replay, on a broker of its own: what its topics hold is published over."""
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        running = RunningBroker("embedded", broker.bootstrap)
        with review(running, tmp_path_factory.mktemp("review"), "--allow", "replay") as found:
            yield found
