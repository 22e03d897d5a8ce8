"""A NamingSystem for each kind of identifiers of each tenant (mapping.md §4.2)."""

import hashlib
from collections.abc import Mapping

from fhirline.mappers import declarations
from fhirline.mappers.conformance.definition import PREFIX, Deployment, computer_name, narrative
from fhirline.mappers.registry import vendor_mapping
from fhirline.mappers.results import Resource

_LONGEST_ID = 64
_DIGITS = 16


def naming_systems(deployment: Deployment) -> list[Resource]:
    """Make the NamingSystems of all tenants that ``vendors.yaml`` lists."""
    return [
        _naming_system(vendor, tenant, kind, meaning, deployment)
        for vendor in deployment.vendors.names
        for tenant in sorted(deployment.vendors[vendor].tenants)
        for kind, meaning in sorted(identifiers_of(vendor).items())
    ]


def identifiers_of(vendor: str) -> Mapping[str, str]:
    """Return all kinds of identifiers of a vendor's resources, with what they identify."""
    return {**declarations.IDENTIFIERS, **vendor_mapping(vendor).identifiers}


def _naming_system(vendor: str, tenant: str, kind: str, meaning: str, deployment: Deployment) -> Resource:
    name = f"{vendor}-{tenant}-{kind}"
    display = deployment.vendors[vendor].name
    description = f"{meaning}. Vendor {display}, tenant {tenant}."
    return {
        "resourceType": "NamingSystem",
        "id": _id(name),
        "text": narrative(f"{display} {kind}", description),
        "name": computer_name(name),
        "status": "active",
        "kind": "identifier",
        "date": declarations.IDENTIFIERS_DATE,
        "responsible": display,
        "description": description,
        "uniqueId": [{"type": "uri", "value": deployment.naming.sid(vendor, tenant, kind), "preferred": True}],
    }


def _id(name: str) -> str:
    """Return the id of a definition; of a long name its beginning and a digest (FHIR allows 64 characters)."""
    id = f"{PREFIX}{name}"
    if len(id) <= _LONGEST_ID:
        return id
    return f"{id[: _LONGEST_ID - _DIGITS - 1]}-{hashlib.sha256(name.encode()).hexdigest()[:_DIGITS]}"
