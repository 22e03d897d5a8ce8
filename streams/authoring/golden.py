"""Golden cases made of samples: what arrives, with secrets replaced and long content cut."""

import json
from collections.abc import Callable, Collection
from decimal import Decimal
from typing import Any

from fhirline.mappers.instants import Instant
from fhirline.mappers.json_pointer import escape
from fhirline.mappers.pipeline.envelope import Envelope
from fhirline.mappers.pipeline.redaction.keys import secret_key
from fhirline.mappers.pipeline.redaction.redact import REDACTED
from fhirline.mappers.times import EventTime
from fhirline.streams.authoring.samples import Sample

RECEIVED_AT = "2024-06-01T12:00:00Z"
"""Time of receipt of a golden case that names none (tests/support/cases.py)."""

LARGE = 50_000
"""Bytes of a case from which its lists and texts are cut."""

MOST_ITEMS, LONGEST_TEXT = 3, 2_000

EventTimeOf = Callable[[Envelope], EventTime]


def own_time(sample: Sample, event_time: EventTimeOf) -> Instant | None:
    """Return the time that a sample itself names; None where it names none."""
    end_of_time = Instant.parse("9999-12-31T00:00:00Z")
    assert end_of_time is not None
    found = event_time(Envelope("", "", end_of_time, sample.body, ""))
    return None if found.from_received else found.instant


def golden_case(samples: Collection[Sample], event_time: EventTimeOf, used: Collection[str]) -> tuple[str, bool]:
    """Write the ``.in.json`` of an event, and tell whether its content was cut.

    The values at the pointers that are ``used`` stay, also where their keys look like a secret's.
    """
    bodies = [_masked(sample.body, "", used) for sample in samples]
    if cut := len(_text(bodies)) > LARGE:
        bodies = [_cut(body) for body in bodies]
    times = [time for sample in samples if (time := own_time(sample, event_time))]
    late = _late_receipt(times)
    return f"{_text({**late, 'events': bodies})}\n", cut


def _late_receipt(times: Collection[Instant]) -> dict[str, str]:
    """Return the case's ``received_at``, the first whole second after all times; empty if the default is later."""
    default = Instant.parse(RECEIVED_AT)
    assert default is not None
    latest = max(times, key=lambda time: time.order, default=default)
    if latest <= default:
        return {}
    seconds, fraction = latest.order
    received = Instant.from_unix(Decimal(seconds + (1 if fraction else 0)))
    return {"received_at": received.text} if received else {}


def _text(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False)


def _masked(value: Any, pointer: str, used: Collection[str]) -> Any:
    """Replace every value whose key looks like a secret's."""
    if isinstance(value, list):
        return [_masked(item, f"{pointer}/*", used) for item in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for key, item in value.items():
        at = f"{pointer}/{escape(key)}"
        if secret_key(key) and not any(entry == at or entry.startswith(f"{at}/") for entry in used):
            found[key] = item if item in (None, "", [], {}) else REDACTED
        else:
            found[key] = _masked(item, at, used)
    return found


def _cut(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _cut(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_cut(item) for item in value[:MOST_ITEMS]]
    return value[:LONGEST_TEXT] if isinstance(value, str) else value
