"""``fhirline topics``: the declared topics against the cluster."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fhirline.config.errors import ConfigurationError
from fhirline.config.exit_codes import DIFFERS, INCOMPLETE
from fhirline.streams.cli.errors import warn
from fhirline.streams.cli.generated import print_or_compare
from fhirline.streams.cli.help import OPERATE, group
from fhirline.streams.cli.options import TIMEOUT, AsJson, Timeout, Yes
from fhirline.streams.cli.output import confirm, print_json, print_table
from fhirline.streams.observe.terminal import counted

if TYPE_CHECKING:
    from fhirline.config.settings import Settings
    from fhirline.topics.cluster import Cluster
    from fhirline.topics.declared import Topic
    from fhirline.topics.plan import Difference, Existing, Plan

AS_DECLARED = "Nothing to do: the cluster is as declared."


def register(app: typer.Typer) -> None:
    topics = group(
        app, "topics", "Compare the declared topics with the cluster. No topic is ever deleted or shrunk.", OPERATE
    )
    topics.command("plan")(plan)
    topics.command("apply")(apply)
    topics.command("list")(list_)
    topics.command("asyncapi")(asyncapi)


def plan(timeout: Timeout = TIMEOUT, as_json: AsJson = False) -> None:
    """Show what differs from the declaration, and what `fhirline topics apply` would do about it.

    Exit codes:

    * 0: nothing differs.
    * 1: something differs.
    * 2: a wrong setting, or the cluster does not answer.
    """
    from fhirline.config.settings import load_settings
    from fhirline.topics.declared import declared

    settings = load_settings()
    with _cluster(settings, timeout) as cluster:
        found = cluster.plan(declared(settings))
    if as_json:
        print_json({"differences": [_row(difference) for difference in found.differences], "untold": _untold(found)})
    else:
        _print_differences(found.differences)
        _print_untold(found)
        print(verdict(found))
    if found.differences:
        raise typer.Exit(DIFFERS)


def apply(timeout: Timeout = TIMEOUT, yes: Yes = False) -> None:
    """Create missing topics and alter settings that differ. Ask before a change that deletes records.

    A second run finds nothing to do. A retention that was set on the cluster by other means is set back to what
    vendors.yaml declares. A shorter retention, or another cleanup policy, deletes records: the changes are shown, and
    nothing is done before the answer. Without a terminal such a run needs --yes.

    Exit codes:

    * 0: the cluster is as declared.
    * 1: a change was refused or failed, with the reason on standard error; or the answer was no.
    * 2: a wrong setting, the cluster does not answer, or --yes is needed.
    """
    from fhirline.config.settings import load_settings
    from fhirline.topics.declared import declared

    settings = load_settings()
    with _cluster(settings, timeout) as cluster:
        found = cluster.plan(declared(settings))
        if found.deleting and not yes:
            _confirm_deleting(found)
        applied = cluster.apply(found)
    _print_differences(applied.done)
    _print_untold(found)
    for difference, reason in applied.failed:
        warn("topics", f"{difference.topic.name}: {difference.action} failed: {reason}")
    for difference in applied.refused:
        warn(
            "topics",
            f"{difference.topic.name}: {difference.what} {difference.actual}, declared {difference.declared}, "
            f"not changed: {difference.reason}",
        )
    counts = (f"{len(applied.done)} done", f"{len(applied.failed)} failed", f"{len(applied.refused)} refused")
    print(", ".join(counts) if found.differences else AS_DECLARED)
    if not applied.complete:
        raise typer.Exit(INCOMPLETE)


def _confirm_deleting(found: "Plan") -> None:
    """Ask whether to apply changes that delete records. Raises ConfigurationError where nobody can be asked."""
    shown = [
        f"{item.topic.name}: {item.what} {item.actual} -> {item.declared} ({item.reason})" for item in found.deleting
    ]
    if not sys.stdin.isatty():
        more = f" and {counted(len(shown) - 1, 'other change')}" if len(shown) > 1 else ""
        raise ConfigurationError(
            f"--yes: required without a terminal, because records would be deleted: {shown[0]}{more}; nothing was done"
        )
    for line in shown:
        print(line, file=sys.stderr)
    confirm("Apply all changes, and delete these records?", yes=False)


def list_(
    timeout: Timeout = TIMEOUT,
    as_json: AsJson = False,
    offline: Annotated[bool, typer.Option("--offline", help="Show the declaration without asking the cluster.")] = (
        False
    ),
) -> None:
    """List every declared topic with its key, its cleanup policy and its partitions on the cluster.

    Exit codes:

    * 0: listed.
    * 2: a wrong setting, or the cluster does not answer.
    """
    from fhirline.config.settings import load_settings
    from fhirline.topics.declared import declared

    settings = load_settings()
    topics = declared(settings)
    existing: Mapping[str, Existing] | None = None
    if not offline:
        with _cluster(settings, timeout) as cluster:
            existing = cluster.read(topics)
    if as_json:
        print_json([_described(topic, existing) for topic in topics])
        return
    rows = []
    for topic in topics:
        on_cluster = "not asked" if existing is None else "missing"
        if existing and (found := existing.get(topic.name)):
            on_cluster = f"{found.partitions} x {found.replication_factor}"
        planned = f"{topic.partitions} x {topic.replication_factor}"
        rows.append((topic.name, planned, on_cluster, topic.cleanup, topic.key, topic.description))
    print_table(("topic", "partitions x replicas", "on the cluster", "cleanup", "key", "contains"), rows)


def asyncapi(
    check: Annotated[
        Path | None,
        typer.Option(dir_okay=False, metavar="FILE", help="Compare with this file instead, and print nothing."),
    ] = None,
) -> None:
    """Print the topics' contract for these settings as an AsyncAPI 3.0 document (YAML).

    Exit codes:

    * 0: printed, or FILE is the same.
    * 1: FILE differs; its first line that differs is on standard error.
    * 2: a wrong setting, or FILE cannot be read.
    """
    from fhirline.config.settings import load_settings
    from fhirline.topics.asyncapi import as_yaml, document

    current = as_yaml(document(load_settings()))
    print_or_compare(current, check, "topics/ and the settings", "fhirline topics asyncapi")


def _cluster(settings: "Settings", timeout: float) -> "Cluster":
    from fhirline.streams.kafka.clients import kafka_python
    from fhirline.streams.kafka.connect import connect
    from fhirline.topics.cluster import Cluster

    connect(settings, timeout)  # explains better than kafka-python why there is no connection
    return Cluster(kafka_python(settings), timeout)


def _row(difference: "Difference") -> dict[str, str | bool]:
    return {
        "topic": difference.topic.name,
        "what": difference.what,
        "declared": difference.declared,
        "actual": difference.actual,
        "action": difference.action.value,
        "reason": difference.reason,
        "deletes": difference.deletes,
    }


def _described(topic: "Topic", existing: "Mapping[str, Existing] | None") -> dict[str, Any]:
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


def _print_differences(differences: "Sequence[Difference]") -> None:
    if differences:
        print_table(
            ("topic", "what", "on the cluster", "declared", "action", "reason"),
            ((d.topic.name, d.what, d.actual, d.declared, d.action.value, d.reason) for d in differences),
        )


def _print_untold(found: "Plan") -> None:
    if found.unreported:
        number = len(found.unreported)
        print(
            f"{counted(number, 'topic')} {'has' if number == 1 else 'have'} settings that this broker does not report; "
            "they were not compared."
        )


def _untold(found: "Plan") -> list[str]:
    return [topic.name for topic in found.unreported]


def verdict(found: "Plan") -> str:
    """Write the last line of a plan: how many differences it has, and what `fhirline topics apply` does with them."""
    if not found.differences:
        return AS_DECLARED
    refused = len(found.refused)
    changes = f"{counted(len(found.differences), 'difference')}: "
    changes += f"{len(found.differences) - refused} for `fhirline topics apply`"
    if found.deleting:
        changes += f" ({len(found.deleting):,} of them deleting records)"
    return changes + (f", {refused} that it refuses to change" if refused else "")
