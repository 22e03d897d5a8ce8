"""Read the YAML tables of this folder. Each is checked when loaded; an error names file and line."""

import re
from contextlib import suppress
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fhirline.config.errors import ConfigurationError
from fhirline.config.wrong_values import message_of


class Table(BaseModel):
    """Base of every table: immutable, no unknown keys, and a version."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    version: str


T = TypeVar("T", bound=Table)


def read_table(name: str, model: type[T], path: Path | None = None) -> T:
    """Load table ``name``, packaged or at ``path``, as ``model``; raise ConfigurationError with file:line."""
    shown = str(path or name)
    try:
        if path is None:
            with suppress(yaml.YAMLError, ValueError):  # `parse_table` says where and what is wrong
                return model.model_validate(_packaged(name))
        text = path.read_text("utf-8") if path else (files("fhirline.config") / name).read_text("utf-8")
    except OSError as error:
        raise ConfigurationError(f"{shown}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{shown}: is not UTF-8 text; save it as UTF-8") from None
    return parse_table(text, model, shown)


def _packaged(name: str) -> Any:
    """Load a table of this package by libyaml, where PyYAML has it: eight times as fast as its parser in Python.

    Any other table is read in Python, whose recursion is bounded.
    """
    text = (files("fhirline.config") / name).read_bytes()
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def parse_table(text: str, model: type[T], shown: str) -> T:
    """Read a table's text as ``model``; raise ConfigurationError with ``shown`` and the line."""
    try:
        return model.model_validate(_loaded(text, shown))
    except RecursionError:
        raise ConfigurationError(f"{shown}: is nested too deep, or contains itself by an alias") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise ConfigurationError(f"{shown}:{mark.line + 1 if mark else '?'}: not valid YAML: {problem}") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        line = _line_of(yaml.compose(text), first["loc"])
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(": ".join(filter(None, (f"{shown}:{line}", place, message_of(first))))) from None


def _loaded(text: str, shown: str) -> Any:
    """Load YAML. Raises ConfigurationError for a value that does not fit its YAML type, such as a 30th of February.

    PyYAML raises exceptions of any class for these.
    """
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError):
        raise
    except Exception as error:  # noqa: BLE001  # of any type, see above
        raise ConfigurationError(f"{shown}: a value cannot be read: {error}; put it in quotes") from None


def _line_of(node: Any, place: tuple[int | str, ...]) -> int:
    """Return the line (from 1) of the deepest existing node on the path ``place``."""
    for part in place:
        if isinstance(node, yaml.MappingNode):
            found = [value for name, value in node.value if name.value == str(part)]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            found = [node.value[part]]
        else:
            found = []
        if not found:
            break
        node = found[0]
    return int(node.start_mark.line) + 1 if node is not None else 1


class Withheld(BaseModel):
    """The rule for withholding leaves, by key (``exact``, ``contains``) or by value (``value_contains``).

    ``exact_if_opaque``: keys of which the value must be opaque too. ``parameters``: names that make an address with
    such a parameter a credential. ``passwords``, ``labels`` and ``numbers``: names in a text beside which is a
    credential. ``own_words``: words before such a name where the credential is before it ("… is my password").
    ``qualifiers``: words between a password's name and its sign or verb ("contraseña temporal: …").
    ``accounts``, ``mail_words`` and ``mail_hosts`` tell ``user:password@host`` from an e-mail address.
    ``addresses``: how the addresses begin whose path is a credential; ``*`` stands for a part of a host's name.
    ``tokens``: how providers' tokens begin, and the least number of characters that follow;
    ``tokens_with_digit``: the same, of which one is a digit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    exact: frozenset[str]
    contains: tuple[str, ...]
    exact_if_opaque: frozenset[str] = frozenset()
    parameters: frozenset[str] = frozenset()
    value_contains: tuple[str, ...]
    passwords: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    own_words: tuple[str, ...] = ()
    qualifiers: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    mail_words: tuple[str, ...] = ()
    mail_hosts: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    tokens: dict[str, int] = {}
    tokens_with_digit: dict[str, int] = {}


class Secrets(Table):
    """``secrets.yaml``: the keys that are redacted or withheld (mapping.md §7)."""

    redacted: tuple[str, ...]
    redacted_within: tuple[str, ...] = ()
    redacted_below: dict[str, tuple[str, ...]]
    shown_below: frozenset[str] = frozenset()
    verbs: tuple[str, ...]
    withheld: Withheld


class FlagDefinition(BaseModel):
    """A data-quality flag: severity and code of its OperationOutcome issue (mapping.md §6), and plain words (§13).

    ``omits``: the values at the flag's JSON Pointers were not used, so that the ledger keeps them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    severity: str
    code: str
    text: str
    omits: bool = False


class Flags(Table):
    """``flags.yaml``: every data-quality flag, by its code."""

    flags: dict[str, FlagDefinition]


class PlaceholderWords(BaseModel):
    """Words that are sent in place of a missing id. ``from``: the software or people that write them."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    words: tuple[str, ...] = Field(min_length=1)
    written_by: str = Field(alias="from")


class Placeholders(Table):
    """``placeholders.yaml``: values that are no id (mapping.md §2.6). ``patterns`` match whole strings."""

    rows: tuple[PlaceholderWords, ...]
    patterns: tuple[re.Pattern[str], ...]


@cache
def placeholders() -> Placeholders:
    """Return the packaged ``placeholders.yaml``."""
    return read_table("placeholders.yaml", Placeholders)


@cache
def secrets() -> Secrets:
    """Return the packaged ``secrets.yaml``."""
    return read_table("secrets.yaml", Secrets)


@cache
def flags() -> Flags:
    """Return the packaged ``flags.yaml``."""
    return read_table("flags.yaml", Flags)
