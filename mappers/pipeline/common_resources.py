"""What the pipeline adds to every event's own resources: Organization, Device, Provenance, Bundle, meta."""

from collections.abc import Sequence
from typing import Any

import orjson

from fhirline.mappers import MAP_SET_VERSION, MAPPING_VERSION
from fhirline.mappers.context import Context, constant
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
    """The vendor (mapping.md §4.3)."""
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
    """This mapper at its mapping version (mapping.md §4.3): not its release, each Provenance refers to it."""
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
    """An AI engine: Infermedica's, or the model that an Azodha event names (mapping.md §4.3)."""
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
    """``meta`` of mapping.md §5.1. ``source``: (event key, event type), where not this event's own."""
    envelope, naming = context.envelope, context.naming
    event_key, event_type = source or (context.event_key, context.event_type)
    uri = f"{naming.base}/source/{envelope.vendor}/{envelope.tenant}"
    tag = [coding(naming.code_system("vendor"), envelope.vendor)]
    if not event_independent:
        uri = f"{uri}#{event_key[:16]}"
        tag.append(coding(naming.code_system("event-type"), event_type))
    if ai:
        tags = (*tags, "ai-asserted")
    tag.extend(coding(naming.code_system("data-quality"), flag) for flag in sorted(set(tags)))
    labels = [coding(CONFIDENTIALITY, context.settings.confidentiality), MAPPED]
    if ai:
        labels.append(AI_ASSERTED if context.settings.ai_security == "AIAST" else DEVICE_ASSERTED)
    labels.extend(each for each in security if each not in labels)
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
    """Exactly one per event that wrote anything (mapping.md §5.3)."""

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
    """Sort key of a ``Type/id``: the Bundle's entry order (mapping.md §3.1), Provenance last, else by type and id."""
    return (_RANK.get(key.partition("/")[0], 50), key)


def bundle(context: Context, entries: Sequence[tuple[str, bytes]]) -> Resource:
    """The event's transaction (mapping.md §3.1). ``entries``: (``Type/id``, serialized resource), in order."""
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
    """A Bundle for validation: its entries' resources have been validated one by one."""
    return {
        **made,
        "entry": [{name: value for name, value in each.items() if name != "resource"} for each in made["entry"]],
    }


def sample(made: Resource) -> dict[str, Any]:
    """A Bundle for validation: with its first entry alone, and that without its resource.

    What an entry holds besides its resource follows from the resource's key by one expression (`bundle`), and the
    resource, so its type and id, has been validated by itself. That no two keys are equal (``bdl-7``) is the caller's.
    """
    first = {name: value for name, value in made["entry"][0].items() if name != "resource"}
    return {**made, "entry": [first]}
