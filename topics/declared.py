"""Every topic, declared once: partitions, cleanup, and the contract of its key (docs/contracts.md).

Topics whose records belong together by partition number (raw, state, ``fhir.r4.*``) have one number of partitions,
``FHIRLINE_PARTITIONS``, for good: another number would send a key elsewhere than its earlier records.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from fhirline.config.settings import Settings
from fhirline.config.vendors import load_vendors

BUNDLE = "fhir.r4.bundle"
OUTCOME = "normalizer.outcome"
DEAD_LETTER_STATUS = "normalizer.dead-letter-status"
ERASED = "normalizer.erased"

RESOURCE_TYPES = (
    "Organization",
    "Device",
    "Practitioner",
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
"""Every type that a mapping makes, in the order of a Bundle's entries (mapping.md §3.1)."""

PATIENTLESS_TYPES = frozenset({"Practitioner", "Organization", "Device", "Schedule", "Slot"})
"""Types that belong to no patient (mapping.md §2)."""

ENRICHED = ("infermedica",)
"""Vendors with a stage that completes thin events before they are mapped (mapping.md §10, stage B)."""

Cleanup = Literal["delete", "compact"]
FOREVER = -1
"""``retention.ms`` of what nothing can bring back: raw is the source of truth, a dead letter waits for its mender."""

DAY = 24 * 3_600_000
MONTH = 30 * DAY
"""``retention.ms`` of messages about one event at one time: a replay of raw makes them again."""

RAW_KEY = "tenant|patient key"
PATIENT = "partition by vendor|tenant|patient key"
OWN = "partition by the key"


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. ``growable``: partitions may be added later, since no reader finds records by key there."""

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
    """Milliseconds until a replaced value is gone: without a bound, a tombstone waits for more records to come."""

    @property
    def config(self) -> Mapping[str, str]:
        """The topic's configuration, in Kafka's own names; what is not here is the cluster's to decide."""
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


def state_topic(vendor: str, enriched: bool = False) -> str:
    """What folds remember. An enriched topic has one of its own: a partition of state has a single writer."""
    return f"normalizer.state.{vendor}.enriched" if enriched else f"normalizer.state.{vendor}"


def dead_letter_topic(vendor: str) -> str:
    return f"dead-letter.{vendor}"


def vendor_of(topic: str) -> str:
    """The vendor of a raw, an enriched or a dead-letter topic."""
    return topic.split(".", 2)[1]


def _milliseconds(days: int | None) -> int:
    """``retention.ms`` of a vendor's setting in ``vendors.yaml``."""
    return FOREVER if days is None else days * DAY


def _kept(days: int | None) -> str:
    return "kept for good" if days is None else f"kept for {days} days"


def declared(settings: Settings) -> tuple[Topic, ...]:
    """Every topic of this deployment: its vendors, its number of partitions and of replicas."""

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
        *(raw(raw_topic(v), v, f"{v}'s events as received, redacted") for v in vendors),
        *(
            raw(enriched_topic(v), v, f"{v}'s thin events, completed by what its API answers")
            for v in vendors
            if v in ENRICHED
        ),
        *(
            topic(
                canonical_topic(t),
                "compact",
                f"{t}/id; {OWN if t in PATIENTLESS_TYPES else PATIENT}",
                f"the latest {t} of each id",
            )
            for t in RESOURCE_TYPES
        ),
        topic(BUNDLE, "delete", f"Bundle/id; {PATIENT}", "one transaction Bundle an event", retention=MONTH),
        topic(
            OUTCOME,
            "delete",
            f"OperationOutcome/id; {PATIENT}",
            "what is to be said of an event, never with its data",
            retention=MONTH,
            growable=True,
        ),
        *(
            topic(
                dead_letter_topic(v),
                "delete",
                f"the raw record's: {RAW_KEY}",
                f"what of {v} could not be mapped; {_kept(configured[v].retention.dead_letter_days)}",
                retention=_milliseconds(configured[v].retention.dead_letter_days),
                growable=True,
            )
            for v in vendors
        ),
        *(
            topic(
                state_topic(v),
                "compact",
                "raw key, subject, register; partition of the raw record",
                f"internal: what folds remember of {v}'s events",
            )
            for v in vendors
        ),
        *(
            topic(
                state_topic(v, enriched=True),
                "compact",
                "raw key, subject, register; partition of the enriched record",
                f"internal: what folds remember of {v}'s enriched events",
            )
            for v in vendors
            if v in ENRICHED
        ),
        topic(
            DEAD_LETTER_STATUS,
            "compact",
            "topic/partition/offset of the raw record that was mapped first",
            "internal: which dead letters were sent again, and which are done",
            partitions=1,
        ),
        topic(
            ERASED,
            "compact",
            "keyed hash of the patient key",
            "internal: patients whose data was erased",
            partitions=1,
        ),
    )
