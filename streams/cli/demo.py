"""``fhirline demo``: all four vendors' webhooks become FHIR on Kafka topics, read back by a consumer, in a minute."""

import asyncio
import signal
import sys
import time
from collections import Counter

import aiohttp
import orjson
import typer
from rich.console import Console
from rich.table import Column, Table

from fhirline.config.exit_codes import INTERRUPTED, STACK_FAILED
from fhirline.streams.cli.errors import failing_with, warn
from fhirline.streams.cli.help import TRY, add
from fhirline.streams.demo.stack import Stack, StackFailed
from fhirline.streams.demo.watch import Arrival, Watch
from fhirline.streams.demo.webhooks import Sample, samples
from fhirline.streams.observe.interrupt import ENDING
from fhirline.streams.observe.terminal import counted

WAIT_SECONDS = 30.0
PRESCRIPTION = "altibbi-recommendation.json"
"""The sample of which one item is shown in full."""

WIDTH = 140
"""Columns of the output without a terminal."""


def register(app: typer.Typer) -> None:
    add(app, TRY, "demo", demo)


def demo() -> None:
    """Show how synthetic webhooks of all four vendors become FHIR resources on Kafka.

    Starts a broker, a gateway and a worker, posts the webhooks, reads the resources back, and ends all processes. The
    broker is embedded, unless `FHIRLINE_BOOTSTRAP` names a cluster. A cluster that has topics or a group of fhirline is
    refused. On another one the run has a group, a BASE and a tenant of its own, and deletes its topics at the end.

    Exit codes:

    * 0: every expected resource arrived.
    * 1: something is missing, or a process failed; the reason is on standard error.
    * 2: a wrong setting, or the cluster is in use or does not answer.
    * 130: interrupted.
    """
    for number in ENDING:  # as Ctrl-C, so that every process is ended
        signal.signal(number, signal.default_int_handler)
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(
        "[bold]fhirline demo[/]: webhooks of four telehealth vendors become FHIR R4 on Kafka. All data synthetic.\n"
    )

    def show_step(step: str) -> None:
        console.print(f"  {step}", style="dim", highlight=False)

    endings = {StackFailed: STACK_FAILED, KeyboardInterrupt: INTERRUPTED}
    with failing_with("demo", endings), Stack(say=show_step) as stack:
        failures = asyncio.run(_show(stack, console))
    for failure in failures:
        warn("demo", failure)
    if failures:
        raise typer.Exit(STACK_FAILED)


async def _show(stack: Stack, console: Console) -> list[str]:
    """POST each sample, wait for its resources and print them. Return a line for each that is missing."""
    watch = Watch(stack.settings, from_beginning=stack.embedded)
    failures: list[str] = []
    rows: list[tuple[Sample, Arrival]] = []
    try:
        async with aiohttp.ClientSession(stack.url) as session:
            for sample in samples():
                posted = time.monotonic()
                async with session.post(
                    sample.path(stack.tenant), json=sample.body, headers=stack.header(sample.vendor)
                ) as response:
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
            failures.append(counted(len(watch.dead_letters), "dead letter"))
        console.print(_table(rows))
        _one_in_full(watch, console)
    finally:
        watch.close()
    if not failures:
        total = sum((arrival.types for _, arrival in rows), Counter[str]())
        console.print(
            f"\n[bold green]{counted(sum(total.values()), 'resource')} from {counted(len(rows), 'webhook')}, "
            "all validated.[/]\n"
        )
        console.print(_NEXT, highlight=False, soft_wrap=True)
    return failures


def _table(rows: list[tuple[Sample, Arrival]]) -> Table:
    table = Table(
        Column("vendor", no_wrap=True),
        Column("event", overflow="fold"),
        Column("resources by type", ratio=1, overflow="fold"),
        Column("topic/partition/offset", overflow="fold"),
        Column("ms", justify="right", no_wrap=True),
        title="\nWhat the webhooks became",
        title_justify="left",
        caption="ms: from the POST until a consumer has read the event's last record",
        caption_justify="left",
    )
    for sample, arrival in rows:
        if arrival.bundle is not None:
            resources = ", ".join(f"{count} {name}" for name, count in sorted(arrival.types.items()))
            position = f"{arrival.bundle.topic()}/{arrival.bundle.partition()}/{arrival.bundle.offset()}"
        elif arrival.outcome is not None:
            codes = (issue["details"]["coding"][0]["code"] for issue in arrival.outcome["issue"])
            resources, position = f"none; outcome: {', '.join(codes)}", "normalizer.outcome"
        else:
            resources, position = "missing", "-"
        table.add_row(sample.vendor, sample.event, resources, position, f"{arrival.seconds * 1000:.0f}")
    return table


def _one_in_full(watch: Watch, console: Console) -> None:
    """Print a prescription of Altibbi's recommendation, and the MedicationRequest as a consumer of its topic reads it.

    Both are JSON without line breaks inside a value, so that they can be copied from a terminal.
    """
    [sample] = [item for item in samples() if item.file == PRESCRIPTION]
    drug = sample.body["data"]["drug"]["fdaDrug"][0]
    for key, message in watch.seen.items():
        value = message.value() or b"{}"
        if key.startswith(b"MedicationRequest/") and drug["tradeName"].encode() in value:
            console.print(f"\n[bold]In[/]: /data/drug/fdaDrug/0 of streams/demo/samples/{PRESCRIPTION}:\n")
            console.print_json(orjson.dumps(drug).decode())
            console.print(f"\n[bold]Out[/]: {key.decode()} on {message.topic()}/{message.partition()}:\n")
            console.print_json(value.decode())
            return


_NEXT = """Next:
  make dev                                   the same stack, running until Ctrl-C, for your own webhooks
  .venv/bin/fhirline map altibbi --outcome streams/demo/samples/altibbi-recommendation.json
                                             the same mapping without Kafka, and the event's OperationOutcome
  make test                                  all tests, on a real broker
  FHIRLINE_BOOTSTRAP=host:9092 make demo     the same on a Kafka cluster that fhirline does not use yet"""
