"""Reads many resources from a FHIR server: one GET for each, over a few connections that are kept."""

import http.client
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import urlsplit
from xml.etree.ElementTree import canonicalize

import orjson

from tests.support.ehr.server import EhrServer, Resource
from tests.support.waiting import LIMIT

T = TypeVar("T")

CONNECTIONS = 4
ACCEPT = {"Accept": "application/fhir+json", "Cache-Control": "no-cache"}


def read_all(server: EhrServer, keys: Iterable[str], take: Callable[[str, Resource | None], T]) -> dict[str, T]:
    """Return what ``take`` makes of each key and its resource, None where there is none or it was deleted."""
    keys = [*dict.fromkeys(keys)]
    address = urlsplit(server.base)

    def read(part: list[str]) -> list[tuple[str, T]]:
        connection = http.client.HTTPConnection(address.netloc, timeout=LIMIT)
        found = []
        for key in part:
            connection.request("GET", f"{address.path}/{key}", headers=ACCEPT)
            response = connection.getresponse()
            content = response.read()
            assert response.status in (200, 404, 410), (key, response.status)
            found.append((key, take(key, orjson.loads(content) if response.status == 200 else None)))
        connection.close()
        return found

    with ThreadPoolExecutor(CONNECTIONS) as threads:
        parts = threads.map(read, (keys[number::CONNECTIONS] for number in range(CONNECTIONS)))
        return {key: taken for part in parts for key, taken in part}


def different_elements(wanted: Resource | None, has: Resource | None) -> str:
    if wanted is None or has is None:
        return "is there" if has else "is missing"
    return ", ".join(sorted(name for name in wanted.keys() | has.keys() if wanted.get(name) != has.get(name)))


def comparable(resource: Resource) -> Resource:
    """Return a resource without what a server may change: HAPI puts a request's id behind ``meta.source``.

    Labels and tags are sets.
    """
    meta = {name: value for name, value in resource["meta"].items() if name not in ("versionId", "lastUpdated")}
    meta["source"] = meta["source"].partition("#")[0]
    for name in ("security", "tag"):
        meta[name] = sorted(meta[name], key=orjson.dumps)
    compared: Resource = _canonical_xml({**resource, "meta": meta})
    return compared


def _canonical_xml(value: Any) -> Any:
    """Return a value with its narratives as canonical XML: a server writes them in a form of its own."""
    if isinstance(value, dict):
        return {name: canonicalize(item) if name == "div" else _canonical_xml(item) for name, item in value.items()}
    return [_canonical_xml(item) for item in value] if isinstance(value, list) else value
