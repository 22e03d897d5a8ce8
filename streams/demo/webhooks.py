"""The demo's webhooks: synthetic bodies in the vendors' documented shapes, and the resources they must become."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Any

import orjson
import yaml


@dataclass(frozen=True)
class Sample:
    """One webhook. ``expected``: number of resources per type in its Bundle; empty where only an outcome follows.

    ``line``: which line of an NDJSON file it is, from 0.
    """

    vendor: str
    event: str
    file: str
    expected: Mapping[str, int]
    route: str = ""
    line: int | None = None

    @cached_property
    def body(self) -> Any:
        content = _content(self.file)
        return orjson.loads(content if self.line is None else content.splitlines()[self.line])

    def path(self, tenant: str) -> str:
        """Return the path at the gateway."""
        return f"/webhooks/{self.vendor}/{tenant}{self.route}"

    def missing(self, made: Counter[str]) -> str:
        """Describe how the Bundle differs from what is expected; empty where it does not."""
        wanted = Counter(self.expected)
        return ", ".join(
            f"{name}: {made[name]} instead of {wanted[name]}"
            for name in sorted(wanted | made)
            if made[name] != wanted[name]
        )


def samples() -> list[Sample]:
    """Load the webhooks in the order in which they are sent (``samples/manifest.yaml``)."""
    return [sample for item in yaml.safe_load(_content("manifest.yaml")) for sample in _webhooks(item)]


def _webhooks(item: Mapping[str, Any]) -> list[Sample]:
    """Return the webhook of a file, or those of each line of an NDJSON file, all of which become the same."""
    if not item["file"].endswith(".ndjson"):
        return [Sample(**item)]
    return [Sample(**item, line=line) for line in range(len(_content(item["file"]).splitlines()))]


def _content(file: str) -> bytes:
    return (files("fhirline.streams.demo") / "samples" / file).read_bytes()
