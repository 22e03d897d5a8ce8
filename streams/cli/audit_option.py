"""The option of every command that leaves an audit event."""

from typing import Annotated

import typer

As = Annotated[
    str | None,
    typer.Option(
        "--as", metavar="NAME", help="Who you are, for the audit event, which has the operating system's user besides"
    ),
]
