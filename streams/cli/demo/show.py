"""The demo's run: post the webhooks, read the resources back, and print what they became."""

import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import aiohttp
import orjson
from rich.console import Console
from rich.table import Column, Table

from fhirline.streams.cli.output import table
from fhirline.streams.demo import tables
from fhirline.streams.demo.paths import program, sample_path
from fhirline.streams.demo.stack import Stack
from fhirline.streams.demo.watch import Arrival, Watch
from fhirline.streams.demo.webhooks import Sample, samples
from fhirline.streams.observe.terminal import counted

WAIT_SECONDS = 30.0
PRESCRIPTION = "altibbi-recommendation.json"
"""The sample of which one item is shown in full."""

WIDTH = 140
"""Columns of the output without a terminal."""


def show() -> list[str]:
    """Start the stack, show what it makes of the samples, and end it. Return a line for each thing that is missing.

    Raises StackFailed where a process of the stack fails.
    """
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(
        "[bold]fhirline demo[/]: webhooks of four telehealth vendors become FHIR R4 on Kafka. All data synthetic.\n"
    )

    def show_step(step: str) -> None:
        console.print(f"  {step}", style="dim", highlight=False)

    with Stack(say=show_step) as stack:
        return asyncio.run(_show(stack, console))


async def _show(stack: Stack, console: Console) -> list[str]:
    """POST the samples, wait for their resources and print them. Return a line for each that is missing."""
    watch = Watch(stack.settings, from_beginning=stack.embedded)
    failures: list[str] = []
    rows: list[tuple[Sample, list[Arrival]]] = []
    try:
        async with aiohttp.ClientSession(stack.url) as session:
            for _, group in groupby(samples(), lambda sample: sample.file):
                webhooks = [*group]
                arrivals = [await _post(sample, stack, session, watch, failures) for sample in webhooks]
                rows.append((webhooks[0], [arrival for arrival in arrivals if arrival is not None]))
                for sample, arrival in zip(webhooks, arrivals, strict=True):
                    if arrival is not None:
                        failures += await asyncio.to_thread(_failures, sample, arrival, stack, watch)
        if watch.dead_letters:
            failures.append(counted(len(watch.dead_letters), "dead letter"))
        console.print(_table(rows))
        _one_in_full(watch, console)
    finally:
        watch.close()
    if failures:
        return failures
    mapped = [arrival.types.total() for _, several in rows for arrival in several]
    console.print(
        f"\n[bold green]{counted(sum(mapped), 'resource')} from {counted(len(mapped), 'webhook')}, all validated.[/]\n"
    )
    if missing := await asyncio.to_thread(_show_tables, stack, console, {key.decode() for key in watch.seen}):
        return [missing]
    console.print(_NEXT.format(program=program(), sample=sample_path(PRESCRIPTION)), highlight=False, soft_wrap=True)
    return []


async def _post(
    sample: Sample, stack: Stack, session: aiohttp.ClientSession, watch: Watch, failures: list[str]
) -> Arrival | None:
    posted = time.monotonic()
    path, header = sample.path(stack.tenant), stack.header(sample.vendor)
    async with session.post(path, json=sample.body, headers=header) as response:
        answer = await response.json()
    if response.status != 202:
        failures.append(f"{sample.vendor} {sample.event}: the gateway answered {response.status} {answer}")
        return None
    return watch.expect(answer["event_key"], posted)


def _failures(sample: Sample, arrival: Arrival, stack: Stack, watch: Watch) -> list[str]:
    """Wait for what must follow from a webhook, and return what is missing."""
    if not watch.wait(arrival, not sample.expected, WAIT_SECONDS):
        stack.check()
        return [f"{sample.vendor} {sample.event}: nothing on the canonical topics in {WAIT_SECONDS:g} s"]
    missing = sample.missing(arrival.types)
    return [f"{sample.vendor} {sample.event}: {missing}"] if missing else []


