"""Run the examples in the docstrings of `fhirline`: every module whose source contains ``>>>``."""

import doctest
import importlib
import pkgutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import fhirline


def modules_with_examples(package: str, paths: Iterable[str]) -> Iterator[str]:
    """Names of the modules with examples below a package, found without importing them."""
    for found in pkgutil.iter_modules(paths):
        name = f"{package}.{found.name}"
        folder = Path(found.module_finder.path)  # type: ignore[union-attr]  # a package's files are found by a FileFinder
        source = folder / found.name / "__init__.py" if found.ispkg else folder / f"{found.name}.py"
        if ">>> " in source.read_text("utf-8"):
            yield name
        if found.ispkg:
            yield from modules_with_examples(name, [str(folder / found.name)])


MODULES = [*modules_with_examples("fhirline", fhirline.__path__)]


def test_there_are_modules_with_examples() -> None:
    """Without any, the test below would be skipped without a word."""
    assert MODULES


@pytest.mark.parametrize("module", MODULES)
def test_examples_print_what_they_show(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted > 0, f"{module} contains >>>, and none of it is an example of a docstring"
    assert result.failed == 0
