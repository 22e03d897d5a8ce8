"""Resources that the pipeline adds to an event's own ones: Organization, Device, Provenance, Bundle; and meta."""

from collections.abc import Sequence
from typing import Any

import orjson

from fhirline.mappers import MAP_SET_VERSION, MAPPING_VERSION
from fhirline.mappers.context import Context, constant
from fhirline.mappers.declarations import DATA_QUALITY, EVENT_TYPE, VENDOR
from fhirline.mappers.fhir import elements
from fhirline.mappers.fhir.elements import codeable_concept, coding, element, reference
from fhirline.mappers.results import Element, NewResource, Resource

CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
OBSERVATION_VALUE = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue"
ACT_REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
DATA_OPERATION = "http://terminology.hl7.org/CodeSystem/v3-DataOperation"
PARTICIPANT_TYPE = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"

MAPPED = coding(OBSERVATION_VALUE, "MAPPED", "mapped")
DEVICE_ASSERTED = coding(OBSERVATION_VALUE, "DEVAST", "device asserted")
AI_ASSERTED = coding(OBSERVATION_VALUE, "AIAST", "Artificial Intelligence asserted")
TEST_DATA = coding(ACT_REASON, "HTEST", "test health data")

_FIRST = [
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
]
_LAST = ["List", "Composition", "Communication", "Task", "Provenance"]
_RANK = {
    **{name: rank for rank, name in enumerate(_FIRST)},
    **{name: 100 + rank for rank, name in enumerate(_LAST)},
}


def organization(context: Context) -> NewResource:
    """Make the vendor's Organization (mapping.md §4.3)."""
    vendor = context.envelope.vendor
    return constant(
        context.resource(
            "Organization",
            "vendor",
            (vendor,),
            identifier=[context.identifier("vendor", vendor)],
            name=context.vendor_name,
        )
    )


def mapper_device(context: Context) -> NewResource:
    """Make the Device of this mapper, keyed by the mapping version (mapping.md §4.3), for each Provenance."""
    return constant(
        context.resource(
            "Device",
            "mapper",
            (MAPPING_VERSION,),
            deviceName=[{"name": "fhirline", "type": "model-name"}],
            version=[{"value": f"{MAPPING_VERSION}+{MAP_SET_VERSION}"}],
        )
    )


def engine_device(context: Context, model: str) -> NewResource:
    """Make the Device of an AI engine: Infermedica's, or the model that an Azodha event names (mapping.md §4.3)."""
    return constant(context.resource("Device", "engine", (model,), deviceName=[{"name": model, "type": "model-name"}]))


def meta(
    context: Context,
    tags: Sequence[str],
    *,
    event_independent: bool = False,
    ai: bool = False,
    security: Sequence[Element] = (),
    source: tuple[str, str] | None = None,
) -> Element:
    """Make ``meta`` (mapping.md §5.1). ``tags`` are codes of flags.

    ``event_independent``: several events make the resource, so that its meta names none of them. ``source``: the
    (event key, event type) that made the resource, where that is not this event.
    """
    envelope, naming = context.envelope, context.naming
    event_key, event_type = source or (context.event_key, context.event_type)
    uri = f"{naming.base}/source/{envelope.vendor}/{envelope.tenant}"
    tag = [coding(naming.code_system(VENDOR), envelope.vendor)]
    if not event_independent:
        uri = f"{uri}#{event_key[:16]}"
        tag.append(coding(naming.code_system(EVENT_TYPE), event_type))
    if ai:
        tags = (*tags, "ai-asserted")
    tag.extend(coding(naming.code_system(DATA_QUALITY), code) for code in sorted(set(tags)))
    labels = [coding(CONFIDENTIALITY, context.settings.confidentiality), MAPPED]
    if ai:
        labels.append(AI_ASSERTED if context.settings.ai_security == "AIAST" else DEVICE_ASSERTED)
    labels.extend(label for label in security if label not in labels)
    if context.settings.sandbox:
        labels.append(TEST_DATA)
    return {"source": uri, "security": labels, "tag": tag}


def provenance(
    context: Context,
    targets: Sequence[str],
    source_data: Sequence[Element],
    professional: str | None,
    engine: str | None,
) -> Resource:
    """Make the Provenance of an event that published any resource (mapping.md §5.3).

    ``professional`` and ``engine`` are references of the Practitioner and of the AI engine that authored the content.
    """

    def agent(role: str, who: str, on_behalf_of: str | None = None) -> Element | None:
        return element(
            type=codeable_concept(coding(PARTICIPANT_TYPE, role)),
            who=reference(who),
            onBehalfOf=reference(on_behalf_of),
        )

    device = context.reference("Device", "mapper", MAPPING_VERSION)
    human = (
        agent("author", professional, context.organization)
        if professional
        else agent("custodian", context.organization)
    )
    raw_event = context.identifier("raw-event", context.event_key)
    return context.resource(
        "Provenance",
        "event",
        (context.event_key,),
        extension=list(source_data),
        target=[reference(target) for target in targets],
        occurredDateTime=context.time.instant.text,
        recorded=context.envelope.received_at.text,
        activity=codeable_concept(coding(DATA_OPERATION, "UPDATE", "revise"), text="transform from vendor webhook"),
        agent=elements.listed(agent("assembler", device), human, agent("author", engine) if engine else None),
        entity=[
            {
                "role": "source",
                "what": {
                    "identifier": raw_event,
                    "display": f"{context.envelope.vendor} {context.event_type}",
                },
            }
        ],
    )


def target_order(key: str) -> tuple[int, str]:
    """Return the sort key of a ``Type/id`` in a Bundle (mapping.md §3.1): by rank, then by type and id."""
    return (_RANK.get(key.partition("/")[0], 50), key)


def bundle(context: Context, entries: Sequence[tuple[str, bytes]]) -> Resource:
    """Make the event's transaction Bundle (mapping.md §3.1) of (``Type/id``, serialized resource), in this order."""
    base = context.naming.server_base
    return {
        "resourceType": "Bundle",
        "id": context.id("Bundle", "bundle", context.event_key),
        "meta": meta(context, ()),
        "type": "transaction",
        "entry": [
            {
                "fullUrl": f"{base}/{key}",
                "resource": orjson.Fragment(value),
                "request": {"method": "PUT", "url": key},
            }
            for key, value in entries
        ],
    }


def without_resources(made: Resource) -> dict[str, Any]:
    """Return the Bundle without its entries' resources, for validation: each has been validated by itself."""
    return {**made, "entry": [_without_resource(entry) for entry in made["entry"]]}


def with_first_entry(made: Resource) -> dict[str, Any]:
    """Return the Bundle with its first entry alone, without its resource, for validation in constant time.

    `bundle` computes all other members of an entry from its resource's key, and the resource has been
    validated by itself. The caller checks that no two keys are equal (``bdl-7``).
    """
    return {**made, "entry": [_without_resource(made["entry"][0])]}


def _without_resource(entry: Element) -> Element:
    return {name: value for name, value in entry.items() if name != "resource"}
