"""The import of test modules by the processes of pytest-xdist, each in an order of its own.

pytest rewrites the assertions of a test module when it is imported, and keeps the result as bytecode. All processes
collect in the same order. In a new checkout, which has no bytecode yet, each of ten processes would therefore rewrite
every module, which took some 20 CPU seconds of ``make test``. Beginning at different modules, they share the work.
"""

from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest

from tests.support.paths import ROOT


def import_test_modules(config: pytest.Config, number: int, processes: int) -> None:
    """Import the modules that process ``number`` of ``processes`` will collect, beginning at its share of them."""
    ignored = [Path(path).resolve() for path in config.getoption("ignore") or ()]
    files = [
        path
        for argument in config.args
        for path in sorted(Path(argument).resolve().rglob("test_*.py"))
        if not any(path.is_relative_to(folder) for folder in ignored)
    ]
    start = len(files) * number // processes
    for path in (*files[start:], *files[:start]):
        with suppress(Exception, pytest.skip.Exception):  # the collection imports it again, and reports it
            import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
