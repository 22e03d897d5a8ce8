"""``fhirline infermedica``: an Infermedica instance's own settings."""

import typer

from fhirline.streams.cli.help import VENDORS, group
from fhirline.streams.cli.infermedica import webhooks


def register(app: typer.Typer) -> None:
    infermedica = group(app, "infermedica", "Read and change an Infermedica instance's own settings.", VENDORS)
    webhooks.register(infermedica)
