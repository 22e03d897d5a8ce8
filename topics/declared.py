"""The declaration of every topic: partitions, cleanup, retention, and the contract of its key (docs/contracts.md).

Raw, state, ``fold.practitioner`` and ``fhir.r4.*`` topics have the same partition count, ``FHIRLINE_PARTITIONS``: equal
partition numbers hold the same patients. It never changes, because another count would separate a key from its earlier
records.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from fhirline.config.settings import Settings
from fhirline.config.vendors import load_vendors

BUNDLE = "fhir.r4.bundle"
OUTCOME = "normalizer.outcome"
CONTRIBUTIONS = "fold.practitioner"
"""The contributions of each raw partition to each Practitioner (mapping.md §3.2)."""

DEAD_LETTER_STATUS = "normalizer.dead-letter-status"
ERASED = "normalizer.erased"
KEYS = "normalizer.keys"
"""The data keys that patients' events are encrypted with, each wrapped by a key-encryption key (docs/encryption.md)."""

DELIVERED = "normalizer.delivered"
DELIVERED_SHARED = "normalizer.delivered.shared"
DELIVERY_LETTERS = "delivery.dead-letter"

RESOURCE_TYPES = (
    "Organization",
    "Device",
    "Practitioner",
    "Medication",
    "Patient",
    "Coverage",
    "EpisodeOfCare",
    "CareTeam",
    "Appointment",
    "Encounter",
    "AllergyIntolerance",
    "AuditEvent",
    "CarePlan",
    "Condition",
    "DocumentReference",
    "MedicationRequest",
    "MedicationStatement",
    "Observation",
    "QuestionnaireResponse",
    "RiskAssessment",
    "Schedule",
    "ServiceRequest",
    "Slot",
    "List",
    "Composition",
    "Communication",
    "Task",
    "Provenance",
)
"""The resource types that mappings make, in the order of a Bundle's entries (mapping.md §3.1)."""

PATIENTLESS_TYPES = frozenset({"Practitioner", "Organization", "Device", "Medication", "Schedule", "Slot"})
"""Resource types that belong to no patient. They are partitioned by their own key (mapping.md §2)."""

SHARED_TYPES = frozenset({"Practitioner"})
"""Resource types that events of several raw partitions make together. The worker of a raw partition writes none."""

ENRICHED = ("infermedica",)
"""Vendors whose thin events are completed by ``fhirline enrich`` before they are mapped (mapping.md §10, stage B)."""

Cleanup = Literal["delete", "compact"]
FOREVER = -1
"""``retention.ms`` of records that nothing can restore: raw events, and dead letters until they are redriven."""

DAY = 24 * 3_600_000
MONTH = 30 * DAY
"""``retention.ms`` of Bundles and outcomes, which a replay of raw makes again."""

RAW_KEY = "tenant|patient key"
PATIENT = "partition by vendor|tenant|patient key"
OWN = "partition by the key"


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. ``retention`` is in milliseconds. ``growable``: partitions may be added, as keys are not looked up."""

    name: str
    partitions: int
    replication_factor: int
    cleanup: Cleanup
    max_message_bytes: int
    key: str
    description: str
    retention: int | None = None
    growable: bool = False
    compaction_lag: int | None = None
    """Milliseconds until compaction removes a replaced value. Without a limit it waits for enough new records."""

    @property
    def config(self) -> Mapping[str, str]:
        """Return the topic's configuration, by Kafka's names. The cluster's defaults apply to all other settings."""
        own = {"cleanup.policy": self.cleanup, "max.message.bytes": str(self.max_message_bytes)}
        if self.retention is not None:
            own["retention.ms"] = str(self.retention)
        if self.compaction_lag is not None:
            own["max.compaction.lag.ms"] = str(self.compaction_lag)
        return own


def raw_topic(vendor: str) -> str:
    return f"raw.{vendor}"


def enriched_topic(vendor: str) -> str:
    return f"raw.{vendor}.enriched"


def canonical_topic(resource_type: str) -> str:
    return f"fhir.r4.{resource_type}"


STATE_PREFIX = "normalizer.state."


def state_topic(vendor: str, enriched: bool = False) -> str:
    """Return the name of a vendor's state topic. Enriched events have their own: a state partition has one writer."""
    return f"{STATE_PREFIX}{vendor}.enriched" if enriched else f"{STATE_PREFIX}{vendor}"


def dead_letter_topic(vendor: str) -> str:
    return f"dead-letter.{vendor}"


