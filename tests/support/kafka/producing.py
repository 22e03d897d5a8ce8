"""Producers of tests."""

import logging
from collections.abc import Mapping

from confluent_kafka import Producer

from fhirline.config.settings import Settings
from fhirline.streams.kafka.clients import producer_config
from tests.support.waiting import LIMIT


def patient_producer(
    settings: Settings, more: Mapping[str, str | int] | None = None, logger: logging.Logger | None = None
) -> Producer:
    """Make fhirline's own producer, which waits for a slow machine's broker as long as a test does."""
    config = producer_config(settings, **{"delivery.timeout.ms": int(LIMIT * 1_000), **(more or {})})
    return Producer(config, logger=logger) if logger else Producer(config)
