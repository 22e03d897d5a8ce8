"""The records that an erasure writes: tombstones, DELETE Bundles, and a Provenance (mapping.md §3.5). Pure.

The Provenance names the erased patient by the keyed hash only. Resource ids are in keys and DELETE entries only. The
bytes are the same however often they are made, since their time is the block's.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import orjson

from fhirline.config.errors import FhirlineError
from fhirline.config.table_digests import tables_version
from fhirline.mappers import MAPPING_VERSION
from fhirline.mappers.context import Context
from fhirline.mappers.fhir.elements import codeable_concept, coding, reference
from fhirline.mappers.fhir.validation import problems_text
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline import common_resources
from fhirline.mappers.pipeline.envelope import Envelope
from fhirline.mappers.pipeline.normalize import Normalizer
from fhirline.mappers.results import Resource
from fhirline.mappers.times import EventTime
from fhirline.streams.kafka import headers
from fhirline.streams.kafka.records import ProducerRecord, TopicPartition
from fhirline.streams.step3_restore.erasure_list import ERASURE, Compartment
from fhirline.topics.declared import BUNDLE, ERASED, canonical_topic
from fhirline.topics.partition import partition_for

ENTRIES = 1_000
"""DELETE entries of one Bundle at most, since a server processes a transaction as one unit of work."""


@dataclass(frozen=True, slots=True)
class ErasureRecords:
    """Makes the records of a patient's erasure. ``digest``, ``offset``, ``at``: the block's key, offset and time."""

    normalize: Normalizer
    patient: Compartment
    digest: str
    offset: int
    at: Instant
    partitions: int

    def tombstones(self, live: Iterable[tuple[TopicPartition, str]]) -> list[ProducerRecord]:
        """Make a null value for each key, in the key's own partition."""
        return [ProducerRecord(topic, key.encode(), None, number, self._headers()) for (topic, number), key in live]

    def messages(self, keys: Iterable[str]) -> list[ProducerRecord]:
        """Make the DELETE Bundles of ``keys``, referring resources first, and the Provenance for its own topic."""
        ordered = sorted(keys, key=common_resources.target_order, reverse=True)
        if not ordered:
            return []
        context = self._context()
        resources = self._resources(context)
        put = [(f"{resource['resourceType']}/{resource['id']}", self._valid(resource)) for resource in resources]
        parts = [ordered[start : start + ENTRIES] for start in range(0, len(ordered), ENTRIES)]
        bundles = [self._bundle(context, part, put if part is parts[-1] else ()) for part in parts]
        records = [self._record(BUNDLE, f"Bundle/{id}", value) for id, value in bundles]
        key, provenance = put[-1]
        return [*records, self._record(canonical_topic("Provenance"), key, provenance)]

    def _record(self, topic: str, key: str, value: bytes) -> ProducerRecord:
        partition = partition_for(self.patient.partition_key, self.partitions)
        return ProducerRecord(topic, key.encode(), value, partition, self._headers())

    def _headers(self) -> headers.Headers:
        return headers.headers(
            vendor=self.patient.vendor,
            tenant=self.patient.tenant,
            event_type=ERASURE,
            raw=f"{ERASED}/0/{self.offset}",
            mapping_version=MAPPING_VERSION,
            tables_version=tables_version(self.normalize.terminology),
            event_key=self.digest,
            occurred_at=self.at.text,
        )

    def _context(self) -> Context:
        """Make the context of an erasure: an event of the vendor with an empty body, whose event key is the hash."""
        vendor = self.normalize.vendors[self.patient.vendor]
        return Context(
            Envelope(self.patient.vendor, self.patient.tenant, self.at, {}, self.digest),
            ERASURE,
            EventTime(self.at, self.at, False),
            vendor.settings(self.patient.tenant),
            self.normalize.naming,
            self.normalize.terminology,
            vendor.name,
        )

    def _resources(self, context: Context) -> list[Resource]:
        """Make the Provenance, and before it the agents that it refers to, so that the Bundle is complete."""
        shared = [common_resources.organization(context).resource, common_resources.mapper_device(context).resource]
        agents = [{**item, "meta": common_resources.meta(context, (), event_independent=True)} for item in shared]
        return [*agents, {**provenance(context), "meta": common_resources.meta(context, ())}]

    def _bundle(self, context: Context, keys: Sequence[str], put: Sequence[tuple[str, bytes]]) -> tuple[str, bytes]:
        """Make a transaction. A server processes its DELETEs before its PUTs (FHIR R4, http.html#trules)."""
        which = hashlib.sha256("\n".join(keys).encode()).hexdigest()[:16]
        id = context.id("Bundle", ERASURE, self.digest, which)
        bundle = {
            "resourceType": "Bundle",
            "id": id,
            "meta": common_resources.meta(context, ()),
            "type": "transaction",
            "entry": [
                *({"request": {"method": "DELETE", "url": key}} for key in keys),
                *common_resources.bundle(context, put)["entry"],
            ],
        }
        return id, self._valid(bundle, common_resources.without_resources(bundle))

    def _valid(self, resource: Resource, checked: Resource | None = None) -> bytes:
        if problems := self.normalize.validate(checked or resource):
            raise InvalidErasureRecords(f"{resource['resourceType']} of an erasure: {problems_text(problems)}")
        return orjson.dumps(resource)


class InvalidErasureRecords(FhirlineError):
    """A Bundle or Provenance of an erasure is invalid FHIR, a defect of ours."""


def provenance(context: Context) -> Resource:
    """Make the Provenance. It names the patient by a logical reference, since the resources are gone."""
    return context.resource(
        "Provenance",
        ERASURE,
        (context.event_key,),
        target=[{"type": "Patient", "identifier": context.identifier("erased", context.event_key)}],
        occurredDateTime=context.time.instant.text,
        recorded=context.envelope.received_at.text,
        activity=codeable_concept(
            coding(common_resources.DATA_OPERATION, "DELETE", "delete"), text="erasure of a patient's record"
        ),
        agent=[
            {
                "type": codeable_concept(coding(common_resources.PARTICIPANT_TYPE, "assembler")),
                "who": reference(context.reference("Device", "mapper", MAPPING_VERSION)),
            },
            {
                "type": codeable_concept(coding(common_resources.PARTICIPANT_TYPE, "custodian")),
                "who": reference(context.organization),
            },
        ],
    )
