"""Text of the Python modules of a new vendor: payload models, a mapping for each event, and a test.

The templates are in ``templates/``. Ruff then formats the modules, and removes imports that a vendor does not need.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from string import Template

from fhirline.config.errors import ConfigurationError
from fhirline.mappers.json_pointer import escape, parts
from fhirline.streams.authoring.inference import Model, ModelField, in_order
from fhirline.streams.authoring.samples import Sample


@dataclass(frozen=True, slots=True)
class Event:
    """One event of the new vendor. ``module`` is the name of its module, its function and its golden case.

    ``patient`` and ``time`` are the pointers of the vendor's that its samples have a value at; None without one.
    """

    type: str
    module: str
    model: Model
    samples: tuple[Sample, ...]
    patient: str | None
    time: str | None


@dataclass(frozen=True, slots=True)
class NewVendor:
    """Everything that the files of a new vendor are made from."""

    name: str
    display: str
    header: str
    event_field: str
    patient_fields: tuple[str, ...]
    time_fields: tuple[str, ...]
    events: tuple[Event, ...]

    @property
    def secret(self) -> str:
        """Return the environment variable that holds the secret of the vendor's webhooks."""
        return f"FHIRLINE_{self.name.upper()}_SECRET"


def filled(template: str, **values: object) -> str:
    """Fill a template of ``templates/``."""
    text = (files("fhirline.streams.authoring") / "templates" / f"{template}.txt").read_text("utf-8")
    return Template(text).substitute(values)


def vendor_module(vendor: NewVendor, section: str) -> str:
    """Write ``mappers/<vendor>/__init__.py``. ``section`` is the vendor's in the specification."""
    package = f"fhirline.mappers.{vendor.name}"
    return filled(
        "vendor.py",
        display=vendor.display,
        specification=f"mapping.md §{section}",
        name=vendor.name,
        event_imports="\n".join(f"from {package}.{event.module} import {event.module}" for event in vendor.events),
        models=", ".join(event.model.name for event in vendor.events),
        event_field=literal(vendor.event_field),
        patient_fields=literals(vendor.patient_fields),
        time_fields=literals(vendor.time_fields),
        events="".join(
            f"{literal(event.type)}: EventMapping({event.model.name}, {event.module})," for event in vendor.events
        ),
    )


def declarations_module(vendor: NewVendor) -> str:
    """Write ``mappers/<vendor>/declarations.py``: the patient's identifier, where an event names a patient."""
    named = any(event.patient is not None for event in vendor.events)
    identifiers = f"{literal('patient')}: {literal(f'A patient of {vendor.display}')}," if named else ""
    return filled("declarations.py", display=vendor.display, identifiers=identifiers)


def payload_module(vendor: NewVendor) -> str:
    """Write ``mappers/<vendor>/payload.py``."""
    roots = {id(event.model): event.type for event in vendor.events}
    models = in_order(event.model for event in vendor.events)
    return filled(
        "payload.py",
        display=vendor.display,
        classes="\n\n".join(_class(model, roots.get(id(model))) for model in models),
    )


def _class(model: Model, event: str | None) -> str:
    if event is not None:
        about = f"``{prose(event)}``."
    elif not model.pointer:
        about = "The fields of every event."
    elif model.pointer.endswith("/*"):
        about = f"An item of ``{prose(model.pointer[:-2])}``."
    else:
        about = f"The object at ``{prose(model.pointer)}``."
    lines = [f"class {model.name}({model.base.name if model.base else 'Payload'}):", f'    """{about}"""', ""]
    lines += [f"    {_field(field)}" for field in model.fields]
    if model.unknown:
        lines.append(f"    # Without a value in every sample: {prose(', '.join(model.unknown))}")
    return "\n".join(lines) + "\n"


def _field(field: ModelField) -> str:
    value = field.default
    if field.attribute != field.key:
        value = f"Field({value}, alias={literal(field.key)})"
    remark = f"  # also sent as {' and '.join(field.others)}" if field.others else ""
    return f"{field.attribute}: {field.type} = {value}{remark}"