def _table(rows: Sequence[tuple[Sample, Sequence[Arrival]]]) -> Table:
    table = Table(
        Column("vendor", no_wrap=True),
        Column("event", overflow="fold"),
        Column("resources by type", ratio=1, overflow="fold"),
        Column("topic/partition/offset", overflow="fold"),
        Column("ms", justify="right", no_wrap=True),
        title="\nWhat the webhooks became",
        title_justify="left",
        caption="ms: from the POST until a consumer has read the event's last record; of several, the longest",
        caption_justify="left",
    )
    for sample, arrivals in rows:
        event = sample.event if len(arrivals) < 2 else f"{sample.event} × {len(arrivals)}"
        milliseconds = f"{max((arrival.seconds for arrival in arrivals), default=0) * 1000:.0f}"
        table.add_row(sample.vendor, event, *_outcome(arrivals), milliseconds)
    return table


def _outcome(arrivals: Sequence[Arrival]) -> tuple[str, str]:
    """Return the resources of some webhooks, and where the last one's Bundle is."""
    types = sum((arrival.types for arrival in arrivals), Counter[str]())
    bundles = [arrival.bundle for arrival in arrivals if arrival.bundle is not None]
    if bundles:
        resources = ", ".join(f"{count} {name}" for name, count in sorted(types.items()))
        return resources, f"{bundles[-1].topic()}/{bundles[-1].partition()}/{bundles[-1].offset()}"
    outcomes = [arrival.outcome for arrival in arrivals if arrival.outcome is not None]
    codes = [issue["details"]["coding"][0]["code"] for outcome in outcomes for issue in outcome["issue"]]
    return (f"none; outcome: {', '.join(codes)}", "normalizer.outcome") if codes else ("missing", "-")


def _show_tables(stack: Stack, console: Console, keys: set[str]) -> str:
    """Make SQL tables of the topics, print answers from them and leave their file. Return what is wrong with them."""
    if driver := tables.missing_driver():
        console.print(f"No SQL tables: {driver} is not installed. pip install 'fhirline[tables]' brings it.\n")
        return ""
    with tempfile.TemporaryDirectory(prefix="fhirline-") as folder:
        path = Path(folder) / tables.FILE.name
        tables.make_tables(stack, path)
        if missing := tables.missing_rows(path, keys):
            return f"tables: {counted(missing, 'record')} without a row"
        console.print("[bold]The same as SQL tables[/], with three questions of docs/warehouse.md:\n")
        for answer in tables.answers(path):
            rows = [["" if value is None else str(value) for value in row] for row in answer.rows]
            console.print(table(answer.columns, rows, title=answer.question, title_justify="left"), "")
        try:
            tables.replace_file(path)
        except OSError as error:
            console.print(f"The tables could not be left as {tables.FILE.absolute()}: {error.strerror}\n")
        else:
            console.print(_OPEN.format(path=tables.FILE.absolute()), highlight=False, soft_wrap=True)
    return ""


def _one_in_full(watch: Watch, console: Console) -> None:
    """Print a prescription of Altibbi's recommendation, and the MedicationRequest as a consumer of its topic reads it.

    Both are JSON without line breaks inside a value, so that they can be copied from a terminal.
    """
    [sample] = [item for item in samples() if item.file == PRESCRIPTION]
    drug = sample.body["data"]["drug"]["fdaDrug"][0]
    for key, message in watch.seen.items():
        value = message.value() or b"{}"
        if key.startswith(b"MedicationRequest/") and drug["tradeName"].encode() in value:
            console.print(f"\n[bold]In[/]: /data/drug/fdaDrug/0 of {sample_path(PRESCRIPTION)}:\n")
            console.print_json(orjson.dumps(drug).decode())
            console.print(f"\n[bold]Out[/]: {key.decode()} on {message.topic()}/{message.partition()}:\n")
            console.print_json(value.decode())
            return


_OPEN = """The tables stay in {path}, until the next demo replaces them. To open them:
  .venv/bin/python -ic "import duckdb; sql = duckdb.connect('{path}').sql"
                                             then for example: sql("select * from fhir.event")
  duckdb {path}
                                             the same with DuckDB's own shell, where it is installed
"""

_NEXT = """Next:
  make dev                                   the same stack, running until Ctrl-C, for your own webhooks
  {program} map altibbi --outcome {sample}
                                             the same mapping without Kafka, and the event's OperationOutcome
  make test                                  all tests, on a real broker
  FHIRLINE_BOOTSTRAP=host:9092 make demo     the same on a Kafka cluster that fhirline does not use yet"""
