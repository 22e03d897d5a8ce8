"""The records of each topic as JSON Schema (draft 7): key, headers and value.

This is the contract of docs/contracts.md for programs. `topics.asyncapi` generates a document of it, and
tests/topics/test_asyncapi.py validates every record of a real worker with it. A schema states only what a reader may
rely on; for the content of FHIR resources it names FHIR's own schema.
"""

from collections.abc import Mapping
from typing import Any

from fhirline.config.vendors import SLUG
from fhirline.topics import examples as synthetic
from fhirline.topics.declared import (
    BUNDLE,
    CONTRIBUTIONS,
    DEAD_LETTER_STATUS,
    DELIVERED,
    DELIVERED_SHARED,
    DELIVERY_LETTERS,
    ERASED,
    KEYS,
    OUTCOME,
    RESOURCE_TYPES,
    canonical_topic,
)
from fhirline.topics.delivery_messages import DELIVERY_LETTER_MESSAGE, RESUME_ORDER, SENT, WAITING
from fhirline.topics.encrypted_messages import (
    COPIED_PARTITION,
    DATA_KEY,
    DESTROYED_KEY,
    ENCRYPTED_EVENT,
    ENCRYPTED_LETTER,
    ENCRYPTED_STATE_ENTRY,
)
from fhirline.topics.headers import (
    CANONICAL_RECORD,
    COORDINATES,
    DEAD_LETTER,
    DIGEST,
    RAW_RECORD,
)
from fhirline.topics.headers import STATE as STATE_HEADERS
from fhirline.topics.message import NO_HEADERS, Message, Schema, text

FHIR_JSON = "application/fhir+json"
FHIR = "https://hl7.org/fhir/R4"
UUID = "[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


def messages(topic: str) -> tuple[Message, ...]:
    """Return the kinds of records of a declared topic; raise LookupError for a topic without a description."""
    if topic in _BY_TOPIC:
        return _BY_TOPIC[topic]
    for prefix, found in _BY_PREFIX.items():
        if topic.startswith(prefix):
            return found
    raise LookupError(f"{topic}: describe its records in topics/messages.py")


def _resource(resource_type: str, **more: Any) -> Schema:
    """Make the schema of a resource: only what fhirline guarantees beyond FHIR."""
    return {
        "type": "object",
        "description": f"FHIR R4 {resource_type}",
        "externalDocs": {"url": f"{FHIR}/{resource_type.lower()}.html"},
        "x-fhir-schema": f"{FHIR}/fhir.schema.json#/definitions/{resource_type}",
        "required": ["resourceType", "id", "meta", *more],
        "properties": {
            "resourceType": {"const": resource_type},
            "id": {"type": "string", "pattern": f"^{UUID}$"},
            "meta": {"type": "object"},
            **more,
        },
    }


def _canonical(resource_type: str, summary: str, **more: Any) -> Message:
    return Message(
        resource_type,
        summary,
        text(f"^{resource_type}/{UUID}$", "the resource's type and id"),
        CANONICAL_RECORD,
        _resource(resource_type, **more),
        FHIR_JSON,
        (synthetic.PATIENT,) if resource_type == "Patient" else (),
    )


PATIENT_KEY = r"[^|]+"
RAW_KEY = text(
    f"{SLUG.rstrip('$')}\\|{PATIENT_KEY}$",
    "tenant|patient key: the vendor's own key of the patient, escaped; event/<event-key> where the event names no "
    "patient. Other producers may use other keys",
)

