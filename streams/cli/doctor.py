"""``fhirline doctor``: what is wrong with this deployment, and what to do about it."""

import json
import logging
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import load_settings

if TYPE_CHECKING:
    from fhirline.streams.operate.doctor.finding import Finding

TIMEOUT = 10.0
FOUND = 1
STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def register(app: typer.Typer) -> None:
    app.command("doctor")(doctor)


def doctor(
    online: Annotated[
        bool, typer.Option("--online", help="Also ask Infermedica's instances for a token, as `enrich` would")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of lines")] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for a cluster that does not answer")] = (
        TIMEOUT
    ),
) -> None:
    """Check settings, vendors' credentials, tables, ports, cluster, topics, groups and clock, and say what to mend.

    Changes nothing, writes nothing to Kafka, joins no group, shows no secret. Run it where gateway and workers run,
    with their environment, as the operator's Kafka user: what another user may not see would be taken for missing.

    Exit 0: no problem, though there may be warnings. Exit 1: a problem was found.
    """
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # what fails is raised, and told as a finding
    began = time.monotonic()
    findings = _findings(timeout, online)
    if as_json:
        rows = [_row(each) for each in findings]
        print(json.dumps({"findings": rows}, indent=2))
        levels = [each["level"] for each in rows]
    else:
        levels = list(_told(findings))
        counts = {level: levels.count(level) for level in STYLES}
        told = f"{counts['problem']} problems, {counts['warning']} warnings, {counts['ok']} ok"
        print(f"\n{told}, in {time.monotonic() - began:.1f} s")
    raise typer.Exit(FOUND if "problem" in levels else 0)


def _findings(timeout: float, online: bool) -> "Iterator[Finding]":
    from fhirline.streams.operate.doctor.examine import examine
    from fhirline.streams.operate.doctor.finding import problem
    from fhirline.streams.step1_receive.credentials import environment

    try:
        settings = load_settings()
    except ConfigurationError as error:  # for any other command this is the end; here it is a finding
        yield problem("settings", str(error), "mend it; nothing else can be checked before")
        return
    yield from examine(settings, environment(), timeout, online)


def _told(findings: "Iterable[Finding]") -> Iterator[str]:
    """Print each finding as it comes, since some take seconds; yields its level."""
    from rich.console import Console
    from rich.text import Text

    console = Console(soft_wrap=True, highlight=False)
    for each in findings:
        line = Text(f"{each.level:<8}", style=STYLES[each.level])
        console.print(line.append(f"{each.check:<16}{each.text}", style="default"))
        if each.mend:
            console.print(Text(f"{'':<8}{'':<16}→ {each.mend}", style="default"))
        yield str(each.level)


def _row(each: "Finding") -> dict[str, str]:
    return {"check": each.check, "level": each.level, "text": each.text, "mend": each.mend}