def vendor_of(topic: str) -> str:
    """Return the vendor of a raw, an enriched or a dead-letter topic."""
    return topic.split(".", 2)[1]


def _milliseconds(days: int | None) -> int:
    """Convert a retention of ``vendors.yaml`` to ``retention.ms``."""
    return FOREVER if days is None else days * DAY


def _kept(days: int | None) -> str:
    return "retained indefinitely" if days is None else f"retained for {days} days"


def declared(settings: Settings) -> tuple[Topic, ...]:
    """Return every topic of a deployment with these settings."""

    configured = load_vendors(settings.vendors_file)
    vendors = configured.names

    def topic(
        name: str,
        cleanup: Cleanup,
        key: str,
        description: str,
        *,
        partitions: int = settings.partitions,
        retention: int | None = None,
        growable: bool = False,
    ) -> Topic:
        return Topic(
            name,
            partitions,
            settings.replication_factor,
            cleanup,
            settings.message_max_bytes,
            key,
            description,
            retention,
            growable,
            settings.compaction_days * DAY if cleanup == "compact" else None,
        )

    def raw(name: str, vendor: str, description: str) -> Topic:
        days = configured[vendor].retention.raw_days
        return topic(name, "delete", RAW_KEY, f"{description}; {_kept(days)}", retention=_milliseconds(days))

    return (
        *(raw(raw_topic(vendor), vendor, f"{vendor}'s events as received, redacted") for vendor in vendors),
        *(
            raw(enriched_topic(vendor), vendor, f"{vendor}'s thin events, completed with data from its API")
            for vendor in vendors
            if vendor in ENRICHED
        ),
        *(
            topic(
                canonical_topic(resource_type),
                "compact",
                f"{resource_type}/id; {OWN if resource_type in PATIENTLESS_TYPES else PATIENT}",
                f"the latest {resource_type} of each id",
            )
            for resource_type in RESOURCE_TYPES
        ),
        topic(BUNDLE, "delete", f"Bundle/id; {PATIENT}", "one transaction Bundle per event", retention=MONTH),
        topic(
            OUTCOME,
            "delete",
            f"OperationOutcome/id; {PATIENT}",
            "one OperationOutcome per event with flags, unmapped leaves or refused resources; paths, never values",
            retention=MONTH,
            growable=True,
        ),
        *(
            topic(
                dead_letter_topic(vendor),
                "delete",
                f"the raw record's key: {RAW_KEY}",
                f"{vendor}'s events that could not be mapped; {_kept(configured[vendor].retention.dead_letter_days)}",
                retention=_milliseconds(configured[vendor].retention.dead_letter_days),
                growable=True,
            )
            for vendor in vendors
        ),
        *(
            topic(
                state_topic(vendor),
                "compact",
                "raw key, subject, entry name; partition of the raw record",
                f"internal: state entries of {vendor}'s events",
            )
            for vendor in vendors
        ),
        *(
            topic(
                state_topic(vendor, enriched=True),
                "compact",
                "raw key, subject, entry name; partition of the enriched record",
                f"internal: state entries of {vendor}'s enriched events",
            )
            for vendor in vendors
            if vendor in ENRICHED
        ),
        topic(
            CONTRIBUTIONS,
            "compact",
            "vendor|tenant, Practitioner/id, topic/partition of the raw records; partition by Practitioner/id",
            "internal: what each raw partition's events contribute to each Practitioner",
        ),
        topic(
            DEAD_LETTER_STATUS,
            "compact",
            "topic/partition/offset of the raw record that was mapped first",
            "internal: which dead letters were redriven, and which are done",
            partitions=1,
        ),
        topic(
            ERASED,
            "compact",
            "keyed hash of the patient key",
            "internal: patients whose data was erased",
            partitions=1,
        ),
        topic(
            KEYS,
            "compact",
            "keyed hash of the patient key / number of the data key; partition of the raw record",
            "internal: wrapped data keys of encrypted events, and which of them are destroyed",
        ),
        topic(
            DELIVERED,
            "compact",
            "Type/id, or waiting/offset, or resume/Patient/id; partition of the Bundle",
            "internal: what was sent to the FHIR server, and which Bundles wait",
        ),
        topic(
            DELIVERED_SHARED,
            "compact",
            "Type/id",
            "internal: what was sent of the resources that many patients share",
            partitions=1,
        ),
        topic(
            DELIVERY_LETTERS,
            "delete",
            "the Bundle's key: Bundle/id; partition of the Bundle",
            "Bundles that the FHIR server refused; retained indefinitely",
            retention=FOREVER,
        ),
    )
