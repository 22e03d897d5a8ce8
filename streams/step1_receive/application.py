"""The gateway's HTTP application: webhooks in, raw records out to Kafka.

202 means that all in-sync replicas have the event. After any other answer the vendor still has the only copy (429, 503:
send it again later; another 4xx: correct it first). A refusal is JSON with a stable code and a sentence, and repeats
nothing of the request.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

import orjson
import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from structlog.contextvars import bind_contextvars

from fhirline.config.errors import FhirlineError
from fhirline.config.settings import Settings
from fhirline.config.vendors import Credential, Vendors
from fhirline.mappers.pipeline.body import UnreadableBody, fingerprint
from fhirline.streams.kafka.encryption.secrets import encryption
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.step1_receive.body import BodyTooLarge, Displaced, UnverifiedBodies, UnverifiedBody, read_up_to
from fhirline.streams.step1_receive.credentials import CredentialCheck, Secrets, is_fresh
from fhirline.streams.step1_receive.metrics import REFUSAL, UNREADABLE
from fhirline.streams.step1_receive.rate_limit import RateLimits
from fhirline.streams.step1_receive.raw_producer import KafkaUnavailable, RawProducer, RecordTooLarge
from fhirline.streams.step1_receive.raw_record import now, raw_record
from fhirline.streams.step1_receive.routes import NoRoute, Route, Routes
from fhirline.topics.declared import KEYS, raw_topic

log = structlog.get_logger()

SERVER = "fhirline"

CLIENT_GONE = 499
"""Status, for the access log, of a request whose sender closed the connection while it was read."""


@dataclass(eq=False)
class Refusal(FhirlineError):
    """A webhook is answered with another status than 202."""

    status: int
    code: str
    detail: str
    headers: dict[str, str] = field(default_factory=dict)
    cause: str = ""
    """The reason why a body is unreadable (`mappers.pipeline.body.CAUSES`); else empty."""

    def answer(self) -> web.Response:
        response = answer(self.status, {"error": self.code, "detail": self.detail}, self.headers)
        response[REFUSAL] = self.code
        response[UNREADABLE] = self.cause
        return response


class Gateway:
    """The handlers of the gateway's routes. The caller stops the producer after the last request."""

    def __init__(
        self,
        settings: Settings,
        vendors: Vendors,
        secrets: Secrets,
        producer: RawProducer,
        away: Callable[[], list[str]],
    ) -> None:
        """Make the gateway's handlers.

        ``away`` returns the problems while Kafka does not answer, without a request to Kafka.
        """
        self._away = away
        self._seals = encryption(settings) is not None
        self._settings = settings
        self._vendors = vendors
        self._routes = Routes(vendors)
        self._secrets = secrets
        self._producer = producer
        self._in_flight = 0
        self._limits = RateLimits(vendors)
        self._unverified = UnverifiedBodies(
            settings.unverified_bodies, max(settings.unverified_body_bytes, settings.max_body_bytes)
        )
        self._credentials = {
            (vendor, tenant): vendors[vendor].settings(tenant).credential
            for vendor in vendors.names
            for tenant in vendors[vendor].tenants
        }

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add every route, with and without a slash at its end."""
        for end in ("", "/"):
            router.add_post(f"/webhooks/{{vendor}}{end}", self.receive)
            router.add_post(f"/webhooks/{{vendor}}/{{first}}{end}", self.receive)
            router.add_post(f"/webhooks/{{vendor}}/{{first}}/{{second}}{end}", self.receive)
            router.add_get(f"/healthz{end}", self.healthy)
            router.add_get(f"/readyz{end}", self.ready)

    async def receive(self, request: web.Request) -> web.Response:
        """Answer one webhook. The order of the checks is a contract: nothing of an unverified sender is parsed."""
        try:
            route = self._routes.resolve(*request.match_info.values())
        except NoRoute as error:
            raise Refusal(404, error.code, str(error)) from None
        bind_contextvars(vendor=route.vendor, tenant=route.tenant)
        check_media_type(request)
        credential = self._credentials[route.vendor, route.tenant]
        seconds = self._settings.gateway_read_timeout
        check = self._check_head(request, route, credential)
        if check.signed:
            body = await self._body(request, check.update, self._unverified.body(route.vendor, seconds))
            if not check.matches():
                raise unauthorized()
            self._check_rate(route)
        else:
            self._check_rate(route)
            body = await self._body(request, check.update, asyncio.timeout(seconds))
        record = self._record(route, body)
        bind_contextvars(event_key=record.event_key)
        await self._store(record)
        return answer(202, {"event_key": record.event_key})

    async def healthy(self, _: web.Request) -> web.Response:
        """Answer 200: the process is up and its event loop runs."""
        return answer(200, {"status": "ok"})

    async def ready(self, _: web.Request) -> web.Response:
        """Answer 200 if Kafka has the raw topics and every vendor a secret, else 503 with what is missing.

        A known outage is answered at once: a probe waits a second or so.
        """
        problems = self.missing_secrets()
        if away := self._away():
            return answer(503, {"status": "not ready", "problems": problems + away})
        try:
            topics = await self._producer.topics()
            needed = [*map(raw_topic, self._vendors.names), *([KEYS] if self._seals else [])]
            missing = [topic for topic in needed if topic not in topics]
            problems += [f"{topic}: no such topic; run: fhirline topics apply" for topic in missing]
        except KafkaUnavailable as error:
            problems.append(f"FHIRLINE_BOOTSTRAP: Kafka does not answer ({error})")
        if problems:
            return answer(503, {"status": "not ready", "problems": problems})
        return answer(200, {"status": "ready"})

    def missing_secrets(self) -> list[str]:
        """Return a line for each vendor or tenant without a secret, with the name of the setting."""
        lines: dict[str, None] = {}
        for (name, _), credential in self._credentials.items():
            if credential is None:
                lines[f"vendors.yaml: {name}: no credential; all its webhooks are refused"] = None
            elif not self._secrets.valid(credential.secrets):
                settings = " or ".join(credential.secrets)
                lines[f"{settings} (or _FILE): no secret; all webhooks of {name} are refused"] = None
        return list(lines)

    async def _body(
        self, request: web.Request, read: Callable[[bytes], None], within: AbstractAsyncContextManager[object]
    ) -> bytes:
        """Read the whole body, up to the allowed size, whether or not its length was announced.

        ``read`` is called with each part of it. ``within`` limits the time, and is not entered for a body that is here.
        """
        limit = self._settings.max_body_bytes
        try:
            if (request.content_length or 0) > limit:
                raise BodyTooLarge
            if request.content.is_eof():  # most bodies arrive with their head
                body = request.content.read_nowait()
                if len(body) > limit:
                    raise BodyTooLarge
                read(body)
            else:
                async with within as held:
                    counted = held.add if isinstance(held, UnverifiedBody) else None
                    body = await read_up_to(request.content, limit, read, counted)
        except BodyTooLarge:
            raise Refusal(413, "body-too-large", f"the body is larger than {limit} bytes") from None
        except Displaced:
            again = {"Retry-After": "1"}
            raise Refusal(429, "too-many-bodies", "too many unverified bodies at once; send it again", again) from None
        except TimeoutError:
            raise Refusal(408, "too-slow", "the body did not arrive in time") from None
        except (web.RequestPayloadError, HttpProcessingError):
            raise Refusal(400, "bad-request", "the body's transfer encoding is broken") from None
        except ConnectionError:
            raise Refusal(CLIENT_GONE, "client-gone", "the connection was closed before the body was whole") from None
        if request.content_length not in (None, len(body)):
            raise Refusal(CLIENT_GONE, "client-gone", "the connection was closed before the body was whole")
        return body

    def _check_head(self, request: web.Request, route: Route, credential: Credential | None) -> CredentialCheck:
        """Check what the head tells of the credential: all of a static one; form and time of a signature."""
        if credential is None:
            log.error("no credential configured", setting=f"vendors.yaml: {route.vendor}")
            raise unauthorized()
        secrets = self._secrets.valid(credential.secrets)
        if not secrets:
            log.error("no secret configured", setting=" or ".join(credential.secrets))
            raise unauthorized()
        freshness = credential.freshness
        time_sent = only_header(request, freshness.header) if freshness else None
        check = CredentialCheck(credential, only_header(request, credential.header), secrets, time_sent)
        if not check.possible:
            raise unauthorized()
        if freshness is not None and not is_fresh(freshness, time_sent, time.time()):
            raise Refusal(401, "not-fresh", "the time of the request is missing, or too far from now")
        return check

    def _check_rate(self, route: Route) -> None:
        """Apply the rate limits. After the credential, so that only the vendor can use up its own requests."""
        if wait := self._limits.wait(route.vendor, route.tenant):
            again = {"Retry-After": str(wait)}
            raise Refusal(429, "rate-limited", "more requests than vendors.yaml allows; send it again", again)

    def _record(self, route: Route, body: bytes) -> ProducerRecord:
        try:
            return raw_record(route.vendor, route.tenant, body, now(), route.event, self._settings.max_depth)
        except UnreadableBody as error:
            place = {} if error.line is None else {"line": error.line, "column": error.column}
            log.warning("body unreadable", code=error.code, reason=error.cause, **fingerprint(body), **place)
            raise Refusal(400, error.code, str(error), cause=error.cause) from None

    async def _store(self, record: ProducerRecord) -> None:
        """Write the record to Kafka; return once it is acknowledged."""
        if self._in_flight >= self._settings.max_in_flight:
            raise Refusal(429, "too-many-requests", "too many webhooks at work; send it again", {"Retry-After": "1"})
        self._in_flight += 1
        try:
            await self._producer.send(record)
        except RecordTooLarge:
            raise Refusal(413, "record-too-large", "the event is larger than Kafka takes") from None
        except KafkaUnavailable as error:
            bind_contextvars(reason=str(error))
            again = {"Retry-After": "5"}
            raise Refusal(503, "kafka-unavailable", "the event could not be kept; send it again", again) from None
        finally:
            self._in_flight -= 1


def unauthorized() -> Refusal:
    return Refusal(401, "unauthorized", "the credential is missing or wrong")


def only_header(request: web.Request, name: str) -> str | None:
    """Return the value of a header that was sent once, else None."""
    sent = request.headers.getall(name, [])
    return sent[0] if len(sent) == 1 else None


def check_media_type(request: web.Request) -> None:
    """Refuse everything but JSON in UTF-8. A request without a Content-Type is taken as JSON."""
    refused = Refusal(415, "unsupported-media-type", "send application/json in UTF-8, not compressed")
    if request.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise refused  # a signature covers the bytes as sent, and a few bytes could unpack to gigabytes
    if not request.headers.get("Content-Type", "").strip():
        return
    kind = request.content_type
    charset = (request.charset or "utf-8").strip("'\"").lower()
    json = kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
    if not json or charset not in ("utf-8", "utf8", "us-ascii"):
        raise refused


def answer(status: int, content: dict[str, object], headers: dict[str, str] | None = None) -> web.Response:
    """Answer as JSON. aiohttp's own ``Server`` header would name its version and Python's."""
    named = {"Server": SERVER, **(headers or {})}
    return web.Response(status=status, body=orjson.dumps(content), content_type="application/json", headers=named)
