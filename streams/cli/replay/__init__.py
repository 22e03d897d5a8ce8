"""``fhirline replay``: map raw events again, compare with the topics, and publish what differs."""

import typer

from fhirline.streams.cli.help import OPERATE, add
from fhirline.streams.cli.options import from_options
from fhirline.streams.cli.replay.command import replay
from fhirline.streams.cli.replay.request import ReplayRequest


def register(app: typer.Typer) -> None:
    add(app, OPERATE, "replay", from_options(ReplayRequest, replay))
