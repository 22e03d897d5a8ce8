"""A command's calls to a tenant's Infermedica instance, and what it prints of them: never a secret."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from fhirline.config.errors import ConfigurationError
from fhirline.config.exit_codes import REFUSED
from fhirline.config.settings import Settings, load_settings
from fhirline.streams.cli.errors import CommandFailed, warn
from fhirline.streams.cli.output import print_json, print_table

if TYPE_CHECKING:
    from fhirline.streams.enrich.infermedica.client import CallFailed
    from fhirline.streams.enrich.infermedica.webhook_token import NewToken, TokenSource
    from fhirline.streams.enrich.infermedica.webhooks import Webhook, Webhooks

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
OPAQUE = re.compile(r"[\w+/=.~-]{16,}")
"""Words of an instance's answer that are left out where they have a digit: each may be a token."""

LONGEST = 200
"""Characters of an instance's answer that are printed."""

T = TypeVar("T")


class Session:
    """Calls a tenant's instance. Keeps every secret of the tenant, in order to print none."""

    def __init__(self, tenant: str) -> None:
        from fhirline.streams.enrich.infermedica.instances import instance_of, tenant_settings
        from fhirline.streams.observe.logs import configure_logging
        from fhirline.streams.step1_receive.credentials import Secrets, environment

        self.settings: Settings = load_settings()
        configure_logging(self.settings.model_copy(update={"log_level": "warning"}))  # hides "secret file read"
        self._environment = environment()
        self._tenant = tenant_settings(self.settings, tenant)
        secrets = Secrets(self._environment)
        self._instance = instance_of(self.settings, tenant, secrets, None)
        credential = self._tenant.credential
        valid = secrets.valid(credential.secrets) if credential else []
        self._secrets = {self._instance.secret(), *(secret.decode("utf-8", "replace") for secret in valid)}

    def call(self, work: Callable[["Webhooks"], Awaitable[T]]) -> T:
        """Return the answer. Raises CommandFailed where the instance refuses or does not answer."""
        from fhirline.streams.enrich.infermedica.client import CallFailed

        try:
            return self._call(work)
        except CallFailed as failure:
            raise self._failed(failure) from None

    def call_with_token(
        self, work: Callable[["Webhooks", str], Awaitable[T]], token_file: Path | None, generate: bool
    ) -> T:
        """Call with a token. A generated one is removed from the file where the instance has certainly not taken it."""
        from fhirline.streams.enrich.infermedica.client import CallFailed
        from fhirline.streams.enrich.infermedica.webhook_token import NewToken, token_source

        source = token_source(self._tenant, self._environment, token_file)
        self._secrets.update(source.tokens)
        new: NewToken | None = NewToken(source) if generate else None
        token = new.token if new else self._newest(source)
        self._secrets.add(token)
        if source.readable_by_others:
            _warn(f"{source.path} can be read by others: chmod 600 is enough for the gateway's own user")
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
        """Print configurations as a table or JSON. ``one``: the JSON is an object, not a list."""
        rows = [
            (
                self.safe(webhook.id),
                self.safe(webhook.url),
                [self.safe(event) for event in webhook.subscribed_events],
            )
            for webhook in webhooks
        ]
        if as_json:
            documents = [{"id": id_, "url": url, "subscribed_events": events} for id_, url, events in rows]
            print_json(documents[0] if one else documents)
        else:
            print_table(("id", "url", "events"), [(id_, url, ", ".join(events)) for id_, url, events in rows])

    def safe(self, text: str) -> str:
        """Remove known secrets and control characters from a text."""
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

    def _newest(self, source: "TokenSource") -> str:
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
            _warn(
                "the new token stays in the file, since the instance may have taken it; run rotate-token again, "
                "without --generate, to be sure"
            )

    def _failed(self, failure: "CallFailed") -> CommandFailed:
        answer = OPAQUE.sub(
            lambda word: "[...]" if any(map(str.isdigit, word[0])) else word[0], self.safe(failure.said)
        )
        details = f"; it answered: {answer[:LONGEST]}" if answer else ""
        return CommandFailed("infermedica", f"{self._instance.url}: {reason(failure)}{details}", REFUSED)


def reason(failure: "CallFailed") -> str:
    """Explain what went wrong, and what to do next."""
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


def _warn(message: str) -> None:
    warn("infermedica", message)
