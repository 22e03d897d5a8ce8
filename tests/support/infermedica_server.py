"""Infermedica's API as its guides document it, errors included, on a free port of this machine.

Answers are those of vendor-payloads.md §2 and of the webhook guide (whose examples' trailing commas are slips). What
the guides leave open (bodies of errors) is JSON with ``detail``. Every person is invented.
"""

import asyncio
import base64
import copy
import threading
import uuid
from collections import defaultdict, deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import orjson
from aiohttp import web

from tests.support.waiting import LIMIT

CLIENT_ID = "intake-client"
CLIENT_SECRET = "intake-client-secret"
SCOPES = ("survey.read", "evidence_assessment.read")

SUMMARY: dict[str, Any] = {
    "patient": {
        "id": "user-unique-id",
        "sex": "male",
        "age": {"type": "year", "value": 31},
        "email": "user@example.com",
        "phone": "+11231231234",
        "full_name": "Jon Smith",
    },
    "visit_reasons": [{"id": "other", "name": "Other"}],
    "chronic_diseases": [{"id": "c_1191", "name": "Diabetic foot infection", "severity": "moderate"}],
    "specialists": [{"id": "sp_10", "name": "Endocrinologist"}],
    "hospitalizations": [
        {"id": "p_318", "name": "History of COVID infection", "last_occurred": "less_than_1_month"},
    ],
    "medications": [
        {"id": "2914", "name": "Adipine", "common_name": "Amlodipinum", "dose": "10 mg", "category": "Tablets"},
    ],
    "allergies": [{"name": "allergic to pollen"}],
    "present_symptoms": [
        {
            "id": "s_13",
            "name": "Abdominal pain",
            "source": "initial",
            "choice_id": "present",
            "seriousness": "normal",
        },
    ],
    "risk_factors": [],
    "additional_comment": "Message to doctor",
}
ASSESSMENT: dict[str, Any] = {
    "conditions": [
        {
            "id": "c_38",
            "name": "Cholecystolithiasis",
            "common_name": "Gallstones within the gallbladder",
            "probability": 0.3437,
            "icd10": [{"code": "K80.2"}],
        },
    ],
    "triage": {
        "level": "consultation_24",
        "serious": [
            {
                "id": "s_471",
                "name": "Abdominal pain, radiating to right shoulder or shoulder blade",
                "common_name": "Stomach pain spreading to the right shoulder area",
                "seriousness": "serious",
            },
        ],
    },
}


@dataclass(frozen=True)
class Fault:
    """An answer out of turn: ``hang`` keeps the request open until the client gives up."""

    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    hang: bool = False


@dataclass
class Webhook:
    id: str
    url: str
    authorization_token: str
    subscribed_events: list[str]

    def shown(self, token: bool = False) -> dict[str, Any]:
        """As the guide answers: the token only where the call has set it."""
        known = {"id": self.id, "url": self.url, "subscribed_events": self.subscribed_events}
        return {**known, "authorization_token": self.authorization_token} if token else known


