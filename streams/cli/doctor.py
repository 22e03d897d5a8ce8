"""``fhirline doctor``: what is wrong with this deployment, and how to fix it."""

import logging
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from fhirline.config.errors import ConfigurationError
from fhirline.config.exit_codes import DONE, PROBLEM_FOUND, UNUSABLE
from fhirline.config.settings import load_settings
from fhirline.streams.cli.help import OPERATE, add
from fhirline.streams.cli.options import TIMEOUT, AsJson, Timeout
from fhirline.streams.cli.output import print_json
from fhirline.streams.observe.terminal import counted

if TYPE_CHECKING:
    from fhirline.streams.operate.doctor.finding import Finding

STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def register(app: typer.Typer) -> None:
    add(app, OPERATE, "doctor", doctor)


def doctor(
    online: Annotated[
        bool,
        typer.Option(
            "--online",
            help="Also ask Infermedica for a token, the FHIR server what it can do, and read every data key.",
        ),
    ] = False,
    as_json: AsJson = False,
    timeout: Timeout = TIMEOUT,
) -> None:
    """Check this deployment, and say how to fix what is wrong.

    Checks settings, vendors' secrets, code tables, ports, disk and clock of this machine, and the cluster with its
    topics, consumer groups and dead letters. Run it where gateway and workers run, with their environment, as the
    operator's Kafka user: a user with fewer privileges does not see all topics. It changes nothing and shows no secret.

    Exit codes:

    * 0: no problem; there may be warnings.
    * 1: at least one problem.
    * 2: at least one problem over which other commands end at once: a setting, `vendors.yaml`, a table or its folder.
    """
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # its errors are raised, and become findings
    began, counts = time.monotonic(), Counter[str]()
    findings: list[Finding] = []
    exit_code = DONE
    for finding in _findings(timeout, online):
        counts[finding.level] += 1
        if finding.level == "problem":
            exit_code = UNUSABLE if finding.unusable else max(exit_code, PROBLEM_FOUND)
        if as_json:
            findings.append(finding)
        else:
            _print(finding)  # at once, since some checks take seconds
    if as_json:
        print_json({"findings": [_document(finding) for finding in findings]})
    else:
        total = ", ".join([counted(counts[level], level) for level in ("problem", "warning")] + [f"{counts['ok']} ok"])
        print(f"\n{total}, in {time.monotonic() - began:.1f} s")
    if exit_code:
        raise typer.Exit(exit_code)


def _findings(timeout: float, online: bool) -> "Iterator[Finding]":
    from fhirline.streams.operate.doctor.examine import examine
    from fhirline.streams.operate.doctor.finding import unusable
    from fhirline.streams.step1_receive.credentials import environment

    try:
        settings = load_settings()
    except ConfigurationError as error:  # ends any other command; here it is a finding
        yield unusable("settings", str(error), "correct the setting; nothing else can be checked before")
        return
    yield from examine(settings, environment(), timeout, online)


def _print(finding: "Finding") -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(soft_wrap=True, highlight=False)
    line = Text(f"{finding.level:<8}", style=STYLES[finding.level])
    console.print(line.append(f"{finding.check:<16}{finding.text}", style="default"))
    if finding.fix:
        console.print(Text(f"{'':<8}{'':<16}→ {finding.fix}", style="default"))


def _document(finding: "Finding") -> dict[str, str]:
    """Make the JSON of a finding. The key of its fix is ``mend``, as scripts of earlier releases read it."""
    return {"check": finding.check, "level": finding.level, "text": finding.text, "mend": finding.fix}
