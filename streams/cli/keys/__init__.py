"""``fhirline keys``: the keys that patients' events are encrypted with."""

import typer

from fhirline.streams.cli.help import OPERATE, group
from fhirline.streams.cli.keys.destroy_old import destroy_old
from fhirline.streams.cli.keys.encrypt_existing import encrypt_existing
from fhirline.streams.cli.keys.give_up import give_up
from fhirline.streams.cli.keys.list import list_
from fhirline.streams.cli.keys.new import new
from fhirline.streams.cli.keys.rewrap import rewrap
from fhirline.streams.cli.keys.rotate import rotate


def register(app: typer.Typer) -> None:
    commands = group(app, "keys", "Manage the keys that patients' events are encrypted with.", OPERATE)
    commands.command("new")(new)
    commands.command("list")(list_)
    commands.command("rotate")(rotate)
    commands.command("rewrap")(rewrap)
    commands.command("destroy-old")(destroy_old)
    commands.command("give-up")(give_up)
    commands.command("encrypt-existing")(encrypt_existing)
