"""``fhirline infermedica webhooks``: where an Infermedica instance sends its webhooks."""

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings, load_settings
from fhirline.config.vendors import DEFAULT_TENANT
from fhirline.streams.observe.terminal import json_text

if TYPE_CHECKING:
    from fhirline.streams.enrich.infermedica.client import CallFailed
    from fhirline.streams.enrich.infermedica.webhook_token import NewToken, TokenSource
    from fhirline.streams.enrich.infermedica.webhooks import Webhook, Webhooks

FAILED = 1
"""Exit code where the instance refused, or did not answer."""

OPAQUE = re.compile(r"[\w+/=.~-]{16,}")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
LONGEST = 200

T = TypeVar("T")
Tenant = Annotated[str, typer.Option(help="Tenant slug, where vendors.yaml gives it an instance or a token of its own")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of the table")]
Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the configuration, as `list` shows it")]
Events = Annotated[
    list[str] | None,
    typer.Option("--event", help="Event to subscribe to; may be given again; survey_finished is known"),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        dir_okay=False,
        help="File whose last line is the token; default: the gateway's (FHIRLINE_INFERMEDICA_TOKEN_FILE, or the "
        "token itself in FHIRLINE_INFERMEDICA_TOKEN)",
    ),
]
Generate = Annotated[bool, typer.Option("--generate", help="Put a new token behind those in the file, and use it")]


def register(app: typer.Typer) -> None:
    names = {"help_option_names": ["-h", "--help"]}
    infermedica = typer.Typer(
        name="infermedica", help="An Infermedica instance's own settings.", no_args_is_help=True, context_settings=names
    )
    webhooks = typer.Typer(
        name="webhooks",
        help="Where an Infermedica instance sends its webhooks. Tokens are never shown. Exit 0: done. Exit 1: the "
        "instance refused, or did not answer. Exit 2: a wrong argument or setting.",
        no_args_is_help=True,
        context_settings=names,
    )
    webhooks.command("list")(list_)
    webhooks.command("show")(show)
    webhooks.command("create")(create)
    webhooks.command("update")(update)
    webhooks.command("rotate-token")(rotate_token)
    webhooks.command("delete")(delete)
    infermedica.add_typer(webhooks)
    app.add_typer(infermedica)


def list_(tenant: Tenant = DEFAULT_TENANT, as_json: AsJson = False) -> None:
    """List the configurations that belong to the client."""
    session = Session(tenant)
    found = session.call(lambda webhooks: webhooks.list())
    session.print(found, as_json=as_json, one=False)


def show(id_: Id, tenant: Tenant = DEFAULT_TENANT, as_json: AsJson = False) -> None:
    """Show one configuration."""
    session = Session(tenant)
    session.print([session.call(lambda webhooks: webhooks.show(id_))], as_json=as_json)


def create(
    url: Annotated[str, typer.Argument(help="Where webhooks go: https://<gateway>/webhooks/infermedica")],
    events: Events = None,
    token_file: TokenFile = None,
    generate: Generate = False,
    tenant: Tenant = DEFAULT_TENANT,
    as_json: AsJson = False,
) -> None:
    """Register a configuration, with the token that the gateway takes."""
    session = Session(tenant)
    _check_url(url)
    wanted = events or ["survey_finished"]

    def with_token(webhooks: "Webhooks", token: str) -> Awaitable["Webhook"]:
        return webhooks.create(url, wanted, token)

    session.print([session.call_with_token(with_token, token_file, generate)], as_json=as_json)


def update(
    id_: Id,
    url: Annotated[str | None, typer.Option(help="Where webhooks go from now on")] = None,
    events: Events = None,
    tenant: Tenant = DEFAULT_TENANT,
    as_json: AsJson = False,
) -> None:
    """Change URL or events; what is not given stays as it is."""
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
    """Give a configuration the token of the file, or a new one.

    With --generate, the new token is put behind the old ones, which the gateway goes on taking; remove their lines once
    webhooks arrive with the new one. Nothing is refused meanwhile.
    """
    session = Session(tenant)
    found = session.call_with_token(lambda webhooks, token: webhooks.set_token(id_, token), token_file, generate)
    session.print([found], as_json=as_json)
    if generate:
        _say("the gateway takes old and new token now; remove the old line once webhooks arrive with the new one")


def delete(
    id_: Id,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask")] = False,
    tenant: Tenant = DEFAULT_TENANT,
    as_json: AsJson = False,
) -> None:
    """Delete a configuration: the instance then sends nothing to its URL any more."""
    session = Session(tenant)
    if not yes:
        known = session.call(lambda webhooks: webhooks.show(id_))
        question = f"Delete the configuration that sends webhooks to {session.safe(known.url)}?"
        if not typer.confirm(question, err=True):
            raise typer.Exit(FAILED)
    session.print([session.call(lambda webhooks: webhooks.delete(id_))], as_json=as_json)


