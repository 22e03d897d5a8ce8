"""``fhirline infermedica webhooks``: where an Infermedica instance sends its webhooks."""

from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from fhirline.config.errors import ConfigurationError
from fhirline.config.vendors import DEFAULT_TENANT
from fhirline.streams.cli.errors import warn
from fhirline.streams.cli.help import group
from fhirline.streams.cli.infermedica.session import CONTROL, Session
from fhirline.streams.cli.options import AsJson
from fhirline.streams.cli.output import confirm

if TYPE_CHECKING:
    from fhirline.streams.enrich.infermedica.webhooks import Webhook, Webhooks

Tenant = Annotated[
    str, typer.Option(help="Tenant slug, where vendors.yaml gives the tenant its own instance or token.")
]
Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the configuration, as `list` shows it.")]
Events = Annotated[
    list[str] | None,
    typer.Option("--event", help="Event to subscribe to, such as survey_finished. May be repeated."),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        dir_okay=False,
        help="File whose last line is the token. Default: the gateway's (FHIRLINE_INFERMEDICA_TOKEN_FILE, or the token "
        "itself in FHIRLINE_INFERMEDICA_TOKEN).",
    ),
]
Generate = Annotated[bool, typer.Option("--generate", help="Append a new token to the file, and use it.")]


def register(infermedica: typer.Typer) -> None:
    webhooks = group(
        infermedica,
        "webhooks",
        "Read and change where an Infermedica instance sends its webhooks. Tokens are never shown.\n\n"
        "Exit codes of all commands:\n\n* 0: done.\n* 1: the instance refused, or did not answer.\n"
        "* 2: a wrong argument or setting.",
    )
    webhooks.command("list")(list_)
    webhooks.command("show")(show)
    webhooks.command("create")(create)
    webhooks.command("update")(update)
    webhooks.command("rotate-token")(rotate_token)
    webhooks.command("delete")(delete)


def list_(tenant: Tenant = DEFAULT_TENANT, as_json: AsJson = False) -> None:
    """List the client's webhook configurations."""
    session = Session(tenant)
    found = session.call(lambda webhooks: webhooks.list())
    session.print(found, as_json=as_json, one=False)


def show(id_: Id, tenant: Tenant = DEFAULT_TENANT, as_json: AsJson = False) -> None:
    """Show one webhook configuration."""
    session = Session(tenant)
    session.print([session.call(lambda webhooks: webhooks.show(id_))], as_json=as_json)


def create(
    url: Annotated[str, typer.Argument(help="URL of the gateway: https://HOST/webhooks/infermedica.")],
    events: Events = None,
    token_file: TokenFile = None,
    generate: Generate = False,
    tenant: Tenant = DEFAULT_TENANT,
    as_json: AsJson = False,
) -> None:
    """Create a webhook configuration, with the token that the gateway accepts.

    Without --event it subscribes to survey_finished.

    Example:

    ```console
    $ fhirline infermedica webhooks create https://gateway.example.org/webhooks/infermedica
    ```
    """
    session = Session(tenant)
    _check_url(url)
    wanted = events or ["survey_finished"]

    def with_token(webhooks: "Webhooks", token: str) -> Awaitable["Webhook"]:
        return webhooks.create(url, wanted, token)

    session.print([session.call_with_token(with_token, token_file, generate)], as_json=as_json)


def update(
    id_: Id,
    url: Annotated[str | None, typer.Option(help="New URL of the gateway.")] = None,
    events: Events = None,
    tenant: Tenant = DEFAULT_TENANT,
    as_json: AsJson = False,
) -> None:
    """Change the URL or the events of a webhook configuration. What is not given stays as it is."""
    if url is None and not events:
        raise ConfigurationError("nothing to update: give --url, --event or both (tokens: rotate-token)")
    if url is not None:
        _check_url(url)
    session = Session(tenant)
    session.print([session.call(lambda webhooks: webhooks.update(id_, url, events or None))], as_json=as_json)


def rotate_token(
    id_: Id,
    token_file: TokenFile = None,
    generate: Generate = False,
    tenant: Tenant = DEFAULT_TENANT,
    as_json: AsJson = False,
) -> None:
    """Give a webhook configuration the token of the file, or a new one.

    With --generate, the new token is appended to the file, and the gateway accepts the old and the new one without a
    restart. Remove the old line once webhooks arrive with the new token.
    """
    session = Session(tenant)
    found = session.call_with_token(lambda webhooks, token: webhooks.set_token(id_, token), token_file, generate)
    session.print([found], as_json=as_json)
    if generate:
        warn(
            "infermedica",
            "the gateway accepts the old and the new token; remove the old line once webhooks arrive with the new one",
        )


def delete(
    id_: Id,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    tenant: Tenant = DEFAULT_TENANT,
    as_json: AsJson = False,
) -> None:
    """Delete a webhook configuration. The instance then sends no more webhooks to its URL."""
    session = Session(tenant)
    if not yes:
        known = session.call(lambda webhooks: webhooks.show(id_))
        confirm(f"Delete the configuration that sends webhooks to {session.safe(known.url)}?", yes, piped=True)
    session.print([session.call(lambda webhooks: webhooks.delete(id_))], as_json=as_json)


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or CONTROL.search(url):
        raise ConfigurationError("the URL must be absolute, https://<gateway>/webhooks/infermedica")
