"""Checks of what the newest events have and the mapping does not know: words without a row, paths without a rule."""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

from fhirline.config.settings import Settings
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.mappers.pipeline.limits import TooComplex
from fhirline.mappers.pipeline.normalize import InMemoryState
from fhirline.mappers.registry import VENDORS
from fhirline.streams.operate.doctor.finding import Finding, ok, several, warning
from fhirline.streams.operate.terminology import raw
from fhirline.streams.operate.terminology.missing import Missing

NEWEST = 100
"""Events of each vendor that are looked at."""

LARGEST = 1 << 18
"""Bytes of a body that is looked at. A larger one would take seconds."""


def coverage(settings: Settings) -> Iterator[Finding]:
    """Map the newest events of each vendor in memory, and count what is missing. No value is shown.

    Raises KafkaAccessError, and ConfigurationError where a topic or a table cannot be read.
    """
    normalize = build_normalizer(settings.model_copy(update={"validation": "off"}))
    for vendor in VENDORS:
        if vendor not in normalize.vendors.names:
            continue
        missing = Missing(normalize.terminology)
        records = (item for item in raw.newest(settings, vendor, NEWEST) if len(item.value or b"") <= LARGEST)
        for envelope in raw.envelopes(records):
            with suppress(TooComplex):  # it is a dead letter
                missing.add(normalize(envelope, InMemoryState()), envelope.body)
        if not missing.events:
            yield ok("words", f"{vendor}: no event to look at")
            continue
        newest = f"{vendor}: the newest events ({missing.events})"
        if missing.tables:
            yield warning(
                "words",
                f"{newest} have words without a row in their table: {_listed(missing.tables)}",
                f"fhirline terminology draft {vendor} --since TIME --reason TEXT drafts the rows to review",
            )
        if missing.drift:
            yield warning(
                "paths",
                f"{newest} have values at paths without a rule: {_listed(missing.drift)}",
                'see "A vendor changes its payload" in docs/operations.md; the values are kept',
            )
        if not missing.tables and not missing.drift:
            yield ok("words", f"{newest} have no word without a row, and no path without a rule")


def _listed(counts: Counter[str]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item))
    return several([f"{what} {count:,}" for what, count in ordered], most=10)
