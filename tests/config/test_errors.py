"""The tree of exceptions: what config/errors.py draws is what the code has."""

import importlib
import pkgutil
import re

import fhirline.config
import fhirline.mappers
import fhirline.streams
import fhirline.topics
from fhirline.config import errors
from fhirline.config.errors import FhirlineError

BRANCH = re.compile(r"^    ((?:│   |    )*)[├└]── (\w+)", re.MULTILINE)
PACKAGES = (fhirline.config, fhirline.mappers, fhirline.streams, fhirline.topics)


def drawn() -> dict[str, str]:
    """Class → parent, from the drawing in the module's docstring."""
    parents = [FhirlineError.__name__]
    found = {}
    for indent, name in BRANCH.findall(errors.__doc__ or ""):
        assert name not in found, f"{name} is drawn twice"
        depth = len(indent) // 4 + 1
        found[name] = parents[depth - 1]
        parents[depth:] = [name]
    return found


def defined() -> dict[str, str]:
    """Class → parent, for every exception class that a module of ours defines."""
    found = {}
    for package in PACKAGES:
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            for value in vars(importlib.import_module(module.name)).values():
                ours = isinstance(value, type) and issubclass(value, BaseException) and value is not FhirlineError
                if ours and value.__module__.startswith("fhirline."):
                    found[value.__name__] = value.__base__.__name__ if value.__base__ else ""
    return found


def test_every_exception_is_in_the_tree_below_the_parent_that_is_drawn() -> None:
    assert drawn() == defined()
