"""Every topic, declared once: partitions, cleanup, and the contract of its key (README, "Contracts").

Topics whose records belong together by partition number (raw, state, ``fhir.r4.*``) have one number of partitions,
``FHIRLINE_PARTITIONS``, for good: another number would send a key elsewhere than its earlier records.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from config.settings import Settings
from config.vendors import load_vendors

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

ENRICHED = ("infermedica",)
"""Vendors with a stage that completes thin events before they are mapped (mapping.md §10, stage B)."""

Cleanup = Literal["delete", "compact"]
FOREVER = -1

RAW_KEY = "tenant|patient key (mapping.md §2)"
PATIENT = "partition by the patient: vendor|tenant|patient key"


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. Its number of partitions is part of its contract, and never changes once it exists."""

    name: str
    partitions: int
    replication_factor: int
    cleanup: Cleanup
    max_message_bytes: int
    key: str
    description: str

    @property
    def config(self) -> Mapping[str, str]:
        """The topic's configuration, in Kafka's own names; what is not here is the cluster's to decide.

        Nothing is deleted by age: raw is the source of truth, and a dead letter waits for whoever mends it. Who wants
        an end to it sets ``retention.ms`` on the topic outside, and `plan` shows it.
        """
        own = {"cleanup.policy": self.cleanup, "max.message.bytes": str(self.max_message_bytes)}
        if self.cleanup == "delete":
            own["retention.ms"] = str(FOREVER)
        return own


def raw_topic(vendor: str) -> str:
    return f"raw.{vendor}"


def enriched_topic(vendor: str) -> str:
    return f"raw.{vendor}.enriched"


def canonical_topic(resource_type: str) -> str:
    return f"fhir.r4.{resource_type}"


def state_topic(vendor: str) -> str:
    return f"normalizer.state.{vendor}"


def dead_letter_topic(vendor: str) -> str:
    return f"dead-letter.{vendor}"


def declared(settings: Settings) -> tuple[Topic, ...]:
    """Every topic of this deployment: its vendors, its number of partitions and of replicas."""

    def topic(name: str, cleanup: Cleanup, key: str, description: str, *, internal: bool = False) -> Topic:
        return Topic(
            name,
            1 if internal else settings.partitions,
            settings.replication_factor,
            cleanup,
            settings.message_max_bytes,
            key,
            description,
        )

    vendors = load_vendors(settings.vendors_file).names
    return (
        *(
            topic(raw_topic(v), "delete", RAW_KEY, f"{v}'s events as received, redacted; kept for good")
            for v in vendors
        ),
        *(
            topic(enriched_topic(v), "delete", RAW_KEY, f"{v}'s thin events, completed by what its API answers")
            for v in vendors
            if v in ENRICHED
        ),
        *(
            topic(canonical_topic(t), "compact", f"{t}/id; {PATIENT}", f"the latest {t} of each id")
            for t in RESOURCE_TYPES
        ),
        topic(BUNDLE, "delete", f"Bundle/id; {PATIENT}", "one transaction Bundle an event"),
        topic(OUTCOME, "delete", f"OperationOutcome/id; {PATIENT}", "what is to be said of an event, without its data"),
        *(
            topic(dead_letter_topic(v), "delete", f"the raw record's: {RAW_KEY}", f"what of {v} could not be mapped")
            for v in vendors
        ),
        *(
            topic(
                state_topic(v),
                "compact",
                "raw key, subject, register; partition as the raw record's",
                f"internal: what folds remember of {v}'s events",
            )
            for v in vendors
        ),
        topic(
            DEAD_LETTER_STATUS,
            "compact",
            "topic/partition/offset of the letter",
            "internal: which dead letters are done",
            internal=True,
        ),
        topic(
            ERASED,
            "compact",
            "keyed hash of the patient key",
            "internal: patients whose data was erased",
            internal=True,
        ),
    )
