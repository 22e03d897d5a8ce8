"""The first version of a vendor's package, made from samples: planned whole, then written whole.

It maps no more than the Patient, so that nothing in it is a guess of a meaning. What the mapping does not use is
listed in it, and kept on the event's Provenance.
"""

import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from fhirline.config.errors import ConfigurationError
from fhirline.mappers.routing import text_at, time_at
from fhirline.streams.authoring import checkout as at
from fhirline.streams.authoring import documents, golden, guesses, names
from fhirline.streams.authoring.checkout import Checkout
from fhirline.streams.authoring.guesses import Guess, Secret
from fhirline.streams.authoring.inference import payload_models
from fhirline.streams.authoring.package import (
    Event,
    NewVendor,
    declarations_module,
    event_module,
    filled,
    payload_module,
    tests_module,
    vendor_module,
)
from fhirline.streams.authoring.samples import Sample

_DISPLAY = re.compile(r"[^\W_][\w .,&'()-]{0,59}")
_HEADER = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)
_MODULES = frozenset(
    {"declarations", "payload", "people", "context", "event", "build", "patient", "patient_at", "time_at", "type_at"}
)
"""Names that an event's module cannot have."""


@dataclass(frozen=True, slots=True)
class Options:
    """The author's choices; the rest is guessed. Field options are JSON Pointers."""

    name: str
    display: str | None = None
    header: str | None = None
    event_field: str | None = None
    patient_fields: tuple[str, ...] = ()
    time_fields: tuple[str, ...] = ()


@dataclass(slots=True)
class Plan:
    """The files of a new vendor, before any is written. Paths are relative to the top of the checkout.

    ``created``: path → text. ``changed``: path → text, of files that exist. ``notices``: what the author should know.
    """

    vendor: NewVendor
    guesses: dict[str, Guess]
    secrets: list[Secret]
    section: str
    created: dict[str, str] = field(default_factory=dict)
    changed: dict[str, str] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)

    @property
    def outputs(self) -> list[str]:
        """Return the approved outputs of the golden cases, which the new code itself makes."""
        return [path.replace(".in.json", ".out.json") for path in self.created if path.endswith(".in.json")]

    @property
    def new_files(self) -> list[str]:
        """Return every file that `write` creates."""
        return [*self.created, *self.outputs]

    @property
    def changed_files(self) -> list[str]:
        """Return every file that `write` changes: the contract, too, which the new code makes."""
        return [*self.changed, at.CONTRACT]


def plan(checkout: Checkout, options: Options, samples: Sequence[Sample]) -> Plan:
    """Plan the files of a new vendor. Raises ConfigurationError where an option or a sample is unusable."""
    checkout.check_name(options.name)
    found = _guesses(options, samples)
    events = guesses.by_event(samples, found["event type"].pointers[0])
    vendor = _vendor(options, found, events)
    section = documents.next_section(checkout.read(at.SPECIFICATION)) or "?"
    used = [vendor.event_field, *vendor.patient_fields, *vendor.time_fields]
    made = Plan(vendor, found, guesses.find_secrets(samples, used), section)
    _write_package(made, checkout)
    _write_tests(made, checkout, used)
    _write_configuration(made, checkout)
    _write_documents(made, checkout)
    return made


def _guesses(options: Options, samples: Sequence[Sample]) -> dict[str, Guess]:
    event_fields = (options.event_field,) if options.event_field else ()
    return {
        "event type": guesses.given("--event-field", event_fields, samples)
        if event_fields
        else guesses.event_field(samples),
        "patient key": guesses.given("--patient-field", options.patient_fields, samples)
        if options.patient_fields
        else guesses.patient_field(samples),
        "event time": guesses.given("--time-field", options.time_fields, samples)
        if options.time_fields
        else guesses.time_field(samples),
    }


def _vendor(options: Options, found: dict[str, Guess], events: dict[str, list[Sample]]) -> NewVendor:
    display = options.display or options.name.capitalize()
    if not _DISPLAY.fullmatch(display):
        raise ConfigurationError(f"--name: {display!r} holds a character that tables and headings cannot show")
    header = (options.header or f"x-{options.name}-secret").lower()
    if not _HEADER.fullmatch(header):
        raise ConfigurationError(f"--header: {header!r} is no header's name; use letters, digits and -")
    event_field, patients, times = (found[name].pointers for name in ("event type", "patient key", "event time"))
    numeric = any(not isinstance(value, str) for value in _values(events, event_field[0]))
    models = payload_models(
        {event: [sample.body for sample in samples] for event, samples in events.items()},
        [*patients, *(event_field if numeric else ())],
    )
    modules: list[str] = []
    for event in events:
        name = names.snake(event)
        modules.append(names.unique(f"{name}_event" if name in _MODULES else name, modules))
    return NewVendor(
        options.name,
        display,
        header,
        event_field[0],
        patients,
        times,
        tuple(
            Event(
                event,
                module,
                models[event],
                tuple(samples),
                guesses.first_in(patients, samples),
                guesses.first_in(times, samples),
            )
            for module, (event, samples) in zip(modules, events.items(), strict=True)
        ),
    )


