"""The least that each process may do on a cluster with ACLs. Kafka's own words for resources and operations.

One table for three readers: docs/security.md shows it, operators grant it, and tests/streams/kafka/test_security.py and
test_operator_privileges.py run every process with exactly this and nothing else. Write and Read imply Describe. An
idempotent producer needs no right of its own on Kafka 2.8 and later (KIP-679); older clusters also want IdempotentWrite
on the cluster.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from fhirline.config.settings import Settings
from fhirline.config.vendors import load_vendors
from fhirline.topics.declared import (
    BUNDLE,
    DEAD_LETTER_STATUS,
    ENRICHED,
    ERASED,
    OUTCOME,
    RESOURCE_TYPES,
    declared,
)

ResourceType = Literal["Topic", "Group"]

RAW, ENRICHED_RAW, LETTERS = "raw.<vendor>", "raw.<enriched>.enriched", "dead-letter.<vendor>"
STATE, ENRICHED_STATE = "normalizer.state.<vendor>", "normalizer.state.<enriched>.enriched"
CANONICAL = "fhir.r4.<type>"
EVERY = "<every declared topic>"


@dataclass(frozen=True, slots=True)
class Privilege:
    """What ``process`` may do on resources whose names ``pattern`` stands for.

    ``<vendor>`` is each vendor of vendors.yaml, ``<enriched>`` each with an enrichment, ``<type>`` each type of
    resource, ``<group>`` is ``FHIRLINE_GROUP``.
    """

    process: str
    resource: ResourceType
    pattern: str
    operations: tuple[str, ...]
    reason: str


PRIVILEGES = (
    Privilege(
        "topics",
        "Topic",
        EVERY,
        ("Create", "Alter", "AlterConfigs"),
        "apply; plan and list need only Describe and DescribeConfigs",
    ),
    Privilege("gateway", "Topic", RAW, ("Write",), "one record a webhook"),
    Privilege("ingest", "Topic", RAW, ("Write",), "one record a line; only the vendors it is used for"),
    Privilege("worker", "Topic", EVERY, ("Describe",), "refuses to start where a topic is missing"),
    Privilege("worker", "Group", "<group>", ("Read",), "membership, commits"),
    Privilege(
        "worker", "Group", "<group>.state", ("Describe",), "librdkafka asks for its coordinator; nothing is committed"
    ),
    Privilege("worker", "Group", "<group>.scan", ("Describe",), "as of <group>.state"),
    Privilege("worker", "Topic", ERASED, ("Read",), "whose events are to be passed over"),
    Privilege("worker", "Topic", RAW, ("Read",), "events"),
    Privilege("worker", "Topic", ENRICHED_RAW, ("Read",), "events"),
    Privilege("worker", "Topic", STATE, ("Read", "Write"), "folds"),
    Privilege("worker", "Topic", ENRICHED_STATE, ("Read", "Write"), "folds"),
    Privilege("worker", "Topic", CANONICAL, ("Write",), "resources"),
    Privilege("worker", "Topic", BUNDLE, ("Write",), "Bundles"),
    Privilege("worker", "Topic", OUTCOME, ("Write",), "OperationOutcomes"),
    Privilege("worker", "Topic", LETTERS, ("Write",), "events that could not be mapped"),
    Privilege("enrich", "Topic", EVERY, ("Describe",), "refuses to start where a topic is missing"),
    Privilege("enrich", "Group", "<group>.enrich", ("Read",), "membership, commits"),
    Privilege("enrich", "Group", "<group>.scan", ("Describe",), "librdkafka asks for its coordinator"),
    Privilege("enrich", "Topic", ERASED, ("Read",), "whose events are to be passed over"),
    Privilege("enrich", "Topic", "raw.<enriched>", ("Read",), "thin events"),
    Privilege("enrich", "Topic", ENRICHED_RAW, ("Write",), "completed events"),
    Privilege("enrich", "Topic", "dead-letter.<enriched>", ("Write",), "surveys that could not be fetched"),
    Privilege("consumer", "Topic", CANONICAL, ("Read",), "a warehouse; give it its own group too"),
    Privilege("consumer", "Topic", BUNDLE, ("Read",), "an EHR; give it its own group too"),
    Privilege(
        "operator",
        "Topic",
        EVERY,
        ("Describe", "DescribeConfigs"),
        "status, lag; DescribeConfigs: doctor, forget",
    ),
    Privilege("operator", "Topic", RAW, ("Read", "Write"), "replay, trace, forget; Write: redriven letters"),
    Privilege("operator", "Topic", ENRICHED_RAW, ("Read", "Write"), "replay, trace, forget; Write: redriven letters"),
    Privilege("operator", "Topic", LETTERS, ("Read",), "dead letters, trace, forget"),
    Privilege("operator", "Topic", DEAD_LETTER_STATUS, ("Read", "Write"), "which letters are done"),
    Privilege(
        "operator", "Topic", CANONICAL, ("Read", "Write"), "trace, replay, forget; Write: replay's output, tombstones"
    ),
    Privilege("operator", "Topic", BUNDLE, ("Read", "Write"), "trace, forget; Write: replay's and DELETE Bundles"),
    Privilege("operator", "Topic", OUTCOME, ("Read",), "trace, forget"),
    Privilege("operator", "Topic", STATE, ("Read", "Write"), "replay, forget"),
    Privilege("operator", "Topic", ENRICHED_STATE, ("Read", "Write"), "replay, forget"),
    Privilege("operator", "Topic", ERASED, ("Read", "Write"), "forget; Read: replay, redriven letters"),
    Privilege("operator", "Group", "<group>.scan", ("Describe",), "as of the worker's <group>.state"),
    Privilege("operator", "Group", "<group>.state", ("Describe",), "replay of a part: what folds remember of the rest"),
    Privilege("operator", "Group", "<group>", ("Describe",), "lag of the workers"),
    Privilege("operator", "Group", "<group>.enrich", ("Describe",), "lag of the enrichment"),
)

IMPLIED_BY = {"Describe": ("Read", "Write", "Alter"), "DescribeConfigs": ("AlterConfigs",)}
"""Kafka's own rule: whoever has one of these on a resource has the operation too."""

