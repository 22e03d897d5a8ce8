"""Reads the small YAML tables of this folder, checked when loaded; errors name file and line."""

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from fhirline.config.errors import ConfigurationError


class Table(BaseModel):
    """Base of every table: immutable, no unknown keys, and a version."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    version: str


T = TypeVar("T", bound=Table)


def read_table(name: str, model: type[T], path: Path | None = None) -> T:
    """Load table ``name`` (packaged, or at ``path``) as ``model``; raise ConfigurationError with file:line."""
    shown = str(path or name)
    try:
        text = path.read_text("utf-8") if path else (files("fhirline.config") / name).read_text("utf-8")
        return model.model_validate(yaml.safe_load(text))
    except OSError as error:
        raise ConfigurationError(f"{shown}: cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ConfigurationError(f"{shown}:{mark.line + 1 if mark else '?'}: not YAML") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        line = _line_of(yaml.compose(text), first["loc"])
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"{shown}:{line}: {place}: {first['msg']}") from None


def _line_of(node: Any, place: tuple[int | str, ...]) -> int:
    """Line (from 1) of the deepest node on the way to ``place``."""
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
    model_config = ConfigDict(extra="forbid", frozen=True)
    exact: frozenset[str]
    contains: tuple[str, ...]
    value_contains: tuple[str, ...]


class Secrets(Table):
    """``secrets.yaml``: what is redacted or withheld (mapping.md §7)."""

    redacted: tuple[str, ...]
    redacted_below: dict[str, tuple[str, ...]]
    withheld: Withheld


class Remark(BaseModel):
    """How a data-quality flag is reported (mapping.md §6) and said in plain words (§13)."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    severity: str
    code: str
    text: str


class Flags(Table):
    """``flags.yaml``: every data-quality flag."""

    flags: dict[str, Remark]


@cache
def secrets() -> Secrets:
    return read_table("secrets.yaml", Secrets)


@cache
def flags() -> Flags:
    return read_table("flags.yaml", Flags)