def _values(events: dict[str, list[Sample]], pointer: str) -> list[object]:
    return [
        value
        for samples in events.values()
        for sample in samples
        for found, value in guesses.scalars(sample.body)
        if found == pointer
    ]


def _write_package(made: Plan, checkout: Checkout) -> None:
    vendor, folder = made.vendor, f"mappers/{made.vendor.name}"
    modules = {f"{folder}/__init__.py": vendor_module(vendor, made.section)}
    modules[f"{folder}/declarations.py"] = declarations_module(vendor)
    modules[f"{folder}/payload.py"] = payload_module(vendor)
    modules |= {f"{folder}/{event.module}.py": event_module(vendor, event) for event in vendor.events}
    made.created |= {path: checkout.formatted(path, code) for path, code in modules.items()}


def _write_tests(made: Plan, checkout: Checkout, used: Sequence[str]) -> None:
    vendor, event_time = made.vendor, time_at(*made.vendor.time_fields)
    identifiers: dict[str, str] = {}
    times: dict[str, str] = {}
    for event in vendor.events:
        path = f"tests/golden/{vendor.name}/{event.module}.in.json"
        made.created[path], cut = golden.golden_case(event.samples, event_time, used)
        if cut:
            made.notices.append(f"{path} holds the samples cut: lists to 3 items, texts to 2000 characters")
        first = event.samples[0]
        if event.patient is not None and (identifier := text_at(first.body, event.patient)):
            identifiers[event.module] = identifier
        if event.time is not None and (time := golden.own_time(first, event_time)):
            times[event.module] = time.text
    path = f"tests/mappers/test_{vendor.name}.py"
    made.created[path] = checkout.formatted(path, tests_module(vendor, identifiers, times))


def _write_configuration(made: Plan, checkout: Checkout) -> None:
    vendor = made.vendor
    made.changed[at.REGISTRY] = checkout.formatted(at.REGISTRY, checkout.registry_with(vendor.name))
    block = filled(
        "vendors.yaml",
        name=vendor.name,
        display=vendor.display if re.fullmatch(r"[A-Z][\w .]*", vendor.display) else json.dumps(vendor.display),
        header=vendor.header,
        secret=vendor.secret,
    )
    changed = f"{checkout.read(at.VENDORS_FILE).rstrip()}\n{block}"
    loaded = yaml.safe_load(changed)
    if [*loaded] != ["vendors"] or vendor.name not in loaded["vendors"]:
        raise ConfigurationError(f"{at.VENDORS_FILE}: a block cannot be added at its end; vendors must come last")
    made.changed[at.VENDORS_FILE] = changed


def _write_documents(made: Plan, checkout: Checkout) -> None:
    vendor = made.vendor
    edits = {
        at.SPECIFICATION: documents.specification_with(
            checkout.read(at.SPECIFICATION),
            vendor,
            made.section,
            [secret.pointer for secret in made.secrets if secret.withheld],
        ),
        at.README: documents.readme_with(checkout.read(at.README), vendor),
        at.SETTINGS: documents.settings_with(checkout.read(at.SETTINGS), vendor),
    }
    for path, text in edits.items():
        if text is None:
            made.notices.append(f"{path}: the place for a new vendor was not found; add {vendor.display} by hand")
        else:
            made.changed[path] = text


def write(checkout: Checkout, made: Plan) -> None:
    """Write the files, then let the new code make the golden cases' outputs and the topics' contract.

    If anything fails, every file is as before.
    """
    before = {path: checkout.read(path) for path in (*made.changed, at.CONTRACT)}
    cases = [f"{made.vendor.name}/{event.module}" for event in made.vendor.events]
    try:
        for path, text in {**made.created, **made.changed}.items():
            (checkout.root / path).parent.mkdir(parents=True, exist_ok=True)
            (checkout.root / path).write_text(text, "utf-8")
        nodes = [f"tests/mappers/test_golden.py::test_maps_to_what_was_approved[{case}]" for case in cases]
        checkout.run("-m", "pytest", "--approve", *nodes)
        with tempfile.TemporaryDirectory() as empty:  # no .env file there
            program = "from fhirline.streams.cli import main; main()"
            contract = checkout.run("-c", program, "topics", "asyncapi", folder=Path(empty))
        (checkout.root / at.CONTRACT).write_text(contract, "utf-8")
    except BaseException:
        _undo(checkout, made, before)
        raise


def _undo(checkout: Checkout, made: Plan, before: dict[str, str]) -> None:
    for path in made.new_files:
        (checkout.root / path).unlink(missing_ok=True)
    for folder in (f"mappers/{made.vendor.name}", f"tests/golden/{made.vendor.name}"):
        for cache in (checkout.root / folder).glob("__pycache__/*"):
            cache.unlink()
        for leftover in (checkout.root / folder / "__pycache__", checkout.root / folder):
            if leftover.is_dir():
                leftover.rmdir()
    for path, text in before.items():
        (checkout.root / path).write_text(text, "utf-8")
