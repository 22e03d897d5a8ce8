"""``fhirline deliver --from topics``: fill a FHIR server from the topics of resources, or repair it."""

import asyncio
import time
from typing import TYPE_CHECKING

import typer

from fhirline.config.errors import ConfigurationError
from fhirline.config.exit_codes import INCOMPLETE, INTERRUPTED, UNCOMMITTED
from fhirline.streams.cli.errors import CommandFailed
from fhirline.streams.cli.output import counting, progress
from fhirline.streams.observe.terminal import counted

if TYPE_CHECKING:
    from fhirline.config.settings import Settings
    from fhirline.streams.deliver.fill.fill import Report

GRACE_SECONDS = 5.0
"""Seconds after the end of its session within which a killed process must have left its group."""
POLL_SECONDS = 0.5

AGAIN = "run it again: what was sent is not sent again"


def fill_from_topics(settings: "Settings", everything: bool) -> None:
    """Fill the server, and print what was done."""
    import uvloop
    from confluent_kafka import KafkaException

    from fhirline.streams.deliver.fill.membership import AnotherDelivers
    from fhirline.streams.deliver.fill.service import Reporting, fill
    from fhirline.streams.deliver.stage import deliver_group
    from fhirline.streams.operate.status.groups import NOBODY, Groups
    from fhirline.streams.step1_receive.raw_producer import KafkaUnavailable

    own = deliver_group(settings)
    with progress() as reporter:
        groups = Groups(settings)
        until = time.monotonic() + settings.session_timeout + GRACE_SECONDS
        while members := groups.read((own,))[own].members:
            if time.monotonic() > until:
                raise ConfigurationError(_delivering(own))
            reporter.show("waiting", members, note=f"process in group {own}: a killed one leaves it by itself")
            time.sleep(POLL_SECONDS)
        workers = groups.read((settings.group,))[settings.group].state not in ("empty", NOBODY)
        reporting = Reporting(
            reporter.message,
            counting(reporter, "reading topics"),
            lambda report, total: reporter.show("sending", report.done, total),
        )
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                report = runner.run(fill(settings, workers, everything, reporting))
        except AnotherDelivers as another:
            if not another.begun:
                raise ConfigurationError(_delivering(own)) from None
            raise CommandFailed(
                "deliver", f"another process has joined group {own}: stop it, and {AGAIN}", UNCOMMITTED
            ) from None
        except (KafkaUnavailable, KafkaException) as error:
            raise CommandFailed(
                "deliver", f"Kafka did not acknowledge a record ({error}); {AGAIN}", UNCOMMITTED
            ) from None
    if report is None:
        raise CommandFailed("deliver", f"interrupted; {AGAIN}", INTERRUPTED)
    _print(report)
    if report.refused:
        raise typer.Exit(INCOMPLETE)


def _delivering(group: str) -> str:
    return (
        f"deliver --from topics: a process of group {group} is delivering: stop `fhirline deliver`, and start it again "
        "afterwards"
    )


def _print(report: "Report") -> None:
    counts = (
        f"{report.sent:,} sent",
        f"{report.deleted:,} deleted",
        f"{report.unchanged:,} sent before",
        f"{len(report.refused):,} refused",
        f"{counted(report.resumed, 'waiting Bundle')} done",
        *((f"{report.erased:,} of erased patients passed over",) if report.erased else ()),
    )
    print(", ".join(counts))
    if report.refused:
        print("What was refused waits (`fhirline deliver waiting`); all else is delivered.")