def event_module(vendor: NewVendor, event: Event) -> str:
    """Write the module of an event: the Patient where a patient is named, else nothing."""
    common = {
        "display": vendor.display,
        "name": vendor.name,
        "event": prose(event.type),
        "model": event.model.name,
        "function": event.module,
    }
    if event.patient is None:
        return filled("event_without_patient.py", **common)
    kept = not_mapped(event.model, {vendor.event_field, event.patient, *filter(None, [event.time])})
    omits = "    build.omit(*NOT_MAPPED)\n" if kept else ""
    if event.time is not None:
        omits += f"    if TIMESTAMP_INVALID in context.time.flags:\n        build.omit({literal(event.time)})\n"
    return filled(
        "event.py",
        **common,
        not_mapped=_not_mapped_constant(kept) if kept else "",
        omits=omits,
        patient=_expression(event.model, event.patient),
        patient_field=literal(event.patient),
    )


def _not_mapped_constant(pointers: Sequence[str]) -> str:
    return (
        f"NOT_MAPPED = ({literals(pointers)},)\n"
        '"""JSON Pointers of the values that no resource has yet. The event\'s Provenance keeps them.\n\n'
        'Remove a pointer when you map its value.\n"""\n\n'
    )


def not_mapped(model: Model, used: Iterable[str], pointer: str = "") -> list[str]:
    """Return the shortest pointers that lead to all modelled values but those that are ``used``."""
    found = []
    for field in model.all_fields():
        at = f"{pointer}/{escape(field.key)}"
        if at in used:
            continue
        if field.model is not None and any(other.startswith(f"{at}/") for other in used):
            found += not_mapped(field.model, used, at)
        else:
            found.append(at)
    return found


def _expression(model: Model, pointer: str) -> str:
    """Write the Python expression that reads a pointer of an event: ``event.patient.id if event.patient else None``."""
    path, conditions, current = "event", [], model
    *above, last = parts(pointer)
    for key in above:
        field = next((item for item in current.all_fields() if item.key == key), None)
        if field is None or field.model is None or not field.type.startswith("Maybe["):
            raise ConfigurationError(f"--patient-field: {pointer}: samples also have a list, or a map, above it")
        path, current = f"{path}.{field.attribute}", field.model
        conditions.append(path)
    field = next((item for item in current.all_fields() if item.key == last), None)
    if field is None or field.type not in ("Id", "Shortest"):
        raise ConfigurationError(f"--patient-field: {pointer}: samples also have an object or a list there")
    value = f"{path}.{field.attribute}"
    return f"{value} if {' and '.join(conditions)} else None" if conditions else value


def tests_module(vendor: NewVendor, identifiers: Mapping[str, str], times: Mapping[str, str]) -> str:
    """Write ``tests/mappers/test_<vendor>.py``.

    ``identifiers``: golden case → the patient's id in its first event; ``times``: golden case → that event's time.
    """
    with_patient = [event for event in vendor.events if event.module in identifiers]
    unmapped = [event.module for event in vendor.events if event.patient is None]
    text = filled("test.py", display=vendor.display, name=vendor.name)
    if with_patient:
        patients = "".join(
            f"{literal(event.module)}: ({literal(event.patient or '')}, {literal(identifiers[event.module])}),"
            for event in with_patient
        )
        text += filled("test_patients.py", name=vendor.name, patients=patients)
    if times:
        text += filled("test_times.py", times="".join(f"{literal(k)}: {literal(v)}," for k, v in times.items()))
    if unmapped:
        text += filled("test_unmapped.py", unmapped=literals(unmapped))
    return text


def literal(text: str) -> str:
    """Write a text as a Python literal; characters that cannot be printed are escapes."""
    return repr(text)


def literals(texts: Iterable[str]) -> str:
    return ", ".join(map(literal, texts))


def prose(text: str) -> str:
    """Write a vendor's name in a comment, a docstring or a table: printable, without quotes, at most 80 characters."""
    plain = "".join(item if item.isprintable() and item not in "\"'\\`|" else "?" for item in text)
    return re.sub(r"\s+", " ", plain if len(plain) <= 80 else f"{plain[:79]}…")
