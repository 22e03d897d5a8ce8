"""Private parts of Faust and aiokafka that a worker needs: it refuses to start where one is missing or differs."""

import ast
import inspect
import tomllib
import types
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from faust.transport.consumer import Consumer as BaseConsumer
from faust.transport.consumer import ThreadDelegateConsumer
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.types import TP

from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.step2_consume.faust import transport
from fhirline.streams.step2_consume.faust.hooks import OVERRIDDEN, PINNED, USED, HookMissing, require_hooks
from tests.support.kafka.brokers import RunningBroker, create_topics
from tests.support.running_worker import running

ROOT = Path(__file__).parents[4]
TABLE = (*OVERRIDDEN, *USED)
USERS = ("streams/step2_consume/faust", "streams/step2_consume/app.py", "streams/step2_consume/endpoint.py")
"""The code that may touch private parts of Faust and aiokafka."""


def rename(owner: type, name: str) -> Callable[[pytest.MonkeyPatch], None]:
    def renamed(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(owner, f"{name}_", getattr(owner, name), raising=False)
        monkeypatch.delattr(owner, name)

    return renamed


def replace(owner: type, name: str, other: object) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda monkeypatch: monkeypatch.setattr(owner, name, other)


def new_offset(self: Any, tp: TP, committed: int) -> None: ...


def commit(self: Any, offsets: dict[TP, int]) -> bool:
    return True


def filter_committable_offsets(self: Any, tps: list[TP]) -> dict[TP, int]:
    return {tp: self.next_offset(tp) for tp in tps if self._should_commit(tp, 0)}


def fewer_attributes(self: Any) -> None:
    self._fetch_wait_ms = self._fetch_min_bytes = self._subscription = None


async def start_without_it(self: Any) -> None:
    self.fetcher = self._fetch_max_wait_ms, self._subscription


CHANGES = {
    "an overridden method is renamed": (
        rename(BaseConsumer, "_new_offset"),
        "faust.transport.consumer.Consumer._new_offset is missing",
    ),
    "an overridden method takes more": (
        replace(BaseConsumer, "_new_offset", new_offset),
        "Consumer._new_offset is (self, tp, committed), not (self, tp)",
    ),
    "an overridden coroutine is none any more": (
        replace(ThreadDelegateConsumer, "_commit", commit),
        "ThreadDelegateConsumer._commit is (self, offsets), not async (self, offsets)",
    ),
    "an overridden method is not called any more": (
        replace(BaseConsumer, "_filter_committable_offsets", filter_committable_offsets),
        "Consumer._new_offset is not used by _filter_committable_offsets any more",
    ),
    "its caller is renamed": (
        rename(BaseConsumer, "_filter_committable_offsets"),
        "Consumer._new_offset is not used by _filter_committable_offsets any more",
    ),
    "an overridden method is a property now": (
        replace(BaseConsumer, "_new_offset", property(fewer_attributes)),
        "Consumer._new_offset is no method, not (self, tp)",
    ),
    "a method that is called is renamed": (
        rename(AIOKafkaConsumerThread, "_ensure_consumer"),
        "AIOKafkaConsumerThread._ensure_consumer is missing",
    ),
    "an attribute is renamed": (
        replace(AIOKafkaConsumer, "__init__", fewer_attributes),
        "AIOKafkaConsumer._fetch_max_wait_ms is missing",
    ),
    "an attribute is not read any more": (
        replace(AIOKafkaConsumer, "start", start_without_it),
        "AIOKafkaConsumer._fetch_min_bytes is not used by start any more",
    ),
}


def test_the_installed_libraries_have_every_hook() -> None:
    require_hooks()


@pytest.mark.parametrize("change", CHANGES)
def test_a_library_that_differs_is_refused(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    apply, expected = CHANGES[change]
    apply(monkeypatch)
    with pytest.raises(HookMissing) as refused:
        require_hooks()
    message = str(refused.value)
    assert expected in message
    assert f"faust-streaming {version('faust-streaming')} and aiokafka {version('aiokafka')}" in message
    assert "pip install faust-streaming==0.15.3 aiokafka==0.14.0" in message
    assert "\n" not in message


def test_a_worker_with_another_faust_ends_before_it_joins_its_group(tmp_path: Path) -> None:
    """`fhirline worker` as it is started, with a Faust in which `_new_offset` has another name."""
    (tmp_path / "sitecustomize.py").write_text(
        "from faust.transport.consumer import Consumer\n"
        "Consumer._next_offset = Consumer._new_offset\n"
        "del Consumer._new_offset\n"
    )
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        settings = RunningBroker("embedded", broker.bootstrap).settings(session_timeout=6)
        with running(settings, PYTHONPATH=str(tmp_path)) as worker:
            assert worker.wait() == 2, worker.report("did not refuse")
            report = worker.report("ended")
    assert "faust.transport.consumer.Consumer._new_offset is missing" in report
    assert "Traceback" not in report
    assert "partitions assigned" not in report


def overridden(ours: type) -> Iterator[tuple[type, str]]:
    """Each attribute of a library's class that a class of ours replaces, with the class that has it."""
    bare = types.new_class("Bare", ours.__bases__)  # has what Faust's own machinery gives to every subclass
    for name in vars(ours).keys() - vars(bare).keys():
        owner = next((base for base in ours.__mro__[1:] if name in vars(base)), object)
        if owner is not object:
            yield owner, name


def test_every_override_is_in_the_table() -> None:
    """And no other: what is dropped from the code is dropped from the table too."""
    classes = [
        getmember
        for _, getmember in inspect.getmembers(transport, inspect.isclass)
        if getmember.__module__ == transport.__name__
    ]
    found = {override for ours in classes for override in overridden(ours)}
    assert found == {(hook.owner, hook.name) for hook in OVERRIDDEN}


def test_an_override_that_is_added_is_found() -> None:
    """The test above would name it."""

    class More(transport.WorkerConsumer):
        async def commit(self, *_: Any, **__: Any) -> bool:
            return False

    assert set(overridden(More)) == {(BaseConsumer, "commit")}


def test_every_private_part_that_is_used_is_in_the_table() -> None:
    used: set[str] = set()
    own: set[str] = set()
    for path in USERS:
        for file in [ROOT / path] if path.endswith(".py") else (ROOT / path).glob("*.py"):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
                    (own if isinstance(node.ctx, ast.Store) and _is_self(node) else used).add(node.attr)
                elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    own.add(node.name)
    overridden = {hook.name for hook in OVERRIDDEN}
    assert used - (own - overridden) - overridden == {hook.name for hook in USED if hook.name.startswith("_")}


def _is_self(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == "self"


def test_the_versions_of_the_table_are_those_of_pyproject() -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    for name, number in PINNED.items():
        assert f"{name}=={number}" in dependencies
        assert version(name) == number


def test_every_hook_is_explained() -> None:
    """README.md beside the code has the reason for each override."""
    readme = (ROOT / "streams/step2_consume/faust/README.md").read_text("utf-8")
    assert not [hook.name for hook in TABLE if f"`{hook.name}`" not in readme]
