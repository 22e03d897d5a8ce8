"""The least privileges of each process on a cluster with ACLs, in Kafka's words for resources and operations.

docs/security.md shows this table. tests/streams/kafka/test_security.py and test_operator_privileges.py run each process
with exactly these privileges. Write and Read imply Describe. An idempotent producer needs no further privilege on Kafka
2.8 and later (KIP-679); older clusters also require IdempotentWrite on the cluster.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from fhirline.config.settings import Settings
from fhirline.config.vendors import load_vendors
from fhirline.topics.declared import (
    BUNDLE,
    CONTRIBUTIONS,
    DEAD_LETTER_STATUS,
    DELIVERED,
    DELIVERED_SHARED,
    DELIVERY_LETTERS,
    ENRICHED,
    ERASED,
    KEYS,
    OUTCOME,
    RESOURCE_TYPES,
    declared,
)
from fhirline.topics.tables_group import shared_tables_group

ResourceType = Literal["Topic", "Group"]

RAW, ENRICHED_RAW, LETTERS = "raw.<vendor>", "raw.<enriched>.enriched", "dead-letter.<vendor>"
STATE, ENRICHED_STATE = "normalizer.state.<vendor>", "normalizer.state.<enriched>.enriched"
CANONICAL = "fhir.r4.<type>"
EVERY = "<every declared topic>"
SHARED_TABLES = "<group>.tables.<database>"


@dataclass(frozen=True, slots=True)
class Privilege:
    """The operations of a process on all resources that ``pattern`` names.

    In a pattern, ``<vendor>`` is each vendor of vendors.yaml, ``<enriched>`` each vendor with an enrichment, ``<type>``
    each resource type, ``<group>`` is ``FHIRLINE_GROUP``, and ``<group>.tables.<database>`` the group of the processes
    that keep tables in the PostgreSQL database that is set.
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
    Privilege("gateway", "Topic", RAW, ("Write",), "one record per webhook"),
    Privilege("gateway", "Topic", KEYS, ("Write",), "data keys of the patients whose webhooks it encrypts"),
    Privilege("ingest", "Topic", RAW, ("Write",), "one record per line; only for the vendors it is used with"),
    Privilege("ingest", "Topic", KEYS, ("Write",), "the same"),
    Privilege("worker", "Topic", EVERY, ("Describe",), "refuses to start where a topic is missing"),
    Privilege("worker", "Group", "<group>", ("Read",), "membership, commits"),
    Privilege(
        "worker", "Group", "<group>.state", ("Describe",), "librdkafka looks up its coordinator; nothing is committed"
    ),
    Privilege("worker", "Group", "<group>.scan", ("Describe",), "the same"),
    Privilege("worker", "Topic", ERASED, ("Read",), "erased patients, whose events are not mapped"),
    Privilege("worker", "Topic", KEYS, ("Read",), "data keys of encrypted events, dead letters and state"),
    Privilege("worker", "Topic", RAW, ("Read",), "events"),
    Privilege("worker", "Topic", ENRICHED_RAW, ("Read",), "events"),
    Privilege("worker", "Topic", STATE, ("Read", "Write"), "state entries of folds"),
    Privilege("worker", "Topic", ENRICHED_STATE, ("Read", "Write"), "state entries of folds"),
    Privilege("worker", "Topic", CONTRIBUTIONS, ("Read", "Write"), "what raw partitions contribute to Practitioners"),
    Privilege("worker", "Topic", CANONICAL, ("Write",), "resources"),
    Privilege("worker", "Topic", BUNDLE, ("Write",), "Bundles"),
    Privilege("worker", "Topic", OUTCOME, ("Write",), "OperationOutcomes"),
    Privilege("worker", "Topic", LETTERS, ("Write",), "events that could not be mapped"),
    Privilege("enrich", "Topic", EVERY, ("Describe",), "refuses to start where a topic is missing"),
    Privilege("enrich", "Group", "<group>.enrich", ("Read",), "membership, commits"),
    Privilege("enrich", "Group", "<group>.scan", ("Describe",), "librdkafka looks up its coordinator"),
    Privilege("enrich", "Topic", ERASED, ("Read",), "erased patients, whose events are not completed"),
    Privilege("enrich", "Topic", KEYS, ("Read", "Write"), "data keys of thin events; Write: of completed events"),
    Privilege("enrich", "Topic", "raw.<enriched>", ("Read",), "thin events"),
    Privilege("enrich", "Topic", ENRICHED_RAW, ("Write",), "completed events"),
    Privilege("enrich", "Topic", "dead-letter.<enriched>", ("Write",), "surveys that could not be fetched"),
    Privilege("deliver", "Topic", EVERY, ("Describe",), "refuses to start where a topic is missing"),
    Privilege("deliver", "Group", "<group>.deliver", ("Read",), "membership, commits"),
    Privilege("deliver", "Group", "<group>", ("Describe",), "--from topics: what the workers have finished"),
    Privilege("deliver", "Group", "<group>.scan", ("Describe",), "librdkafka looks up its coordinator"),
    Privilege("deliver", "Topic", ERASED, ("Read",), "erased patients, whose Bundles are not sent"),
    Privilege("deliver", "Topic", BUNDLE, ("Read",), "Bundles"),
    Privilege("deliver", "Topic", CANONICAL, ("Read",), "shared resources; what a server misses; what waited"),
    Privilege("deliver", "Topic", DELIVERED, ("Read", "Write"), "what was sent, what waits"),
    Privilege("deliver", "Topic", DELIVERED_SHARED, ("Read", "Write"), "what was sent of shared resources"),
    Privilege("deliver", "Topic", DELIVERY_LETTERS, ("Write",), "Bundles that the FHIR server refused"),
    Privilege("tables", "Topic", EVERY, ("Describe",), "refuses to start where a topic is missing"),
    Privilege(
        "tables",
        "Group",
        "<group>.tables",
        ("Describe",),
        "DuckDB, --once: librdkafka looks up its coordinator; nothing is committed",
    ),
    Privilege("tables", "Group", SHARED_TABLES, ("Read",), "PostgreSQL: membership; nothing is committed"),
    Privilege("tables", "Group", "<group>.scan", ("Describe",), "the same, for rebuilds"),
    Privilege("tables", "Topic", CANONICAL, ("Read",), "resources"),
    Privilege("tables", "Topic", OUTCOME, ("Read",), "OperationOutcomes, for the flags of events"),
    Privilege("consumer", "Topic", CANONICAL, ("Read",), "a warehouse; it also needs Read on its own group"),
    Privilege("consumer", "Topic", BUNDLE, ("Read",), "an EHR; it also needs Read on its own group"),
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
    Privilege("operator", "Topic", DEAD_LETTER_STATUS, ("Read", "Write"), "status of dead letters"),
    Privilege(
        "operator", "Topic", CANONICAL, ("Read", "Write"), "trace, replay, forget; Write: replay's output, tombstones"
    ),
    Privilege("operator", "Topic", BUNDLE, ("Read", "Write"), "trace, forget; Write: replay's and DELETE Bundles"),
    Privilege(
        "operator",
        "Topic",
        OUTCOME,
        ("Read", "Write"),
        "trace, forget; Write: null values from forget, replay --outcomes",
    ),
    Privilege("operator", "Topic", STATE, ("Read", "Write"), "replay, forget"),
    Privilege("operator", "Topic", ENRICHED_STATE, ("Read", "Write"), "replay, forget"),
    Privilege("operator", "Topic", CONTRIBUTIONS, ("Read", "Write"), "replay"),
    Privilege("operator", "Topic", ERASED, ("Read", "Write"), "forget; Read: replay, redriven letters"),
    Privilege(
        "operator",
        "Topic",
        KEYS,
        ("Read", "Write"),
        "readers of events, dead letters or state; Write: redriven letters, forget, keys rewrap and give-up",
    ),
    Privilege(
        "operator", "Topic", DELIVERED, ("Read", "Write"), "deliver waiting, verify, forget; Write: deliver resume"
    ),
    Privilege("operator", "Topic", DELIVERED_SHARED, ("Read",), "deliver verify"),
    Privilege("operator", "Topic", DELIVERY_LETTERS, ("Read",), "deliver waiting"),
    Privilege("operator", "Group", "<group>.scan", ("Describe",), "librdkafka looks up its coordinator"),
    Privilege(
        "operator", "Group", "<group>.state", ("Describe",), "replay of a range: state entries of the other events"
    ),
    Privilege("operator", "Group", "<group>", ("Describe",), "lag of the workers"),
    Privilege("operator", "Group", "<group>.enrich", ("Describe",), "lag of the enrichment"),
    Privilege("operator", "Group", "<group>.deliver", ("Describe",), "lag of the delivery"),
    Privilege("encrypt-existing", "Topic", EVERY, ("Describe",), "refuses to begin where a topic is missing"),
    Privilege("encrypt-existing", "Topic", RAW, ("Read", "Write", "Delete"), "copies; Delete: what was copied"),
    Privilege("encrypt-existing", "Topic", ENRICHED_RAW, ("Read", "Write", "Delete"), "the same"),
    Privilege("encrypt-existing", "Topic", LETTERS, ("Read", "Write", "Delete"), "the same"),
    Privilege("encrypt-existing", "Topic", STATE, ("Read", "Write"), "encrypted entries instead of plain ones"),
    Privilege("encrypt-existing", "Topic", ENRICHED_STATE, ("Read", "Write"), "the same"),
    Privilege("encrypt-existing", "Topic", KEYS, ("Read", "Write"), "data keys of the patients"),
    Privilege("encrypt-existing", "Topic", DEAD_LETTER_STATUS, ("Read", "Write"), "status under the copies' positions"),
    Privilege("encrypt-existing", "Topic", ERASED, ("Read",), "erased patients, of whom nothing is copied"),
    Privilege("encrypt-existing", "Group", "<group>.scan", ("Describe",), "librdkafka looks up its coordinator"),
    Privilege("encrypt-existing", "Group", "<group>", ("Describe",), "what the workers have read"),
    Privilege("encrypt-existing", "Group", "<group>.enrich", ("Describe",), "what the enrichment has read"),
)

