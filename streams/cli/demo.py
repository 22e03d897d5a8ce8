"""``fhirline demo``: all four vendors' webhooks to FHIR on Kafka topics, watched from outside, in a minute."""

import asyncio
import sys
import time
from collections import Counter

import aiohttp
import orjson
import typer
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

from fhirline.streams.demo.stack import Stack, StackFailed
from fhirline.streams.demo.watch import Arrival, Watch
from fhirline.streams.demo.webhooks import Sample, samples

WAIT_SECONDS = 30.0
WIDTH = 140
"""Columns where no terminal says how many there are (a log, a pipe)."""


def register(app: typer.Typer) -> None:
    app.command("demo")(demo)


def demo() -> None:
    """Start broker, gateway and worker, POST synthetic webhooks of all four vendors, show what they became.

    Exit 0: everything arrived as expected. Exit 1: something is missing; it is said what. All processes are ended.
    """
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(
        "[bold]fhirline demo[/]: webhooks of four telehealth vendors become FHIR R4 on Kafka. All data synthetic.\n"
    )
    try:
        with Stack(say=lambda step: console.print(f"  {step}", style="dim", highlight=False)) as stack:
            failures = asyncio.run(_show(stack, console))
    except StackFailed as error:
        print(f"fhirline demo: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    for failure in failures:
        print(f"fhirline demo: {failure}", file=sys.stderr)
    raise typer.Exit(1 if failures else 0)


async def _show(stack: Stack, console: Console) -> list[str]:
    """POST, wait, print; returns what is missing."""
    watch = Watch(stack.settings, from_beginning=stack.embedded)
    failures: list[str] = []
    rows: list[tuple[Sample, Arrival]] = []
    try:
        async with aiohttp.ClientSession(stack.url) as session:
            for sample in samples():
                posted = time.monotonic()
                async with session.post(sample.path, json=sample.body, headers=stack.header(sample.vendor)) as response:
                    answer = await response.json()
                if response.status != 202:
                    failures.append(f"{sample.vendor} {sample.event}: the gateway answered {response.status} {answer}")
                    continue
                arrival = watch.expect(answer["event_key"], posted)
                if not await asyncio.to_thread(watch.wait, arrival, not sample.expected, WAIT_SECONDS):
                    stack.check()
                    failures.append(
                        f"{sample.vendor} {sample.event}: nothing on the canonical topics in {WAIT_SECONDS:g} s"
                    )
                elif missing := sample.missing(arrival.types):
                    failures.append(f"{sample.vendor} {sample.event}: {missing}")
                rows.append((sample, arrival))
        if watch.dead_letters:
            failures.append(f"{len(watch.dead_letters)} dead letters")
        console.print(_table(rows))
        _one_in_full(watch, console)
    finally:
        watch.close()
    if not failures:
        total = sum((arrival.types for _, arrival in rows), Counter[str]())
        console.print(f"\n[bold green]{sum(total.values())} resources from {len(rows)} webhooks, all validated.[/]\n")
        console.print(_NEXT, highlight=False, soft_wrap=True)
    return failures


def _table(rows: list[tuple[Sample, Arrival]]) -> Table:
    table = Table(title="\nWhat the webhooks became", title_justify="left")
    table.add_column("vendor", no_wrap=True)
    table.add_column("event", overflow="fold")
    table.add_column("resources by type", ratio=1, overflow="fold")
    table.add_column("topic/partition/offset", overflow="fold")
    table.add_column("ms", justify="right", no_wrap=True)
    for sample, arrival in rows:
        if arrival.bundle is not None:
            made = ", ".join(f"{count} {name}" for name, count in sorted(arrival.types.items()))
            place = f"{arrival.bundle.topic()}/{arrival.bundle.partition()}/{arrival.bundle.offset()}"
        elif arrival.outcome is not None:
            issues = (issue["details"]["coding"][0]["code"] for issue in arrival.outcome["issue"])
            made, place = f"none; outcome: {', '.join(issues)}", "normalizer.outcome"
        else:
            made, place = "missing", "-"
        table.add_row(sample.vendor, sample.event, made, place, f"{arrival.seconds * 1000:.0f}")
    table.caption = "ms: from the POST to a consumer holding the event's last record"
    table.caption_justify = "left"
    return table


def _one_in_full(watch: Watch, console: Console) -> None:
    """The prescription of Altibbi's recommendation, as a consumer of its topic reads it."""
    for key, message in watch.seen.items():
        if key.startswith(b"MedicationRequest/") and b'"altibbi"' in (message.value() or b""):
            console.print(f"\n[bold]{key.decode()}[/] as it lies on {message.topic()}/{message.partition()}:\n")
            console.print(
                Syntax(
                    orjson.dumps(orjson.loads(message.value() or b"{}"), option=orjson.OPT_INDENT_2).decode(),
                    "json",
                    word_wrap=True,
                )
            )
            return


_NEXT = """What to try next:
  make dev                                   the same stack, left running until Ctrl-C, to POST to by yourself
  .venv/bin/fhirline map altibbi --outcome streams/demo/samples/altibbi-recommendation.json
                                             the same mapping without Kafka, with what is to be said of the event
  make test                                  every test, on a real broker
  FHIRLINE_BOOTSTRAP=host:9092 make demo     the same on a Kafka cluster of your own"""
