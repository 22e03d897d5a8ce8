"""A comparison's report in the run's folder, so that it can be read again without reading the topics.

It has counts, paths, codes of code systems, and keys of examples, but no other value of a resource.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import orjson

from fhirline.config.private_files import open_private
from fhirline.streams.operate.replay.codes import CodeChange
from fhirline.streams.operate.replay.difference import Difference, Kind
from fhirline.streams.operate.replay.report import Report, Tally

FILE = "report.json"


@dataclass(frozen=True, slots=True)
class KeptReport:
    """The findings of a run. ``compared``: the time of the comparison, RFC 3339.

    ``events``: the number of mapped events. ``failed``: the number of failed events by error code. ``tables_now``: the
    version of the tables that the run mapped with. ``erased``: the number of events of erased patients, passed over.
    """

    compared: str
    events: int
    failed: Mapping[str, int]
    tables_now: str
    report: Report
    erased: int = 0

    def save(self, folder: Path) -> None:
        """Write the report, with mode 0600. An earlier one is replaced at once. Raises OSError."""
        tallies = {name: _tally_document(tally) for name, tally in self.report.types.items()}
        document = {
            "compared": self.compared,
            "events": self.events,
            "failed": dict(self.failed),
            "erased": self.erased,
            "tables_now": self.tables_now,
            "types": tallies,
        }
        written = folder / f".{FILE}"
        with open_private(written) as file:
            file.write(orjson.dumps(document))
        written.replace(folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """Read the report; None where there is none that can be read."""
        try:
            document = orjson.loads((folder / FILE).read_bytes())
            types = {str(name): _tally(stored) for name, stored in document["types"].items()}
            failed = {str(code): int(count) for code, count in document["failed"].items()}
            counts = (str(document["compared"]), int(document["events"]), failed, str(document["tables_now"]))
            return cls(*counts, Report(types), int(document.get("erased", 0)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None


def _tally_document(tally: Tally) -> dict[str, Any]:
    return {
        "kinds": {kind.value: count for kind, count in tally.kinds.items()},
        "paths": dict(tally.paths),
        "codes": [[*change, count] for change, count in tally.codes.items()],
        "more_codes": tally.more_codes,
        "examples": [{**asdict(example), "codes": [[*code] for code in example.codes]} for example in tally.examples],
    }


def _tally(stored: dict[str, Any]) -> Tally:
    return Tally(
        Counter({Kind(kind): int(count) for kind, count in stored["kinds"].items()}),
        Counter({str(path): int(count) for path, count in stored["paths"].items()}),
        [_difference(example) for example in stored["examples"]],
        Counter({CodeChange(str(path), str(was), str(now)): int(count) for path, was, now, count in stored["codes"]}),
        int(stored["more_codes"]),
    )


def _difference(stored: dict[str, Any]) -> Difference:
    codes = tuple(CodeChange(*change) for change in stored["codes"])
    fields = {**stored, "kind": Kind(stored["kind"]), "paths": tuple(stored["paths"]), "codes": codes}
    return Difference(**fields)