RAW_EVENT = Message(
    "RawEvent",
    "a vendor's event as received, after redaction",
    RAW_KEY,
    RAW_RECORD,
    {"type": "object", "description": "the vendor's JSON object; the vendor defines its fields"},
    examples=(synthetic.RAW_EVENT,),
)
TOMBSTONE = Message(
    "Tombstone",
    "the resource no longer exists: delete it",
    text(f"^[A-Z][A-Za-z]+/{UUID}$", "type and id of the deleted resource"),
    CANONICAL_RECORD,
    {"type": "null"},
)
OUTCOME_TOMBSTONE = Message(
    "OutcomeTombstone",
    "the event's patient was erased, or a replay found the event to have none: delete the OperationOutcome",
    text(f"^OperationOutcome/{UUID}$", "type and id of the deleted OperationOutcome"),
    CANONICAL_RECORD,
    {"type": "null"},
)
DEAD_LETTER_MESSAGE = Message(
    "DeadLetter",
    "an event that could not be mapped, or not completely",
    text("^.+$", "the raw record's key; tenant|record/<partition>/<offset> where it has none"),
    DEAD_LETTER,
    {
        "description": "the raw record's redacted value, a JSON object or list; null where the value is neither or "
        "cannot be read, and where it is too large for Kafka"
    },
)
_ENTRY_OF_STATE: Schema = {
    "type": "object",
    "required": ["s", "v"],
    "properties": {
        "s": {
            "type": "array",
            "description": "version: UNIX seconds, digits of the fraction, event key, the instant as text",
            "items": [{"type": "integer"}, {"type": "string"}, {"type": "string"}, {"type": "string"}],
            "minItems": 4,
            "additionalItems": False,
        },
        "v": {"description": "the entry's value; its form depends on the entry"},
    },
}
STATE = Message(
    "StateEntry",
    "a value that is kept between events; the one of the greatest version stays",
    text(r'^\[".*",".*",".*"\]$', "JSON array: raw key (empty for a Practitioner), subject, entry name"),
    STATE_HEADERS,
    {**_ENTRY_OF_STATE, "type": ["object", "null"], "description": "null: erased, or moved (header moved-to)"},
)
CONTRIBUTION = Message(
    "PractitionerContribution",
    "the state entries that the events of one raw partition have of one Practitioner",
    text(
        rf'^\["[^"|]+\|[^"|]+","Practitioner/{UUID}","[a-zA-Z0-9._-]+/[0-9]+"\]$',
        "JSON array: vendor|tenant, Practitioner/id, topic/partition of the raw records. It contains no patient key",
    ),
    CANONICAL_RECORD,
    {
        "type": "object",
        "description": "entry name → entry",
        "minProperties": 1,
        "additionalProperties": _ENTRY_OF_STATE,
    },
)
TOMBSTONE_OF_CONTRIBUTION = Message(
    "NoContribution",
    "no event of that raw partition names the Practitioner any more, as a replay of all events found",
    CONTRIBUTION.key,
    NO_HEADERS,
    {"type": "null"},
)
LETTER_STATUS = Message(
    "DeadLetterStatus",
    "the status of an event that became a dead letter",
    text(COORDINATES, "position of the raw record that was mapped first"),
    NO_HEADERS,
    {
        "type": ["object", "null"],
        "required": ["status", "attempts", "redriven", "letter", "idempotencyKey", "mappingVersion"],
        "properties": {
            "status": {"enum": ["open", "redriven", "failed-again", "done"]},
            "attempts": {"type": "integer", "minimum": 1},
            "redriven": {"type": ["string", "null"], "pattern": COORDINATES},
            "letter": {"type": "string", "pattern": COORDINATES},
            "idempotencyKey": {"type": "string"},
            "mappingVersion": {"type": "string"},
        },
    },
)
BLOCK = Message(
    "ErasedPatient",
    "a patient whose data was erased and whose events are not mapped",
    text(DIGEST, "HMAC-SHA-256 of the patient's key with FHIRLINE_ERASURE_KEY"),
    NO_HEADERS,
    {
        "type": ["object", "null"],
        "description": "null: the patient's events are mapped again",
        "required": ["check", "at"],
        "properties": {
            "check": {"type": "string"},
            "at": {"type": "string"},
            "of": {
                "type": "string",
                "pattern": DIGEST,
                "description": "for another key of the patient, such as a survey's: the patient's own record key",
            },
        },
    },
)
_ENTRY: Schema = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["request"],
        "properties": {
            "request": {"type": "object", "properties": {"method": {"enum": ["PUT", "DELETE"]}}, "required": ["method"]}
        },
    },
}

_BY_TOPIC: Mapping[str, tuple[Message, ...]] = {
    **{
        canonical_topic(name): (_canonical(name, f"the latest {name} of its id: upsert by key"), TOMBSTONE)
        for name in RESOURCE_TYPES
    },
    BUNDLE: (
        _canonical(
            "Bundle",
            "all resources of one event, as one transaction for a FHIR server",
            type={"const": "transaction"},
            entry=_ENTRY,
        ),
    ),
    OUTCOME: (
        _canonical(
            "OperationOutcome",
            "flags, unmapped leaves and refused resources of one event; paths, never values",
            issue={"type": "array", "minItems": 1},
        ),
        OUTCOME_TOMBSTONE,
    ),
    CONTRIBUTIONS: (CONTRIBUTION, TOMBSTONE_OF_CONTRIBUTION),
    DEAD_LETTER_STATUS: (LETTER_STATUS,),
    ERASED: (BLOCK,),
    KEYS: (DATA_KEY, DESTROYED_KEY, COPIED_PARTITION),
    DELIVERED: (SENT, WAITING, RESUME_ORDER),
    DELIVERED_SHARED: (SENT,),
    DELIVERY_LETTERS: (DELIVERY_LETTER_MESSAGE,),
}
_BY_PREFIX: Mapping[str, tuple[Message, ...]] = {
    "raw.": (RAW_EVENT, ENCRYPTED_EVENT),
    "dead-letter.": (DEAD_LETTER_MESSAGE, ENCRYPTED_LETTER),
    "normalizer.state.": (STATE, ENCRYPTED_STATE_ENTRY),
}
