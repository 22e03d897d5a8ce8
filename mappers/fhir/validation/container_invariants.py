"""R4's invariants of Bundles and contained resources, each function named by its key (see `invariants`)."""

import orjson

from fhirline.mappers.fhir.validation.datatype_invariants import concerns, exists
from fhirline.mappers.results import Element, Resource


@concerns("total", "_total")
def bdl_1(bundle: Resource) -> bool:
    """total only when a search or history

    ``total.empty() or (type = 'searchset') or (type = 'history')``
    """
    return not exists(bundle, "total") or bundle.get("type") in {"searchset", "history"}


@concerns("entry")
def bdl_2(bundle: Resource) -> bool:
    """entry.search only when a search

    ``entry.search.empty() or (type = 'searchset')``
    """
    return bundle.get("type") == "searchset" or not [entry for entry in bundle.get("entry", ()) if "search" in entry]


@concerns("entry")
def bdl_3(bundle: Resource) -> bool:
    """entry.request mandatory for batch/transaction/history, otherwise prohibited

    ``entry.all(request.exists() = (%resource.type = 'batch' or %resource.type = 'transaction' or %resource.type =
    'history'))``
    """
    wanted = bundle.get("type") in {"batch", "transaction", "history"}
    return not [entry for entry in bundle.get("entry", ()) if ("request" in entry) != wanted]


@concerns("entry")
def bdl_4(bundle: Resource) -> bool:
    """entry.response mandatory for batch-response/transaction-response/history, otherwise prohibited

    ``entry.all(response.exists() = (%resource.type = 'batch-response' or %resource.type = 'transaction-response' or
    %resource.type = 'history'))``
    """
    wanted = bundle.get("type") in {"batch-response", "transaction-response", "history"}
    return not [entry for entry in bundle.get("entry", ()) if ("response" in entry) != wanted]


def bdl_5(entry: Element) -> bool:
    """must be a resource unless there's a request or response

    ``resource.exists() or request.exists() or response.exists()``
    """
    return "resource" in entry or "request" in entry or "response" in entry


@concerns("entry")
def bdl_7(bundle: Resource) -> bool:
    """FullUrl must be unique in a bundle, or else entries with the same fullUrl must have different meta.versionId

    ``(type = 'history') or entry.where(fullUrl.exists()).select(fullUrl&resource.meta.versionId).isDistinct()``
    """
    if bundle.get("type") == "history":
        return True
    entries = [entry for entry in bundle.get("entry", ()) if "fullUrl" in entry]
    if len({entry["fullUrl"] for entry in entries}) == len(entries):
        return True
    versions = [(entry["fullUrl"], entry.get("resource", {}).get("meta", {}).get("versionId")) for entry in entries]
    return len(set(versions)) == len(versions)


@concerns("fullUrl")
def bdl_8(entry: Element) -> bool:
    """fullUrl cannot be a version specific reference

    ``fullUrl.exists() implies fullUrl.contains('/_history/').not()``
    """
    return "/_history/" not in entry.get("fullUrl", "")


def bdl_9(bundle: Resource) -> bool:
    """A document must have an identifier with a system and a value

    ``type = 'document' implies (identifier.system.exists() and identifier.value.exists())``
    """
    identifier = bundle.get("identifier", {})
    return bundle.get("type") != "document" or (exists(identifier, "system") and exists(identifier, "value"))


def bdl_10(bundle: Resource) -> bool:
    """A document must have a date

    ``type = 'document' implies (timestamp.hasValue())``
    """
    return bundle.get("type") != "document" or "timestamp" in bundle


def bdl_11(bundle: Resource) -> bool:
    """A document must have a Composition as the first resource

    ``type = 'document' implies entry.first().resource.is(Composition)``
    """
    return bundle.get("type") != "document" or _first_is(bundle, "Composition")


def bdl_12(bundle: Resource) -> bool:
    """A message must have a MessageHeader as the first resource

    ``type = 'message' implies entry.first().resource.is(MessageHeader)``
    """
    return bundle.get("type") != "message" or _first_is(bundle, "MessageHeader")


def _first_is(bundle: Resource, resource_type: str) -> bool:
    first: Element = next(iter(bundle.get("entry", ())), {})
    return bool(first.get("resource", {}).get("resourceType") == resource_type)


@concerns("contained")
def dom_2(resource: Resource) -> bool:
    """If the resource is contained in another resource, it SHALL NOT contain nested Resources

    ``contained.contained.empty()``
    """
    return not any("contained" in contained for contained in resource.get("contained", ()))


@concerns("contained")
def dom_3(resource: Resource) -> bool:
    """If the resource is contained in another resource, it SHALL be referred to from elsewhere in the resource or SHALL
    refer to the containing resource

    ``contained.where((('#'+id in (%resource.descendants().reference | %resource.descendants().as(canonical) |
    %resource.descendants().as(uri) | %resource.descendants().as(url))) or descendants().where(reference =
    '#').exists() or …).not()).trace('unmatched', id).empty()``
    """
    contained = resource.get("contained", ())
    return not contained or not [item for item in contained if not _is_referred(item, orjson.dumps(resource))]


def _is_referred(contained: Resource, whole: bytes) -> bool:
    """Search the resource's bytes for ``"#id"``: ten times faster than a walk, but an equal text counts as well."""
    return f'"#{contained.get("id")}"'.encode() in whole or b'"#"' in orjson.dumps(contained)


@concerns("contained")
def dom_4(resource: Resource) -> bool:
    """If a resource is contained in another resource, it SHALL NOT have a meta.versionId or a meta.lastUpdated

    ``contained.meta.versionId.empty() and contained.meta.lastUpdated.empty()``
    """
    metas = [contained.get("meta", {}) for contained in resource.get("contained", ())]
    return not any(exists(meta, "versionId") or exists(meta, "lastUpdated") for meta in metas)


@concerns("contained")
def dom_5(resource: Resource) -> bool:
    """If a resource is contained in another resource, it SHALL NOT have a security label

    ``contained.meta.security.empty()``
    """
    return not any("security" in contained.get("meta", {}) for contained in resource.get("contained", ()))
