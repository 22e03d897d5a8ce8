"""``fhirline vendor``: writes the first version of a vendor's mapping from samples, in a checkout of the repository."""

import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fhirline.config.errors import ConfigurationError
from fhirline.streams.cli.help import VENDORS, group
from fhirline.streams.cli.options import DryRun

if TYPE_CHECKING:
    from fhirline.streams.authoring.checkout import Checkout
    from fhirline.streams.authoring.new_vendor import Plan


_NO_PATIENT = "nothing yet: no sample has a patient key (--patient-field, once for each place where it may be)"


def register(app: typer.Typer) -> None:
    vendor = group(app, "vendor", "Work on the mapping of a vendor, in a checkout of the repository.", VENDORS)
    vendor.callback()(_keep_names)
    vendor.command("new")(new)


def _keep_names() -> None:
    """Keep the name of a command that is alone in its group: Typer drops it unless there is a callback."""


def new(
    name: Annotated[str, typer.Argument(help="Name of the package and the topics: lower-case letters and digits.")],
    sample: Annotated[
        list[Path], typer.Option("--sample", metavar="FILE", help="Webhook bodies: JSON, a JSON array or NDJSON.")
    ],
    more: Annotated[list[Path] | None, typer.Argument(metavar="[FILE]...", help="Further samples.")] = None,
    display: Annotated[
        str | None, typer.Option("--name", metavar="TEXT", help="Name for people. Default: NAME, capitalised.")
    ] = None,
    event_field: Annotated[
        str | None, typer.Option(metavar="POINTER", help="JSON Pointer of the event's type. Default: guessed.")
    ] = None,
    patient_field: Annotated[
        list[str] | None,
        typer.Option(metavar="POINTER", help="JSON Pointer of the patient's id, may be repeated. Default: guessed."),
    ] = None,
    time_field: Annotated[
        list[str] | None,
        typer.Option(metavar="POINTER", help="JSON Pointer of the event's time, may be repeated. Default: guessed."),
    ] = None,
    header: Annotated[
        str | None, typer.Option(metavar="NAME", help="Header of the webhooks' secret. Default: x-NAME-secret.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Write the first version of a vendor's mapping, from samples of its webhooks.

    It writes payload models, a mapping for each event, configuration, golden cases, a test and the vendor's section of
    the specification. Each event becomes its Patient, and nothing else, so that no meaning is guessed. The mapping
    lists the values that it does not use yet. No file is overwritten. Of repeated pointers the first one with a value
    is used.

    The samples go into the repository, so the people in them must be invented. docs/adding-a-vendor.md shows how to
    continue.

    Exit codes:

    * 0: the files are written.
    * 2: nothing was written; the reason is on standard error.

    Examples:

    ```console
    $ fhirline vendor new exampledoc --sample visit.json lab-results.ndjson
    $ fhirline vendor new exampledoc --sample visit.json --patient-field /data/member --dry-run
    ```
    """
    from fhirline.streams.authoring import new_vendor
    from fhirline.streams.authoring.checkout import Checkout, check_tools
    from fhirline.streams.authoring.samples import read_samples

    if event_field or patient_field or time_field:
        _refuse_a_pointer_without_option(more or ())
    checkout = Checkout.around(Path.cwd())
    check_tools()
    options = new_vendor.Options(
        name, display, header, event_field, tuple(patient_field or ()), tuple(time_field or ())
    )
    made = new_vendor.plan(checkout, options, read_samples([*sample, *(more or ())]))
    if dry_run:
        _print_files(made, checkout)
    else:
        new_vendor.write(checkout, made)
    _report(made, dry_run)


def _refuse_a_pointer_without_option(files: Iterable[Path]) -> None:
    """Refuse a second pointer behind one option, which reads as a further sample."""
    for file in files:
        if file.is_absolute() and not file.suffix and not file.exists():
            raise ConfigurationError(
                f"{file}: no such file; where it is a JSON Pointer, repeat the option before it: --patient-field {file}"
            )


def _print_files(made: "Plan", checkout: "Checkout") -> None:
    """Print each new file, and the lines that are added to each other one, but for those that the new code makes."""
    from difflib import unified_diff

    for path, text in made.created.items():
        print(f"--- {path}\n{text}")
    for path, text in made.changed.items():
        print("".join(unified_diff(checkout.read(path).splitlines(True), text.splitlines(True), path, path, n=1)))


def _report(made: "Plan", dry_run: bool) -> None:
    """Print what was guessed, what looks like a secret, which files there are, and what to do next."""
    vendor = made.vendor
    print(f"{vendor.display}, {len(vendor.events)} event{'s' if len(vendor.events) > 1 else ''}:")
    for event in vendor.events:
        becomes = "Patient" if event.patient else _NO_PATIENT
        print(f"  {event.type}: {len(event.samples)} sample{'s' if len(event.samples) > 1 else ''}, {becomes}")
    print("\nFields (another choice: the option, before anything is stored):")
    for (what, guess), option in zip(
        made.guesses.items(), ("--event-field", "--patient-field", "--time-field"), strict=True
    ):
        word = "guessed: " if guess.guessed and guess.pointers else ""
        print(f"  {what}: {', '.join(guess.pointers) or 'none'} ({word}{guess.reason}; {option})")
    _report_secrets(made)
    for notice in made.notices:
        print(f"\nNote: {notice}")
    print(f"\n{'Would be written' if dry_run else 'Written'}:")
    for path in made.new_files:
        print(f"  {path}")
    for path in made.changed_files:
        print(f"  {path} (changed)")
    print(_next_steps(made))


def _report_secrets(made: "Plan") -> None:
    for title, secrets in (
        ("Values that look like secrets, which FHIR resources never hold:", [s for s in made.secrets if s.withheld]),
        ("Values that may be secrets, which no table knows:", [s for s in made.secrets if not s.withheld]),
    ):
        if secrets:
            print(f"\n{title}")
        for secret in secrets:
            if secret.redacted:
                what = "is redacted already"
            elif secret.withheld:
                what = "is stored in the raw topic: add its key to config/secrets.yaml"
            else:
                what = "is stored and published: if it is one, add its key to config/secrets.yaml"
            print(f"  {secret.pointer} ({secret.reason}) {what}")


def _next_steps(made: "Plan") -> str:
    vendor = made.vendor
    event = next((item for item in vendor.events if item.patient), vendor.events[0])
    steps = (
        "Read tests/golden/{name}/*.in.json: the samples are in the repository now. Invented people only.",
        "See what an event becomes: {map}",
        "Map its values in mappers/{name}/{module}.py; remove each from NOT_MAPPED (docs/adding-a-vendor.md, step 3).",
        "Approve the result, and read it: pytest tests/mappers/test_golden.py -k {name} --approve; git diff",
        "State what each path becomes in docs/design/mapping.md §{section}.",
        "Put the secret of the webhooks into {secret}; in docker/compose.yaml under x-webhook-secrets.",
        "Run make check, then make test.",
    )
    values = {
        "name": vendor.name,
        "module": event.module,
        "section": made.section,
        "secret": vendor.secret,
        "map": _map_command(vendor.name, event.samples[0].origin),
    }
    return "\nNext:\n" + "\n".join(f"  {number}. {step.format(**values)}" for number, step in enumerate(steps, 1))


def _map_command(vendor: str, origin: str) -> str:
    """Write the command that maps the file of a sample. ``origin``: ``file``, ``file:line`` or ``file[position]``."""
    found = re.fullmatch(r"(?P<file>.*?)(?P<line>:\d+)?(?P<position>\[\d+\])?", origin, re.S)
    assert found is not None
    file = shlex.quote(found["file"])
    if found["position"]:
        return f"jq -c '.[]' {file} | fhirline map {vendor} --resources --ndjson"
    return f"fhirline map {vendor} --resources {'--ndjson ' if found['line'] else ''}{file}"