PROCESSES = tuple(dict.fromkeys(each.process for each in PRIVILEGES))


@dataclass(frozen=True, slots=True)
class Grant:
    """One ACL: allow ``operation`` on the resource of exactly this name."""

    resource: ResourceType
    name: str
    operation: str


def grants(process: str, settings: Settings) -> tuple[Grant, ...]:
    """Every ACL that a process needs in this deployment: none twice, none that another implies."""
    named = dict.fromkeys(
        Grant(each.resource, name, operation)
        for each in PRIVILEGES
        if each.process == process
        for name in _names(each.pattern, settings)
        for operation in each.operations
    )
    return tuple(
        each
        for each in named
        if not any(replace(each, operation=other) in named for other in IMPLIED_BY.get(each.operation, ()))
    )


def _names(pattern: str, settings: Settings) -> Iterator[str]:
    vendors = settings.vendors or load_vendors(settings.vendors_file).names
    if pattern == EVERY:
        yield from (topic.name for topic in declared(settings))
        return
    for placeholder, values in (
        ("<vendor>", vendors),
        ("<enriched>", [vendor for vendor in vendors if vendor in ENRICHED]),
        ("<type>", RESOURCE_TYPES),
        ("<group>", (settings.group,)),
    ):
        if placeholder in pattern:
            yield from (pattern.replace(placeholder, value) for value in values)
            return
    yield pattern


def table() -> str:
    """The table of docs/security.md, in Markdown."""
    rows = [
        f"| {each.process} | {each.resource} `{each.pattern}` | {', '.join(each.operations)} | {each.reason} |"
        for each in PRIVILEGES
    ]
    return "\n".join(("| process | on | may | for |", "|---|---|---|---|", *rows))
