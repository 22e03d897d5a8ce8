"""The start of each command of ``fhirline dead-letters``: settings, the board of letters, and reading it."""

import logging
from typing import TYPE_CHECKING

from fhirline.config.errors import ConfigurationError
from fhirline.streams.cli.options import TIMEOUT, known_values, known_vendors
from fhirline.streams.cli.output import counting, progress

if TYPE_CHECKING:
    from fhirline.config.settings import Settings
    from fhirline.streams.operate.dead_letters.board import Board
    from fhirline.streams.operate.dead_letters.cases import Case
    from fhirline.streams.operate.dead_letters.selection import Filter


def loaded_settings() -> "Settings":
    """Load the settings and configure the log."""
    from fhirline.config.settings import load_settings
    from fhirline.streams.observe.logs import configure_logging

    settings = load_settings()
    configure_logging(settings)
    logging.getLogger("kafka").setLevel(logging.ERROR)  # its warnings are about its own retries; errors are raised
    return settings


def board_of(settings: "Settings", wanted: "Filter") -> "Board":
    """Open the board of the filter's vendors. Raises ConfigurationError where the status topic is missing."""
    from fhirline.config.vendors import load_vendors
    from fhirline.streams.kafka.connect import connect
    from fhirline.streams.operate.dead_letters.board import Board
    from fhirline.topics.declared import DEAD_LETTER_STATUS

    if DEAD_LETTER_STATUS not in connect(settings, TIMEOUT).topics:
        raise ConfigurationError(f"topic {DEAD_LETTER_STATUS} is missing: run `fhirline topics apply`")
    vendors = load_vendors(settings.vendors_file).names
    known_vendors("--vendor", wanted.vendors, vendors)
    return Board(settings, wanted.vendors or vendors)


def read(board: "Board", wanted: "Filter | None" = None) -> "list[Case]":
    """Read every case, and report progress. Raises ConfigurationError where ``wanted`` names what does not exist."""
    with progress() as reporter:
        found = board.read(counting(reporter, "reading dead letters"))
    if wanted is not None:
        _require_known(wanted, found)
    return found


def _require_known(wanted: "Filter", found: "list[Case]") -> None:
    """Raise ConfigurationError for a value that neither this version knows nor any letter has: a mistyped one."""
    from fhirline.config.settings import load_settings
    from fhirline.config.vendors import load_vendors
    from fhirline.mappers import MAPPING_VERSION
    from fhirline.mappers.pipeline.normalize import UNKNOWN
    from fhirline.mappers.registry import VENDORS, vendor_mapping
    from fhirline.streams.enrich.stage import CODES as ENRICHMENT_CODES
    from fhirline.streams.step2_consume.metrics import CODES

    vendors = load_vendors(load_settings().vendors_file)
    mappings = [vendor_mapping(name) for name in VENDORS]
    events = {event for mapping in mappings for event in (*mapping.events, *mapping.unmapped)}
    letters = [letter for case in found for letter in case.letters]
    for option, given, known in (
        ("--tenant", wanted.tenants, {tenant for name in vendors.names for tenant in vendors[name].tenants}),
        ("--code", wanted.codes, {*CODES, *ENRICHMENT_CODES}),
        ("--event-type", wanted.event_types, {*events, UNKNOWN}),
        ("--mapping-version", wanted.mapping_versions, {MAPPING_VERSION}),
    ):
        field = option.removeprefix("--").replace("-", "_")
        known_values(option, given, {*known, *(getattr(letter, field) for letter in letters)} - {""})
    known_values("--id", wanted.ids, {case.id for case in found}, "no such dead letter; `list --each` shows the ids")
