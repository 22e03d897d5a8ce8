"""``fhirline console``: pages that show what the pipeline does."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fhirline.streams.cli.help import OPERATE, add


class Action(StrEnum):
    """Actions that change something."""

    redrive = "redrive"
    replay = "replay"


def register(app: typer.Typer) -> None:
    add(app, OPERATE, "console", console)


def console(
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: FHIRLINE_CONSOLE_HOST.")] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help="Port; 0 takes a free one. Default: FHIRLINE_CONSOLE_PORT."),
    ] = None,
    allow: Annotated[
        list[Action] | None, typer.Option(help="Allow an action that changes something. Default: none.")
    ] = None,
    address_file: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write the address here once the console listens.")
    ] = None,
) -> None:
    """Serve pages that show events, dead letters, code tables and a playground for mappings.

    It prints an address with a token; open it in a browser. With `FHIRLINE_CONSOLE_USER_HEADER` a reverse proxy names
    the user, and no token is needed. Patient data are shown only to a user who gives a reason, which is audited. It
    changes nothing unless --allow permits it. Runs until Ctrl-C.

    Exit codes:

    * 0: stopped.
    * 2: a wrong setting, the port is in use, or the cluster does not answer.

    Example:

    ```console
    $ fhirline console --allow redrive
    ```
    """
    import asyncio
    import logging
    import secrets
    import sys

    from fhirline.config.secret import secret
    from fhirline.config.settings import load_settings
    from fhirline.streams.cli.connection import require_topics
    from fhirline.streams.console.server import serve
    from fhirline.streams.observe.logs import configure_logging

    own = {"console_host": host, "console_port": port}
    settings = load_settings(**{name: value for name, value in own.items() if value is not None})
    configure_logging(settings)
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # its errors are raised
    require_topics(settings)
    token = secret(settings, "console_token")
    made = token or secrets.token_urlsafe(24)

    def show(url: str) -> None:
        """Print the address. A token that is configured, or not asked for, is not printed."""
        print(_shown(url, None if token else made, settings.console_user_header), file=sys.stderr, flush=True)
        if address_file is not None:
            address_file.write_text(url)

    asyncio.run(serve(settings, made, frozenset(action.value for action in allow or ()), show))


def _shown(url: str, token: str | None, user_header: str | None) -> str:
    if user_header is not None:
        return f"{url} (no token is asked for: the reverse proxy names the user in {user_header})"
    return f"{url}login?token={token}" if token else url
