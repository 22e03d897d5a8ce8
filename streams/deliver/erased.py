"""The patients of a Bundle, by the vendor's own keys, as the erasure list has them (fhir-delivery.md §7). Pure.

A Bundle has no patient key in its headers. Its resources have: in the identifiers of the Patient, in references by
identifier, and in the survey or file that an event names which does not name the patient (`erasure.aliases`).
"""

from collections.abc import Iterable, Iterator
from typing import Any

from fhirline.mappers.identity import escape_part, key
from fhirline.streams.deliver.entries import Entry

PATIENTS = frozenset({"patient", "user"})
"""Kinds of identifiers whose value is the vendor's key of a patient."""

ALIASES = frozenset({"survey", "file"})
"""Kinds whose value is the key of events that name no patient. Where a patient is named, that alone counts."""


def partition_keys(entries: Iterable[Entry], base: str) -> frozenset[str]:
    """Return ``vendor|tenant|patient key`` of everybody whom the resources are about. ``base``: of our identifiers.

    >>> patient = {"identifier": [{"system": "https://x.example/sid/altibbi/acme/user", "value": "501"}]}
    >>> sorted(partition_keys([Entry("Patient/1", patient, "")], "https://x.example"))
    ['altibbi|acme|501']
    """
    prefix = f"{base}/sid/"
    patients, aliases = set(), set()
    for entry in entries:
        for system, value in _identifiers(entry.resource):
            vendor, tenant, kind = _parts(system, prefix)
            if kind in PATIENTS:
                patients.add(f"{vendor}|{escape_part(tenant)}|{key(value)}")
            elif kind in ALIASES:
                aliases.add(f"{vendor}|{escape_part(tenant)}|{key(kind, value)}")
    return frozenset(patients or aliases)


def _parts(system: str, prefix: str) -> tuple[str, str, str]:
    parts = system.removeprefix(prefix).split("/") if system.startswith(prefix) else []
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else ("", "", "")


def _identifiers(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        system, named = value.get("system"), value.get("value")
        if isinstance(system, str) and isinstance(named, str):
            yield system, named
        for item in value.values():
            yield from _identifiers(item)
    elif isinstance(value, list):
        for item in value:
            yield from _identifiers(item)
