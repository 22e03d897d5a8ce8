"""The configuration of an instance's webhooks: every documented call of ``/api/v2/config/webhook``.

The token is only sent. Of an answer, only id, URL and events are read, even where the instance echoes the token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fhirline.config.errors import ConfigurationError
from fhirline.streams.enrich.infermedica.client import CallFailed, Client

PATH = "/api/v2/config/webhook"
SURVEY_FINISHED = "survey_finished"
"""The only event in the vendor's guide."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """A configuration without its token."""

    id: str
    url: str
    subscribed_events: tuple[str, ...]


class Webhooks:
    """The configurations of the client. Every call raises CallFailed. None is retried, since the instance may have
    carried out a call whose answer was lost."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def list(self) -> Sequence[Webhook]:
        answer = await self._client.call("GET", PATH)
        if not isinstance(answer, list):
            raise CallFailed("unexpected-answer")
        return [webhook(item) for item in answer]

    async def show(self, id_: str) -> Webhook:
        return webhook(await self._client.call("GET", _path(id_)))

    async def create(self, url: str, events: Sequence[str], token: str) -> Webhook:
        body = {"url": url, "authorization_token": token, "subscribed_events": list(events)}
        return webhook(await self._client.call("POST", PATH, body))

    async def update(self, id_: str, url: str | None, events: Sequence[str] | None) -> Webhook:
        """Change the URL or the events of a configuration; None keeps the present ones."""
        body = {"url": url, "subscribed_events": events and list(events)}
        changes = {name: value for name, value in body.items() if value is not None}
        return webhook(await self._client.call("PATCH", _path(id_), changes))

    async def set_token(self, id_: str, token: str) -> Webhook:
        return webhook(await self._client.call("PATCH", _path(id_), {"authorization_token": token}))

    async def delete(self, id_: str) -> Webhook:
        return webhook(await self._client.call("DELETE", _path(id_)))


def webhook(answer: Any) -> Webhook:
    """Read the configuration in an answer, and nothing else. Raises CallFailed."""
    known = answer if isinstance(answer, dict) else {}
    id_, url, events = known.get("id"), known.get("url"), known.get("subscribed_events")
    if not isinstance(id_, str):
        raise CallFailed("unexpected-answer")
    named = tuple(event for event in events if isinstance(event, str)) if isinstance(events, list) else ()
    return Webhook(id_, url if isinstance(url, str) else "", named)


def _path(id_: str) -> str:
    if id_ in ("", ".", ".."):
        raise ConfigurationError("not a webhook's id: see `fhirline infermedica webhooks list`")
    return f"{PATH}/{quote(id_, safe='')}"
