"""The arguments of FHIRPath functions that are no values: how many there are, and types by their names."""

from fhirline.streams.observe.terminal import counted
from fhirline.streams.tables.views.fhirpath.syntax import Call, FhirPathError, Literal, Member


def type_name(call: Call) -> str:
    """Return the type that an argument names: ``Quantity``, ``FHIR.Quantity`` or ``'Quantity'``."""
    match call.arguments[0]:
        case Member(None, name) | Member(Member(None, "FHIR" | "System"), name) | Literal(str(name)):
            return name
    raise FhirPathError(f"character {call.at + 1}: {call.name}() takes the name of a type, such as Quantity")


def check_arguments(call: Call, least: int, most: int) -> None:
    """Raise FhirPathError for too few or too many arguments."""
    if not least <= len(call.arguments) <= most:
        wanted = counted(least, "argument") if least == most else f"{least} to {most} arguments"
        raise FhirPathError(f"character {call.at + 1}: {call.name}() takes {wanted}, not {len(call.arguments)}")
