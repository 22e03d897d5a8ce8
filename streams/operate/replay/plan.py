"""The plan of a run: ``run.json`` in its folder."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import orjson

from fhirline.config.private_files import open_private
from fhirline.streams.operate.replay.inputs import Inputs
from fhirline.streams.operate.replay.offset_ranges import OffsetRange
from fhirline.streams.operate.replay.selection import Selection

FILE = "run.json"


@dataclass(frozen=True, slots=True)
class Plan:
    """A run's range, its topics, and what must stay the same until it is finished.

    ``begun``: RFC 3339. ``prefix``: precedes the names of shadow topics. ``inputs``: see `inputs.inputs_of`.
    ``erased``: fingerprint of the erased patients when the run began (`streams.step3_restore.erasure_list`).
    ``keep``: the run's folder is kept when it is finished.
    """

    id: str
    begun: str
    selection: Selection
    ranges: tuple[OffsetRange, ...]
    prefix: str
    everything: bool
    inputs: Inputs
    erased: str
    keep: bool = False

    def save(self, folder: Path) -> None:
        with open_private(folder / FILE) as file:
            file.write(orjson.dumps(asdict(self)))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load a plan. Raises OSError, ValueError, KeyError or TypeError where there is none that can be read."""
        fields: dict[str, Any] = orjson.loads((folder / FILE).read_bytes())
        fields["selection"] = Selection.from_json(fields["selection"])
        fields["ranges"] = tuple(_offset_range(stored) for stored in fields["ranges"])
        return cls(**fields)


def _offset_range(stored: dict[str, Any]) -> OffsetRange:
    offsets = stored["offsets"]
    return OffsetRange(**{**stored, "offsets": None if offsets is None else tuple(offsets)})
