"""The syntax tree of a FHIRPath expression."""

from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias

from fhirline.config.errors import FhirlineError

Scalar: TypeAlias = bool | int | Decimal | str


@dataclass(frozen=True)
class Literal:
    """A literal: ``'official'``, ``1.5``, ``true``; None is the empty collection ``{}``."""

    value: Scalar | None


@dataclass(frozen=True)
class This:
    """``$this``: the item that the expression is evaluated on."""


@dataclass(frozen=True)
class Variable:
    """A variable, ``%name``: a constant of the view, or ``%rowIndex``, ``%resource``, ``%context``."""

    name: str


@dataclass(frozen=True)
class Member:
    """An element, ``base.name``. Without a base, an element of the item that the expression is evaluated on."""

    base: "Expression | None"
    name: str


@dataclass(frozen=True)
class Index:
    """One item, ``base[position]``."""

    base: "Expression"
    position: "Expression"


@dataclass(frozen=True)
class Call:
    """A function call, ``base.name(arguments)``. ``at`` is where the name begins, for errors."""

    base: "Expression | None"
    name: str
    arguments: tuple["Expression", ...]
    at: int


@dataclass(frozen=True)
class TypeOperation:
    """A test or a choice of a type: ``base is Quantity``, ``base as Quantity``."""

    operator: str
    base: "Expression"
    type: str


@dataclass(frozen=True)
class Operation:
    """An operation, ``left operator right``."""

    operator: str
    left: "Expression"
    right: "Expression"


Expression: TypeAlias = Literal | This | Variable | Member | Index | Call | TypeOperation | Operation


class FhirPathError(FhirlineError):
    """An expression cannot be read or compiled, or does not fit what it is evaluated on. Never names a value."""
