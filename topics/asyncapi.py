"""The topics' contract as an AsyncAPI 3.0 document (https://www.asyncapi.com/docs/reference/specification/v3.0.0).

Made from what is declared elsewhere and nothing else: topics and their configuration (`topics.declared`), what their
records are (`topics.messages`), who writes and reads them (`topics.privileges`). Pure.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from fhirline.config.settings import Settings
from fhirline.topics.declared import Topic, declared
from fhirline.topics.headers import HeaderSet
from fhirline.topics.messages import Message, messages
from fhirline.topics.privileges import grants

Document = dict[str, Any]

VERSION = "1.0.0"
"""The contract's version: goes up with it, its first number where a reader has to change (docs/contracts.md)."""

BINDING = "0.5.0"
"""Version of AsyncAPI's Kafka bindings."""

PROCESSES = ("gateway", "ingest", "worker", "enrich")
"""Who moves events. An operator's tools read and write beside them, by the same contract."""

ACTIONS = {"Write": "send", "Read": "receive"}

DESCRIPTION = """\
Made by `fhirline topics asyncapi` from what topics/ declares; do not edit. Actions are fhirline's own: what it
sends, you receive.

Numbers of partitions and replicas, sizes, retentions and vendors are those of the settings that this was made with.
Where a channel says FHIRLINE_PARTITIONS, all such topics have that one number, for good.

Delivery is at least once, and equal input gives equal last values under equal keys: upsert by key. Channels with
x-internal are nobody's to build on.
"""


def document(settings: Settings) -> Document:
    """The contract of a deployment with these settings, as plain JSON values."""
    topics = declared(settings)
    other = declared(settings.model_copy(update={"partitions": settings.partitions + 1}))
    configurable = {
        mine.name for mine, theirs in zip(topics, other, strict=True) if mine.partitions != theirs.partitions
    }
    found = {each.name: each for topic in topics for each in messages(topic.name)}
    sets = {_headers_name(each): each.headers for each in found.values() if each.headers.all}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "fhirline", "version": VERSION, "description": DESCRIPTION},
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {
                "host": "kafka.example.org:9092",
                "protocol": "kafka",
                "description": "stands for the cluster of FHIRLINE_BOOTSTRAP",
            }
        },
        "channels": {topic.name: _channel(topic, topic.name in configurable) for topic in topics},
        "operations": dict(_operations(settings)),
        "components": {
            "messages": {name: _message(each) for name, each in found.items()},
            "schemas": {name: _headers(each) for name, each in sets.items()},
        },
    }


def as_yaml(made: Document) -> str:
    """The document as text: the same document, the same text."""
    return yaml.dump(made, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120)


class _Plain(yaml.SafeDumper):
    """Without anchors: what is meant twice is a ``$ref``, anything else is written out; paragraphs stay as they are."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, "|" if "\n" in text else None)


_Plain.add_representer(str, _text)


def _channel(topic: Topic, configurable: bool) -> Document:
    number = "FHIRLINE_PARTITIONS" if configurable else "always one"
    grows = ", may be raised" if topic.growable else ""
    holds = topic.description.removeprefix("internal: ")
    return {
        "address": topic.name,
        "description": f"{holds}. Key: {topic.key}. Partitions: {number}{grows}.",
        "messages": {each.name: _reference("components", "messages", each.name) for each in messages(topic.name)},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "replicas": topic.replication_factor,
                "topicConfiguration": {name: _configured(name, value) for name, value in topic.config.items()},
                "bindingVersion": BINDING,
            }
        },
        **({"x-internal": True} if holds != topic.description else {}),
    }


def _configured(name: str, value: str) -> Any:
    """A topic's setting in the types that the bindings want."""
    return value.split(",") if name == "cleanup.policy" else int(value)


def _operations(settings: Settings) -> Iterator[tuple[str, Document]]:
    """One for each process, action and topic. What a process may do is what it does: it is given no more."""
    names = {topic.name for topic in declared(settings)}
    for process in PROCESSES:
        for grant in grants(process, settings):
            if grant.resource == "Topic" and grant.operation in ACTIONS and grant.name in names:
                action = ACTIONS[grant.operation]
                yield (
                    f"{process}.{action}.{grant.name}",
                    {"action": action, "channel": _reference("channels", grant.name), "tags": [{"name": process}]},
                )


def _message(each: Message) -> Document:
    return {
        "name": each.name,
        "summary": each.summary,
        "contentType": each.content_type,
        **({"headers": _reference("components", "schemas", _headers_name(each))} if each.headers.all else {}),
        "payload": each.payload,
        "bindings": {"kafka": {"key": each.key, "bindingVersion": BINDING}},
        **({"examples": [*each.examples]} if each.examples else {}),
    }


def _headers_name(each: Message) -> str:
    return f"{each.headers.name}Headers"


def _headers(of: HeaderSet) -> Document:
    return {
        "type": "object",
        **({"required": [each.name for each in of.required]} if of.required else {}),
        "properties": {
            each.name: {"type": "string", "pattern": each.pattern, "description": each.description} for each in of.all
        },
    }


def _reference(*path: str) -> Mapping[str, str]:
    return {"$ref": "#/" + "/".join(path)}
