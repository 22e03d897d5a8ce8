"""``fhirline topics``: the declared topics against the cluster."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings, load_settings
from fhirline.topics.cluster import TIMEOUT, Cluster
from fhirline.topics.declared import Topic, declared
from fhirline.topics.plan import Difference, Existing, Plan

DIFFERS = 1
"""Exit code where the cluster is otherwise than declared."""

Timeout = Annotated[float, typer.Option(min=0.1, help="Seconds to wait for a cluster that does not answer")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document instead of the table")]


def register(app: typer.Typer) -> None:
    topics = typer.Typer(
        name="topics",
        help="The declared topics against the cluster. No topic is ever deleted or shrunk.",
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    topics.command("plan")(plan)
    topics.command("apply")(apply)
    topics.command("list")(list_)
    topics.command("asyncapi")(asyncapi)
    app.add_typer(topics)


def plan(timeout: Timeout = TIMEOUT, as_json: AsJson = False) -> None:
    """Show what differs from the declaration, and what apply would do about it.

    Exit 0: nothing differs. Exit 1: something does. Exit 2: wrong settings, or no cluster answered.
    """
    settings = load_settings()
    with _cluster(settings, timeout) as cluster:
        found = cluster.plan(declared(settings))
    if as_json:
        _print_json({"differences": [_row(each) for each in found.differences], "untold": _names(found.unreported)})
    else:
        _show_differences(found.differences)
        _say_untold(found)
        print(_verdict(found))
    raise typer.Exit(DIFFERS if found.differences else 0)


def apply(timeout: Timeout = TIMEOUT) -> None:
    """Create what is missing and alter what differs. Again: nothing to do.

    A retention set on the cluster by other means is set back to what vendors.yaml declares: see the plan first.

    Exit 0: the cluster is as declared. Exit 1: something was refused, or failed; it is said what, and why. Exit 2:
    wrong settings, or no cluster answered.
    """
    settings = load_settings()
    with _cluster(settings, timeout) as cluster:
        found = cluster.plan(declared(settings))
        applied = cluster.apply(found)
    _show_differences(applied.done)
    _say_untold(found)
    for each, reason in applied.failed:
        print(f"fhirline topics: {each.topic.name}: {each.action} failed: {reason}", file=sys.stderr)
    for each in applied.refused:
        print(
            f"fhirline topics: {each.topic.name}: {each.what} {each.actual}, declared {each.declared}, left alone: "
            f"{each.reason}",
            file=sys.stderr,
        )
    counts = (f"{len(applied.done)} done", f"{len(applied.failed)} failed", f"{len(applied.refused)} refused")
    print(", ".join(counts) if found.differences else "Nothing to do: the cluster is as declared.")
    raise typer.Exit(0 if applied.complete else DIFFERS)


def list_(
    timeout: Timeout = TIMEOUT,
    as_json: AsJson = False,
    offline: Annotated[bool, typer.Option("--offline", help="Only what is declared; ask no cluster")] = False,
) -> None:
    """List every declared topic: its key, its cleanup, and the partitions it has on the cluster."""
    settings = load_settings()
    topics = declared(settings)
    existing: Mapping[str, Existing] | None = None
    if not offline:
        with _cluster(settings, timeout) as cluster:
            existing = cluster.read(topics)
    if as_json:
        _print_json([_described(topic, existing) for topic in topics])
        return
    rows = []
    for topic in topics:
        on_cluster = "not asked" if existing is None else "missing"
        if existing and (found := existing.get(topic.name)):
            on_cluster = f"{found.partitions} x {found.replication_factor}"
        planned = f"{topic.partitions} x {topic.replication_factor}"
        rows.append((topic.name, planned, on_cluster, topic.cleanup, topic.key, topic.description))
    _show(("topic", "partitions x replicas", "on the cluster", "cleanup", "key", "holds"), rows)


def asyncapi(
    check: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Print nothing; compare with this file instead", metavar="FILE")
    ] = None,
) -> None:
    """Print the topics' contract as an AsyncAPI 3.0 document (YAML), for these settings. Asks no cluster.

    Exit 0: printed, or FILE is the same. Exit 1: FILE is another. Exit 2: wrong settings, or FILE cannot be read.
    """
    from fhirline.topics.asyncapi import as_yaml, document

    made = as_yaml(document(load_settings()))
    if check is None:
        sys.stdout.write(made)
        return
    try:
        held = check.read_text("utf-8")
    except OSError as error:
        raise ConfigurationError(f"--check: cannot read {check}: {error.strerror}") from None
    if held == made:
        return
    pairs = zip_longest(held.splitlines(), made.splitlines())
    line = next((number for number, (has, should) in enumerate(pairs, 1) if has != should), 1)
    print(
        f"{check}:{line}: otherwise than topics/ and the settings declare; "
        f"make it anew: fhirline topics asyncapi > {check}",
        file=sys.stderr,
    )
    raise typer.Exit(DIFFERS)


def _cluster(settings: Settings, timeout: float) -> Cluster:
    from fhirline.streams.kafka.clients import kafka_python
    from fhirline.streams.kafka.connect import connect

    connect(settings, timeout)  # tells more than kafka-python why there is no connection
    return Cluster(kafka_python(settings), timeout)


def _row(each: Difference) -> dict[str, str]:
    return {
        "topic": each.topic.name,
        "what": each.what,
        "declared": each.declared,
        "actual": each.actual,
        "action": each.action.value,
        "reason": each.reason,
    }


def _described(topic: Topic, existing: Mapping[str, Existing] | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "topic": topic.name,
        "partitions": topic.partitions,
        "replicationFactor": topic.replication_factor,
        "config": dict(topic.config),
        "key": topic.key,
        "description": topic.description,
    }
    if existing is not None:
        found = existing.get(topic.name)
        row["cluster"] = found and {
            "partitions": found.partitions,
            "replicationFactor": found.replication_factor,
            "config": {name: found.config[name] for name in topic.config if name in found.config},
        }
    return row


def _show_differences(differences: Sequence[Difference]) -> None:
    if differences:
        _show(
            ("topic", "what", "on the cluster", "declared", "action", "reason"),
            ((e.topic.name, e.what, e.actual, e.declared, e.action.value, e.reason) for e in differences),
        )


def _say_untold(found: Plan) -> None:
    if found.unreported:
        print(f"{len(found.unreported)} topics have settings that this broker does not tell; they were not compared.")


def _verdict(found: Plan) -> str:
    if not found.differences:
        return "Nothing to do: the cluster is as declared."
    refused = len(found.refused)
    does = f"{len(found.differences) - refused} for `fhirline topics apply`"
    return f"{len(found.differences)} differences: {does}" + (f", {refused} that it leaves alone" if refused else "")


def _show(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on a terminal; elsewhere one line a row, tab between the fields, for other programs."""
    console = Console()
    if console.is_terminal:
        table = Table(*columns)
        for row in rows:
            table.add_row(*row)
        console.print(table)
        return
    for row in (columns, *rows):
        print("\t".join(row))


def _print_json(document: object) -> None:
    print(json.dumps(document, indent=2, ensure_ascii=False))


def _names(topics: Iterable[Topic]) -> list[str]:
    return [topic.name for topic in topics]
