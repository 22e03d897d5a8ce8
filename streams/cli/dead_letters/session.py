"""What each command of ``fhirline dead-letters`` begins with: settings, the board of letters, and reading it."""

import logging
from typing import TYPE_CHECKING

from fhirline.config.errors import ConfigurationError
from fhirline.streams.cli.connection import CONNECT_SECONDS
from fhirline.streams.cli.options import known_vendors
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

    if DEAD_LETTER_STATUS not in connect(settings, CONNECT_SECONDS).topics:
        raise ConfigurationError(f"topic {DEAD_LETTER_STATUS} is missing: run `fhirline topics apply`")
    vendors = load_vendors(settings.vendors_file).names
    known_vendors("--vendor", wanted.vendors, vendors)
    return Board(settings, wanted.vendors or vendors)


def read(board: "Board") -> "list[Case]":
    """Read every case, and report progress."""
    with progress() as reporter:
        return board.read(counting(reporter, "reading dead letters"))