IMPLIED_BY = {"Describe": ("Read", "Write", "Alter"), "DescribeConfigs": ("AlterConfigs",)}
"""Operation → the operations that imply it, by Kafka's own rule."""

PROCESSES = tuple(dict.fromkeys(privilege.process for privilege in PRIVILEGES))


@dataclass(frozen=True, slots=True)
class Grant:
    """One ACL that allows ``operation`` on the resource of exactly this name."""

    resource: ResourceType
    name: str
    operation: str


def grants(process: str, settings: Settings) -> tuple[Grant, ...]:
    """Return every ACL that a process needs in this deployment, each once, without those that another one implies."""
    named = dict.fromkeys(
        Grant(privilege.resource, name, operation)
        for privilege in PRIVILEGES
        if privilege.process == process
        for name in _names(privilege.pattern, settings)
        for operation in privilege.operations
    )
    return tuple(
        grant
        for grant in named
        if not any(replace(grant, operation=other) in named for other in IMPLIED_BY.get(grant.operation, ()))
    )


def _names(pattern: str, settings: Settings) -> Iterator[str]:
    vendors = settings.vendors or load_vendors(settings.vendors_file).names
    if pattern == EVERY:
        yield from (topic.name for topic in declared(settings))
        return
    if pattern == SHARED_TABLES:
        yield from filter(None, [shared_tables_group(settings)])
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
    """Write the table of docs/security.md, in Markdown."""
    rows = [
        f"| {row.process} | {row.resource} `{row.pattern}` | {', '.join(row.operations)} | {row.reason} |"
        for row in PRIVILEGES
    ]
    return "\n".join(("| process | on | may | for |", "|---|---|---|---|", *rows))
