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
    """One webhook. ``expected``: number of resources per type in its Bundle; empty where only an outcome follows."""

    vendor: str
    event: str
    file: str
    expected: Mapping[str, int]
    route: str = ""

    @cached_property
    def body(self) -> Any:
        return orjson.loads((files("fhirline.streams.demo") / "samples" / self.file).read_bytes())

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
    manifest = yaml.safe_load((files("fhirline.streams.demo") / "samples" / "manifest.yaml").read_text("utf-8"))
    return [Sample(**item) for item in manifest]
