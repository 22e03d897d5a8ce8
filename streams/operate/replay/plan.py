"""What a run was started for: ``run.json`` in its folder."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import orjson

from fhirline.config.settings import Settings
from fhirline.mappers import MAP_SET_VERSION, MAPPING_VERSION
from fhirline.streams.operate.replay.offset_ranges import OffsetRange
from fhirline.streams.operate.replay.selection import Selection

FILE = "run.json"


@dataclass(frozen=True, slots=True)
class Plan:
    """A run's range, its topics, and what must stay the same until it is finished.

    ``prefix``: precedes the names of shadow topics. ``mapping``: see `mapping_of`. ``erased``: fingerprint of the
    erased patients when the run began (`streams.step3_restore.erased`).
    """

    id: str
    selection: Selection
    ranges: tuple[OffsetRange, ...]
    prefix: str
    everything: bool
    mapping: str
    erased: str

    def save(self, folder: Path) -> None:
        document = asdict(self)
        document["spans"] = document.pop("ranges")  # the key of earlier releases, whose runs can be resumed
        (folder / FILE).write_bytes(orjson.dumps(document))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load a plan. Raises OSError, ValueError, KeyError or TypeError where there is none that can be read."""
        fields: dict[str, Any] = orjson.loads((folder / FILE).read_bytes())
        fields["selection"] = Selection.from_json(fields["selection"])
        fields["ranges"] = tuple(_offset_range(stored) for stored in fields.pop("spans"))
        return cls(**fields)


def mapping_of(settings: Settings) -> str:
    """Describe what all parts of a run must have in common: the mapping's versions, and what ids are made from."""
    return f"{MAPPING_VERSION} {MAP_SET_VERSION} {settings.base} {settings.partitions}"


def _offset_range(stored: dict[str, Any]) -> OffsetRange:
    offsets = stored["offsets"]
    return OffsetRange(**{**stored, "offsets": None if offsets is None else tuple(offsets)})