class InfermedicaServer:
    """A context manager; its attributes may be read and set while it runs.

    ``surveys`` holds statuses (new, pending, completed); ``faults`` are answered first, in their order, by
    ``(survey id, result)``, or by path; ``requests`` is all that was asked, with what it carried.
    """

    def __init__(self, expires_in: float = 3600, echo_tokens: bool = False) -> None:
        self.surveys: dict[str, str] = {}
        self.patients: dict[str, str] = {}
        self.faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self.requests: list[tuple[str, str, Any]] = []
        self.scopes: list[str] = []
        self.webhooks: dict[str, Webhook] = {}
        self.tokens: list[str] = []
        self.valid_tokens: set[str] = set()
        self.client_secret = CLIENT_SECRET
        self.expires_in = expires_in
        self.echo_tokens = echo_tokens
        self.url = ""
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="infermedica")

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._start())
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._run(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def complete(self, *survey_ids: str, patient: str | None = "patient-{}") -> None:
        """Finished surveys, each of a patient of its own; None: of a patient without an id."""
        for item in survey_ids:
            self.surveys[item] = "completed"
            if patient is not None:
                self.patients[item] = patient.format(item)

    def fail(self, survey_id: str, result: str, *faults: Fault) -> None:
        self.faults[f"/api/v2/surveys/{survey_id}/{result}"].extend(faults)

    def asked(self, path: str) -> int:
        """Return the number of requests for a path."""
        with self._changed:
            return sum(request == path for _, request, _ in self.requests)

    def wait_until_asked(self, path: str, times: int = 1, timeout: float = LIMIT) -> None:
        def enough() -> bool:
            return sum(request == path for _, request, _ in self.requests) >= times

        with self._changed:
            assert self._changed.wait_for(enough, timeout), f"{path} was not asked for {times} times"

    def forget_tokens(self) -> None:
        """Whatever was issued is refused from now on (401)."""
        self.valid_tokens.clear()

    def summary(self, survey_id: str) -> dict[str, Any]:
        made = copy.deepcopy(SUMMARY)
        if survey_id in self.patients:
            made["patient"]["id"] = self.patients[survey_id]
        else:
            del made["patient"]["id"]
        return made

    def _run(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(LIMIT)

    async def _start(self) -> None:
        app = web.Application(middlewares=[self._record])
        app.router.add_post("/api/v2/oauth2/token", self._token)
        app.router.add_get("/api/v2/surveys/{id}/summary", self._summary)
        app.router.add_get("/api/v2/surveys/{id}/evidence_assessment", self._assessment)
        app.router.add_post("/api/v2/config/webhook", self._create)
        app.router.add_get("/api/v2/config/webhook", self._list)
        app.router.add_get("/api/v2/config/webhook/{id}", self._show)
        app.router.add_patch("/api/v2/config/webhook/{id}", self._update)
        app.router.add_delete("/api/v2/config/webhook/{id}", self._delete)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    @web.middleware
    async def _record(self, request: web.Request, handler: Any) -> web.StreamResponse:
        body = await request.read()
        path = request.rel_url.raw_path
        with self._changed:
            self.requests.append((request.method, path, orjson.loads(body) if body else None))
            self._changed.notify_all()
        if self.faults[path]:
            fault = self.faults[path].popleft()
            if fault.hang:
                await asyncio.sleep(3600)
            content = fault.body if fault.body is not None else orjson.dumps({"detail": f"fault {fault.status}"})
            return web.Response(status=fault.status, headers=fault.headers, body=content)
        if not path.endswith("/oauth2/token"):
            bearer = request.headers.get("Authorization", "")
            if bearer.removeprefix("Bearer ") not in self.valid_tokens:
                return refusal(401, "Invalid or expired token")
        response: web.StreamResponse = await handler(request)
        return response

    async def _token(self, request: web.Request) -> web.Response:
        expected = base64.b64encode(f"{CLIENT_ID}:{self.client_secret}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {expected}":
            return refusal(401, "invalid_client")
        asked = await request.json()
        if asked.get("grant_type") != "client_credentials":
            return refusal(400, "unsupported_grant_type")
        self.scopes.append(asked.get("scope", ""))
        token = f"access-token-{len(self.tokens)}"
        self.tokens.append(token)
        self.valid_tokens.add(token)
        return web.json_response({"access_token": token, "token_type": "Bearer", "expires_in": self.expires_in})

    async def _summary(self, request: web.Request) -> web.Response:
        return self._result(request, self.summary(request.match_info["id"]))

    async def _assessment(self, request: web.Request) -> web.Response:
        return self._result(request, ASSESSMENT)

    def _result(self, request: web.Request, answer: dict[str, Any]) -> web.Response:
        status = self.surveys.get(request.match_info["id"])
        if status is None:
            return refusal(404, "Survey not found")
        if status != "completed":
            return refusal(409, f"Survey is {status}")
        return web.json_response(answer)

    async def _create(self, request: web.Request) -> web.Response:
        sent = await request.json()
        if set(sent) != {"url", "authorization_token", "subscribed_events"}:
            return refusal(400, "url, authorization_token and subscribed_events are required")
        if any(webhook.url == sent["url"] for webhook in self.webhooks.values()):
            return refusal(409, f"A webhook of this url exists (token {sent['authorization_token']})")
        made = Webhook(str(uuid.uuid4()), **sent)
        self.webhooks[made.id] = made
        return web.json_response(made.shown(token=True))

    async def _list(self, _: web.Request) -> web.Response:
        return web.json_response([webhook.shown(self.echo_tokens) for webhook in self.webhooks.values()])

    async def _show(self, request: web.Request) -> web.Response:
        found = self.webhooks.get(request.match_info["id"])
        return web.json_response(found.shown(self.echo_tokens)) if found else refusal(404, "Webhook not found")

    async def _update(self, request: web.Request) -> web.Response:
        found = self.webhooks.get(request.match_info["id"])
        if found is None:
            return refusal(404, "Webhook not found")
        sent = await request.json()
        if not sent or set(sent) - {"url", "authorization_token", "subscribed_events"}:
            return refusal(400, "nothing to update")
        for name, value in sent.items():
            setattr(found, name, value)
        return web.json_response(found.shown("authorization_token" in sent))

    async def _delete(self, request: web.Request) -> web.Response:
        found = self.webhooks.pop(request.match_info["id"], None)
        return web.json_response(found.shown(self.echo_tokens)) if found else refusal(404, "Webhook not found")


def refusal(status: int, detail: str) -> web.Response:
    return web.json_response({"detail": detail}, status=status)