class Session:
    """One command's talk with a tenant's instance. Knows every secret that is in it, so as to print none."""

    def __init__(self, tenant: str) -> None:
        from fhirline.streams.enrich.infermedica.instances import instance_of, tenant_settings
        from fhirline.streams.observe.logs import configure_logging
        from fhirline.streams.step1_receive.credentials import Secrets, environment

        self.settings: Settings = load_settings()
        configure_logging(self.settings.model_copy(update={"log_level": "warning"}))  # "secret file read" is noise here
        self._environment = environment()
        self._tenant = tenant_settings(self.settings, tenant)
        secrets = Secrets(self._environment)
        self._instance = instance_of(self.settings, tenant, secrets, None)
        credential = self._tenant.credential
        held = secrets.valid(credential.secrets) if credential else []
        self._secrets = {self._instance.secret(), *(each.decode("utf-8", "replace") for each in held)}

    def call(self, work: Callable[["Webhooks"], Awaitable[T]]) -> T:
        """The answer, or exit 1 with one line that says what went wrong."""
        from fhirline.streams.enrich.infermedica.client import CallFailed

        try:
            return self._call(work)
        except CallFailed as failure:
            raise self._failed(failure) from None

    def call_with_token(
        self, work: Callable[["Webhooks", str], Awaitable[T]], token_file: Path | None, generate: bool
    ) -> T:
        """The same with a token; a generated one leaves the file again where the instance has surely not taken it."""
        from fhirline.streams.enrich.infermedica.client import CallFailed
        from fhirline.streams.enrich.infermedica.webhook_token import NewToken, token_source

        source = token_source(self._tenant, self._environment, token_file)
        self._secrets.update(source.tokens)
        new: NewToken | None = NewToken(source) if generate else None
        token = new.token if new else self._held(source)
        self._secrets.add(token)
        if source.readable_by_others:
            _say(f"{source.path} can be read by others: chmod 600 is enough for the gateway's own user")
        try:
            return self._call(lambda webhooks: work(webhooks, token))
        except CallFailed as failure:
            if new is not None:
                self._withdraw(new, failure)
            raise self._failed(failure) from None
        except ConfigurationError:
            if new is not None:
                new.withdraw()
            raise

    def print(self, webhooks: Sequence["Webhook"], *, as_json: bool, one: bool = True) -> None:
        rows = [
            (self.safe(w.id), self.safe(w.url), [self.safe(event) for event in w.subscribed_events]) for w in webhooks
        ]
        if as_json:
            shown = [{"id": id_, "url": url, "subscribed_events": events} for id_, url, events in rows]
            print(json_text(shown[0] if one else shown))
        else:
            _show(("id", "url", "events"), [(id_, url, ", ".join(events)) for id_, url, events in rows])

    def safe(self, text: str) -> str:
        """For a terminal: no secret that we know of, and no control character."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "[redacted]") if secret else text
        return CONTROL.sub(" ", text)

    def _call(self, work: Callable[["Webhooks"], Awaitable[T]]) -> T:
        from fhirline.streams.enrich.infermedica.client import Client, new_session
        from fhirline.streams.enrich.infermedica.webhooks import Webhooks

        async def called() -> T:
            async with new_session() as session:
                limits = (self.settings.infermedica_timeout, self.settings.max_body_bytes)
                return await work(Webhooks(Client(session, self._instance, *limits)))

        return asyncio.run(called())

    def _held(self, source: "TokenSource") -> str:
        if source.path is None and not source.tokens:
            raise ConfigurationError(
                f"{source.name} and {source.name}_FILE are not set: set one as for the gateway, or give --token-file"
            )
        return source.newest

    def _withdraw(self, new: "NewToken", failure: "CallFailed") -> None:
        refused = failure.status is not None and 400 <= failure.status < 500 and failure.status != 408
        if refused or failure.code.startswith(("token-", "secret-")):
            new.withdraw()
        else:
            _say(
                "the new token stays in the file, since the instance may have taken it; run rotate-token again, "
                "without --generate, to be sure"
            )

    def _failed(self, failure: "CallFailed") -> typer.Exit:
        said = OPAQUE.sub(
            lambda found: "[...]" if any(map(str.isdigit, found[0])) else found[0], self.safe(failure.said)
        )
        _say(f"{self._instance.url}: {reason(failure)}" + (f"; it says: {said[:LONGEST]}" if said else ""))
        return typer.Exit(FAILED)


def reason(failure: "CallFailed") -> str:
    """What went wrong, and what to do next."""
    if failure.code.startswith("token-") and failure.status in (400, 401, 403):
        return (
            f"the OAuth client credentials are refused ({failure.status}): check FHIRLINE_INFERMEDICA_CLIENT_ID, "
            "_CLIENT_SECRET and _SCOPES"
        )
    match failure.status:
        case 401 | 403:
            return (
                f"the client may not do this ({failure.status}): its scopes (FHIRLINE_INFERMEDICA_SCOPES) must cover "
                "webhook configurations"
            )
        case 404:
            return "there is no such configuration (404): see `fhirline infermedica webhooks list`"
        case 409:
            return "it conflicts with a configuration that exists (409): see `fhirline infermedica webhooks list`"
        case 429:
            return "too many requests (429): try again" + (
                f" in {failure.retry_after:g} s" if failure.retry_after is not None else " later"
            )
        case int(status) if status >= 500:
            return f"the instance has an error ({status}): try again later; `list` shows whether it took the change"
        case int(status):
            return f"the instance refuses the request ({failure.code}, {status})"
    if failure.code == "unexpected-answer":
        return "the answer is no webhook configuration: is FHIRLINE_INFERMEDICA_URL the instance's?"
    return f"no answer ({failure.code}): check FHIRLINE_INFERMEDICA_URL; `list` shows whether it took the change"


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or CONTROL.search(url):
        raise ConfigurationError("the URL must be absolute, https://<gateway>/webhooks/infermedica")


def _show(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on a terminal; elsewhere one line a row, tab between the fields, for other programs."""
    console = Console()
    if console.is_terminal:
        table = Table(*columns)
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(table)
        return
    for row in (columns, *rows):
        print("\t".join(row))


def _say(line: str) -> None:
    print(f"fhirline infermedica: {line}", file=sys.stderr)
