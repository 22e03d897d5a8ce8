"""The records of `fhirline deliver` as JSON Schema (draft 7): what was sent, what waits, and what was refused."""

from fhirline.topics.headers import COORDINATES, DELIVERY_LETTER
from fhirline.topics.message import NO_HEADERS, Message, text

SENT = Message(
    "SentResource",
    "the version of a resource that the FHIR server was last sent",
    text(r"^[A-Z][A-Za-z]+/[^/]+$", "the resource's type and id"),
    NO_HEADERS,
    {
        "type": ["object", "null"],
        "required": ["offset", "digest"],
        "properties": {
            "offset": {
                "type": "integer",
                "description": "offset of the Bundle that the version was sent for; after a first fill that of the "
                "first later Bundle; 0 for a shared resource",
            },
            "digest": {"type": "string", "pattern": "^([0-9a-f]{32}|deleted)$"},
        },
    },
)
WAITING = Message(
    "WaitingBundle",
    "a Bundle that waits until an operator resumes its patient; null: no longer",
    text(
        r"^waiting/([0-9]+|topics/.+)$",
        "the Bundle's offset, in the same partition; for a fill, topics/ and Type/id of the patient or resource",
    ),
    NO_HEADERS,
    {
        "type": ["object", "null"],
        "required": ["patients", "keys", "code", "refused"],
        "properties": {
            "patients": {"type": "array", "items": {"type": "string"}},
            "keys": {"type": "array", "items": {"type": "string"}, "description": "the resources of the Bundle"},
            "code": {"type": "string"},
            "refused": {"type": "boolean", "description": "false: the Bundle waits behind one that was refused"},
            "offset": {"type": "integer", "description": "for a fill only: offset of the first later Bundle"},
        },
    },
)
RESUME_ORDER = Message(
    "ResumeOrder",
    "an operator's order to send what waits for a patient; null: done",
    text(r"^resume/.+$", "the patient"),
    NO_HEADERS,
    {"type": ["object", "null"], "properties": {"at": {"type": "string"}}},
)
DELIVERY_LETTER_MESSAGE = Message(
    "DeliveryLetter",
    "a Bundle that the FHIR server refused: its status, codes and places, none of its content",
    text("^.+$", "the Bundle's key; Patient/id where a resumption or a fill was refused"),
    DELIVERY_LETTER,
    {
        "type": "object",
        "properties": {
            "bundle": {"type": "string", "pattern": COORDINATES},
            "status": {"type": "integer"},
            "issues": {"type": "array", "items": {"type": "object", "required": ["severity", "code", "places"]}},
            "serverCodes": {"type": "array", "items": {"type": "string"}},
            "referring": {"type": "array", "items": {"type": "string"}},
            "resources": {"type": "array", "items": {"type": "string"}},
        },
    },
)
