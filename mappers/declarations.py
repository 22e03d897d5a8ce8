"""Declarations of what outputs contain beyond R4: our extensions, code systems and kinds of identifiers.

The mapping uses these objects to write an extension's URL or a Coding's system (`mappers.context`), and
`mappers.conformance` makes FHIR definitions of the same objects, so that nothing is emitted that has no definition. A
vendor's own ones are in ``mappers/<vendor>/declarations.py`` and listed in its `VendorMapping`. Texts are for
integrators who read the published definitions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Concept:
    """A code of one of our code systems. ``display`` is the text that the mapping emits, if it emits one."""

    code: str
    display: str
    definition: str


@dataclass(frozen=True, slots=True)
class CodeSystem:
    """A code system of ours, ``BASE/CodeSystem/<name>``.

    ``concepts`` are its codes. They are the rows' ``means.code`` where ``table`` names a code table. Where both are
    absent, `mappers.conformance.code_systems` makes them of the registry and the flags, or, if it is ``open``, the
    vendor decides the codes, and only the vendor can list them.
    """

    name: str
    title: str
    description: str
    concepts: tuple[Concept, ...] = ()
    table: str | None = None
    open: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """A sub-extension of a complex extension."""

    name: str
    type: Literal["string", "code"]
    definition: str
    required: bool = True
    codes: CodeSystem | None = None


@dataclass(frozen=True, slots=True)
class Extension:
    """An extension of ours, ``BASE/StructureDefinition/<name>`` (mapping.md §5.2).

    ``contexts`` are the elements on which it may be, as FHIR paths; ``Element`` is any element. It has either a
    ``value`` of one type or ``parts``. ``codes``: the code system that its value is from. ``repeats``: more than one
    may be on an element.
    """

    name: str
    title: str
    definition: str
    contexts: tuple[str, ...]
    value: Literal["string", "code"] | None = None
    codes: CodeSystem | None = None
    parts: tuple[Part, ...] = ()
    repeats: bool = False


# Code systems of all vendors (mapping.md §5.1, §5.2)

VENDOR = CodeSystem("vendor", "Vendors", "The vendor whose webhook a resource was made from (meta.tag).")
EVENT_TYPE = CodeSystem(
    "event-type",
    "Event types",
    "The type of the webhook that a resource was made from, as its vendor names it (meta.tag).",
)
DATA_QUALITY = CodeSystem(
    "data-quality",
    "Data-quality flags",
    "Remarks of the mapping on a resource (meta.tag) or on an event (OperationOutcome.issue.details).",
)
VALUE_BASIS = CodeSystem(
    "value-basis",
    "Basis of a value",
    "The reason why an element has a value that the vendor did not send for it (extension value-basis).",
    (
        Concept("event-time", "Event time", "The time of the webhook's event is used."),
        Concept("config", "Configuration", "The value depends on a setting of the tenant, such as its time zone."),
        Concept("default", "Default", "The mapping's specification states the value; the vendor sent none."),
    ),
)

CODE_SYSTEMS = (DATA_QUALITY, EVENT_TYPE, VALUE_BASIS, VENDOR)

# Extensions (mapping.md §5.2)

_PATH = Part("path", "string", "JSON Pointer (RFC 6901) of the value in the vendor's body, after redaction.")
_VALUE = Part("value", "string", "The value as sent; JSON if it is not a text.")
_ISSUE = Part("issue", "code", "The flag that tells why the value was not used.", required=False, codes=DATA_QUALITY)

SOURCE_VALUE = Extension(
    "source-value",
    "Source value",
    "What the vendor sent for the element that has this extension, where the element's value differs from it.",
    ("Element",),
    parts=(_PATH, _VALUE, _ISSUE),
    repeats=True,
)
SOURCE_DATA = Extension(
    "source-data",
    "Source data",
    "A value of the vendor's body for which FHIR has no element.",
    (
        "Appointment",
        "DocumentReference",
        "Encounter",
        "EpisodeOfCare",
        "MedicationRequest",
        "Provenance",
        "RiskAssessment.prediction",
    ),
    parts=(_PATH, _VALUE, _ISSUE),
    repeats=True,
)
VALUE_BASIS_EXTENSION = Extension(
    "value-basis",
    "Basis of a value",
    "The reason why the element has a value that the vendor did not send for it.",
    ("Element",),
    value="code",
    codes=VALUE_BASIS,
)
CONTENT_FINGERPRINT = Extension(
    "content-fingerprint",
    "Content fingerprint",
    "SHA-256, in hex digits, of the content of a vendor's report in canonical form. Reports of equal content have "
    "equal fingerprints, whatever their ids.",
    ("Composition",),
    value="string",
)
VENDOR_STATUS = Extension(
    "vendor-status",
    "Vendor status",
    "The vendor's own status, as sent.",
    ("Appointment", "Encounter"),
    value="string",
)

EXTENSIONS = (CONTENT_FINGERPRINT, SOURCE_DATA, SOURCE_VALUE, VALUE_BASIS_EXTENSION, VENDOR_STATUS)

# Kinds of identifiers of all vendors: ``BASE/sid/<vendor>/<tenant>/<kind>`` (mapping.md §4.2)

IDENTIFIERS: Mapping[str, str] = {
    "erased": "Names an erased patient by a keyed hash, on the Provenance of the erasure alone",
    "raw-event": "SHA-256 of the redacted body of a webhook: the event key",
    "vendor": "Name of the vendor in fhirline",
}
"""Kind → what an identifier of the kind identifies."""

IDENTIFIERS_DATE = "2026-11-26"
"""Date of the last change of any kind of identifiers, a vendor's included: R4 requires a NamingSystem.date."""
