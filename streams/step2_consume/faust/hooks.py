"""The private parts of Faust and aiokafka that this worker overrides or uses, looked for before it joins its group.

None of them is promised by a release. Where Faust renames `_new_offset`, the override is never called again, and Faust
commits by its own account: over records that were never mapped, without a word. `require_hooks` ends the worker
instead. README.md beside this file has the reason for each override, and when it can be dropped.
"""

import asyncio
import dis
import inspect
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.subscription_state import Assignment, Subscription, SubscriptionState, TopicPartitionState
from faust import App, Stream, Worker
from faust.transport.consumer import Consumer as BaseConsumer
from faust.transport.consumer import ThreadDelegateConsumer
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport

from fhirline.config.errors import ConfigurationError

PINNED = {"faust-streaming": "0.15.3", "aiokafka": "0.14.0"}
"""The versions that the hooks were read in, and that pyproject.toml pins."""


class HookMissing(ConfigurationError):
    """The installed Faust or aiokafka does not have a private part that this worker depends on."""


class Hook(NamedTuple):
    """A method or attribute of a library's class."""

    owner: type
    name: str
    signature: str = ""
    """A method's parameters, after ``async`` where it is a coroutine function. Empty for an attribute."""
    used_by: str = ""
    """The library's own method that calls the method or reads the attribute; without it an override has no effect."""

    def __str__(self) -> str:
        return f"{self.owner.__module__}.{self.owner.__name__}.{self.name}"


OVERRIDDEN = (
    # What may be committed: `_commit_tps` asks for partitions, for each one's offset, and sends the offsets.
    Hook(BaseConsumer, "_filter_tps_with_pending_acks", "(self, topics=None)", "force_commit"),
    Hook(BaseConsumer, "_new_offset", "(self, tp)", "_filter_committable_offsets"),
    Hook(BaseConsumer, "_should_commit", "(self, tp, offset)", "_filter_committable_offsets"),
    Hook(ThreadDelegateConsumer, "_commit", "async (self, offsets)", "_commit_offsets"),
    Hook(BaseConsumer, "_add_gap", "async (self, tp, offset_from, offset_to)", "_drain_messages"),
    # How much is fetched ahead.
    Hook(ThreadDelegateConsumer, "_getmany", "async (self, active_partitions, timeout)", "_wait_next_records"),
    # How long a fetch waits.
    Hook(Consumer, "_new_consumer_thread", "(self)", "__init__"),
    Hook(AIOKafkaConsumerThread, "_create_worker_consumer", "(self, transport)", "_create_consumer"),
    # How the app gets the two classes above.
    Hook(Transport, "__init__", "(self, *args, **kwargs)"),
    Hook(Transport, "Consumer", used_by="create_consumer"),
)
"""Methods and attributes that the classes of `transport` replace. A test compares this table with the classes."""

USED = (
    Hook(BaseConsumer, "_acked", used_by="ack"),
    Hook(BaseConsumer, "_acked_index", used_by="ack"),
    Hook(BaseConsumer, "_committed_offset", used_by="_commit_offsets"),
    Hook(BaseConsumer, "flow_active", used_by="stop_flow"),
    Hook(ThreadDelegateConsumer, "_thread", used_by="_commit"),
    Hook(ThreadDelegateConsumer, "seek_wait", "async (self, partitions)"),
    Hook(ThreadDelegateConsumer, "assignment", "(self)"),
    Hook(ThreadDelegateConsumer, "highwater", "(self, tp)"),
    Hook(AIOKafkaConsumerThread, "call_thread", "async (self, fun, *args, **kwargs)"),
    Hook(AIOKafkaConsumerThread, "_ensure_consumer", "(self)"),
    Hook(AIOKafkaConsumer, "_fetch_max_wait_ms", used_by="start"),
    Hook(AIOKafkaConsumer, "_fetch_min_bytes", used_by="start"),
    Hook(AIOKafkaConsumer, "_subscription", used_by="start"),
    Hook(SubscriptionState, "subscription"),
    Hook(Subscription, "assignment"),
    Hook(Assignment, "tps"),
    Hook(Assignment, "state_value", "(self, tp)"),
    Hook(TopicPartitionState, "has_valid_position"),
    Hook(TopicPartitionState, "position"),
    Hook(TopicPartitionState, "highwater"),
    Hook(App, "transport"),
    Hook(asyncio.Queue, "_queue", used_by="qsize"),
    Hook(Stream, "channel"),
    Hook(Stream, "enable_acks"),
    Hook(Stream, "events", "async (self)"),
    Hook(Stream, "ack", "async (self, event)"),
    Hook(Worker, "spinner"),
)
"""Methods and attributes that this package, `streams.step2_consume.endpoint` and `fhirline worker` use or set."""


def require_hooks() -> None:
    """Raise HookMissing where the installed Faust or aiokafka differs from what the overrides were written for."""
    wrong = [problem for hook in (*OVERRIDDEN, *USED) if (problem := hook_problem(hook))]
    if wrong:
        installed = " and ".join(f"{name} {version(name)}" for name in PINNED)
        wanted = " ".join(f"{name}=={number}" for name, number in PINNED.items())
        raise HookMissing(
            f"{installed} cannot be used: {'; '.join(wrong)}. Install what was tested: pip install {wanted}"
        )


def hook_problem(hook: Hook) -> str:
    """Describe how the installed library differs from the hook; empty where it does not."""
    if hook.signature:
        method = inspect.getattr_static(hook.owner, hook.name, None)
        if method is None:
            return f"{hook} is missing"
        if (found := _signature(method)) != hook.signature:
            return f"{hook} is {found}, not {hook.signature}"
    elif not hasattr(hook.owner, hook.name) and hook.name not in _assigned(hook.owner):
        return f"{hook} is missing"
    if hook.used_by and hook.name not in _names(getattr(hook.owner, hook.used_by, None)):
        return f"{hook} is not used by {hook.used_by} any more"
    return ""


def _signature(method: Any) -> str:
    """Return a method's signature in the form of `Hook.signature`."""
    if not inspect.isfunction(method):
        return "no method"
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in inspect.signature(method).parameters.values()
    ]
    coroutine = inspect.iscoroutinefunction(inspect.unwrap(method)) or inspect.isasyncgenfunction(method)
    return f"{'async ' if coroutine else ''}{inspect.Signature(parameters)}"


def _assigned(owner: type) -> Iterable[str]:
    """Yield the names that the ``__init__`` of a class or its bases assigns, or the ``_init`` of asyncio's queues."""
    for initialize in (vars(base).get(name) for base in owner.__mro__ for name in ("__init__", "_init")):
        if (code := getattr(initialize, "__code__", None)) is not None:
            yield from (step.argval for step in dis.get_instructions(code) if step.opname == "STORE_ATTR")


def _names(method: Any) -> Iterable[str]:
    """Return the attributes and globals that a method's code names."""
    code = getattr(inspect.unwrap(method), "__code__", None) if method is not None else None
    return code.co_names if code is not None else ()
