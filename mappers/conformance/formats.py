"""Definitions as bytes: a FHIR package, NDJSON, or a Bundle. The same definitions give the same bytes."""

import gzip
import io
import tarfile
from collections.abc import Sequence
from typing import Any

import orjson

from fhirline.mappers.conformance.definition import FHIR_VERSION
from fhirline.mappers.results import Resource

_INDEXED = ("resourceType", "id", "url", "version", "kind", "type", "supplements", "content", "valueSet", "derivation")
_MODE = 0o644


def as_ndjson(made: Sequence[Resource]) -> bytes:
    """Write a definition per line."""
    return b"".join(orjson.dumps(resource) + b"\n" for resource in made)


def as_bundle(made: Sequence[Resource], server_base: str) -> bytes:
    """Write a transaction that creates or replaces each definition under its id.

    ``server_base`` is the base of the entries' ``fullUrl``, as in the Bundles of events (mapping.md §3.1).
    """
    return _pretty(
        {
            "resourceType": "Bundle",
            "type": "transaction",
            "entry": [
                {"fullUrl": f"{server_base}/{key}", "resource": resource, "request": {"method": "PUT", "url": key}}
                for key, resource in ((f"{resource['resourceType']}/{resource['id']}", resource) for resource in made)
            ],
        }
    )


def as_package(made: Sequence[Resource]) -> bytes:
    """Write a FHIR package: a gzipped tar archive in npm's layout, without times, owners or names of machines.

    The last definition is the ImplementationGuide, which names the package.
    """
    guide = made[-1]
    named = {f"{resource['resourceType']}-{resource['id']}.json": resource for resource in made}
    contents: dict[str, Any] = {
        "package.json": _manifest(guide),
        ".index.json": {"index-version": 2, "files": [_entry(name, resource) for name, resource in named.items()]},
        **named,
    }
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in contents.items():
            value = _pretty(content)
            member = tarfile.TarInfo(f"package/{name}")
            member.size, member.mode = len(value), _MODE
            tar.addfile(member, io.BytesIO(value))
    return gzip.compress(archive.getvalue(), mtime=0)


def _manifest(guide: Resource) -> dict[str, Any]:
    return {
        "name": guide["packageId"],
        "version": guide["version"],
        "type": "fhir.ig",
        "canonical": guide["url"].rpartition("/ImplementationGuide/")[0],
        "url": guide["url"],
        "title": guide["title"],
        "description": guide["description"],
        "author": "fhirline",
        "license": guide["license"],
        "fhirVersions": [FHIR_VERSION],
        "dependencies": {"hl7.fhir.r4.core": FHIR_VERSION},
        "directories": {"lib": "package"},
    }


def _entry(name: str, resource: Resource) -> dict[str, Any]:
    found = {key: resource[key] for key in _INDEXED if isinstance(resource.get(key), str)}
    return {"filename": name, **found}


def _pretty(content: Any) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
