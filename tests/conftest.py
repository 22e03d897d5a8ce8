"""Shared by all tests. ``--approve`` writes the golden files anew from what the mappings make now."""

import gc
import inspect
import os
import shlex
import signal
import sys
from contextlib import ExitStack

import pytest
import structlog
from execnet import XSpec
from hypothesis import settings
from xdist.remote import Producer

from tests.support import cli
from tests.support.ehr.fixture import ehr_server
from tests.support.importing import import_test_modules
from tests.support.kafka.brokers import apache_kafka, broker, embedded, own_broker
from tests.support.kafka.users import cluster
from tests.support.paths import ROOT
from tests.support.postgres import own_postgres, postgres
from tests.support.scheduling import FromBothEnds

__all__ = [
    "apache_kafka",
    "broker",
    "cluster",
    "ehr_server",
    "embedded",
    "own_broker",
    "own_postgres",
    "postgres",
]

# Collecting makes a million objects that live until the end. Looking for garbage among them took two fifths of the
# time, in each process of pytest-xdist.
gc.disable()

# A shell starts what runs in the background with Ctrl-C ignored, and what a test starts would inherit that: no Ctrl-C
# that a test sends would reach it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--approve", action="store_true", help="write tests/golden/**/*.out.json anew; then read the diff")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("dist", "no") == "loadgroup" and not hasattr(pytest.Item, "_nodeid"):
        # pytest-xdist 3.8 writes a test's group there (its issue 1386); drop this with a release that does not
        raise pytest.UsageError(
            "pytest-xdist cannot group tests with this pytest: each process would start all servers"
        )
    if not hasattr(config, "workerinput"):  # in the process that starts those of pytest-xdist
        stack = ExitStack()
        stack.enter_context(cli.running_server())
        config.add_cleanup(stack.close)


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_setupnodes(config: pytest.Config, specs: list[XSpec]) -> None:
    """Let the server of commands fork the processes of ``make test``: each would import and build the same again."""
    if config.getoption("markexpr") != "not long":  # those of long tests measure what a process takes
        return
    interpreter = shlex.join([sys.executable, str(ROOT / "tests" / "support" / "forked_python.py")])
    specs[:] = [XSpec(f"{spec}//id={spec.id}//python={interpreter}") if spec.popen else spec for spec in specs]


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FromBothEnds | None:
    return FromBothEnds(config, log) if config.getoption("dist") == "loadgroup" else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    if worker := getattr(session.config, "workerinput", None):
        import_test_modules(session.config, int(worker["workerid"].removeprefix("gw")), worker["workercount"])


def pytest_pycollect_makeitem(name: str, obj: object) -> None:
    """Refuse a mark on a function that is no test: it marks nothing, and the test that was meant runs unmarked."""
    if inspect.isfunction(obj) and getattr(obj, "pytestmark", None) and not name.startswith("test_"):
        raise pytest.UsageError(f"{obj.__module__}.{name} has a mark, and is no test")


def pytest_collection_finish() -> None:
    gc.enable()
    gc.freeze()


OF_THE_SESSION = ("ehr_server", "cluster", "apache_kafka", "postgres", "own_postgres")
OF_A_MODULE = ("gateway", "leader", "mapped", "stack", "wheel")
"""Fixtures that take seconds to set up. All tests that share one run in one process of pytest-xdist."""

OF_A_FOLDER = ("tests/streams/step1_receive/gateway/",)
"""Folders whose modules share such a fixture. Its scope is the package."""

FIRST = ("tests/mappers/test_bombs.py", "tests/streams/operate", "tests/streams/step2_consume")
"""Beginnings of the paths of the slowest tests. They come first, so that no process has one left at the end."""
LAST = ("tests/mappers", "tests/docs")
"""Folders of tests that compute. They come last; those that wait come first (see `FromBothEnds`)."""


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if group := shared_by(item):
            item.add_marker(pytest.mark.xdist_group(group))
        if on_slow_server(item):
            item.add_marker(pytest.mark.long)
    items.sort(key=turn)


def turn(item: pytest.Item) -> int:
    """Return 0 for tests that come first, 2 for those that come last, and 1 for all others."""
    if item.nodeid.startswith(FIRST) or on_slow_server(item):
        return 0
    return 2 if item.nodeid.startswith(LAST) else 1


def on_slow_server(item: pytest.Item) -> bool:
    """Tell whether a test runs on Apache Kafka or a FHIR server, which take seconds to start: ``make test-long``."""
    return shared_by(item) in OF_THE_SESSION


def shared_by(item: pytest.Item) -> str | None:
    """Name the group of the tests that share an expensive fixture with this one."""
    callspec = getattr(item, "callspec", None)
    parameters = [value for value in callspec.params.values() if isinstance(value, str)] if callspec else []
    used = {*getattr(item, "fixturenames", ()), *parameters}
    for name in OF_THE_SESSION:
        if name in used:
            return name
    place = item.path.parent if item.nodeid.startswith(OF_A_FOLDER) else item.path
    return next((f"{place.stem}-{name}" for name in OF_A_MODULE if name in used), None)


@pytest.fixture(scope="session")
def approve(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--approve"))


settings.register_profile(
    "fhirline", deadline=None, max_examples=300 if os.environ.get("CI") else 100, derandomize=True, database=None
)
settings.load_profile("fhirline")


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Refuse a test that configures logging in this process: all later ones would write to its standard error."""
    if isinstance(structlog.get_config()["logger_factory"], structlog.WriteLoggerFactory):
        structlog.reset_defaults()
        pytest.fail(f"{item.nodeid} configures logging: let `configure_logging` do nothing there", pytrace=False)
