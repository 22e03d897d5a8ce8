"""A proxy in front of a FHIR server that answers out of turn, on a free port of this machine."""

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Self

import aiohttp
import orjson
from aiohttp import web

from tests.support.waiting import LIMIT

REFUSALS = {
    401: "login",
    403: "forbidden",
    405: "not-supported",
    409: "conflict",
    429: "throttled",
    503: "transient",
    500: "exception",
}
OF_THE_CONNECTION = frozenset({"host", "connection", "content-length", "transfer-encoding", "accept-encoding"})
"""Headers that are not passed on: HTTP clients make them for each connection or body."""


class FaultProxy:
    """Passes requests on, but for transactions while ``faults`` are left: each takes the next one.

    A fault is a status to answer with, without asking the server; ``cut``: the connection is closed after the server
    has committed; ``slow``: the same, and there is no answer before the client gives up;
    ``hidden-429``: the server is not asked, and a 200 says 429 for each entry, or any other status of ``REFUSALS``;
    None: no fault.

    ``accepts`` is asked of each request's header ``Authorization``; what it does not accept is answered with 401.
    ``refused``: end of a path → the status that its requests are answered with. ``token_endpoint`` is named by
    ``.well-known/smart-configuration``, to everybody. ``poisoned``: words; a transaction that has one of
    them is refused for its content, with the status ``refusal``, whenever it comes; it may be a hidden one, as above.
    """

    def __init__(
        self,
        server: str,
        faults: Iterable[int | str | None] = (),
        accepts: Callable[[str], bool] = lambda _: True,
        refused: Mapping[str, int] | None = None,
        token_endpoint: str | None = None,
        poisoned: Iterable[str] = (),
        refusal: int | str = 422,
    ) -> None:
        self._server = server
        self._accepts = accepts
        self.refused = dict(refused or {})
        self._token_endpoint = token_endpoint
        self.poisoned = {word.encode() for word in poisoned}
        self._refusal = refusal
        self.busy = ""
        """A word: a transaction that has it is answered with 503, until this is empty."""
        self.faults = deque(faults)
        self.answered: Counter[str] = Counter()
        self.largest = 0
        """Most entries of a transaction so far."""
        self.tried: set[str] = set()
        """What was to be stored, whatever the answer was."""
        self.put: set[str] = set()
        """What the server was sent so far to be stored, as ``Type/id``."""
        self.headers: dict[str, str] = {}
        """Of the last transaction."""
        self.passed = 0
        """Transactions that the server has answered."""
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run)
        self.base = ""

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(LIMIT)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.base = f"http://{host}:{port}"
        async with aiohttp.ClientSession() as self._session:
            self._started.set()
            await self._stopping.wait()
        await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        path = request.match_info["path"]
        if self._token_endpoint and path == ".well-known/smart-configuration":
            return web.json_response({"token_endpoint": self._token_endpoint})
        if not self._accepts(request.headers.get("Authorization", "")):
            self.answered["401"] += 1
            return web.json_response({"resourceType": "OperationOutcome", "issue": []}, status=401)
        if status := next((status for end, status in self.refused.items() if path.endswith(end)), None):
            self.answered[f"{status} to a purge"] += 1
            outcome = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "not-supported"}]}
            return web.json_response(outcome, status=status)
        if request.method == "POST" and not path:
            requests = [entry["request"] for entry in orjson.loads(body)["entry"]]
            self.largest = max(self.largest, len(requests))
            self.headers = dict(request.headers)
            self.tried |= {item["url"] for item in requests if item["method"] == "PUT"}
        if request.method == "POST" and not path and self.busy and self.busy.encode() in body:
            self.answered["busy"] += 1
            return web.Response(status=503)
        if request.method == "POST" and not path and any(word in body for word in self.poisoned):
            self.answered["refused"] += 1
            if isinstance(self._refusal, str):
                return _hidden(self._refusal, len(requests))
            outcome = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "processing"}]}
            return web.json_response(outcome, status=self._refusal)
        fault = self.faults.popleft() if request.method == "POST" and not path and self.faults else None
        if isinstance(fault, int):
            self.answered[str(fault)] += 1
            outcome = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": REFUSALS[fault]}]}
            return web.json_response(outcome, status=fault, headers={"Retry-After": "0"} if fault in (429, 503) else {})
        if fault is not None and fault.startswith("hidden-"):
            self.answered[fault] += 1
            return _hidden(fault, len(requests))
        if request.method == "POST" and not path:
            self.put |= {item["url"] for item in requests if item["method"] == "PUT"}
        headers = {name: value for name, value in request.headers.items() if name.lower() not in OF_THE_CONNECTION}
        async with self._session.request(
            request.method, f"{self._server}/{path}".rstrip("/"), data=body or None, headers=headers
        ) as response:
            content = await response.read()
        self.passed += request.method == "POST" and not path
        if fault == "slow":
            self.answered[fault] += 1
            await self._stopping.wait()
        if fault == "cut":
            self.answered[fault] += 1
            assert request.transport is not None
            request.transport.abort()
        return web.Response(body=content, status=response.status, content_type="application/fhir+json")


def _hidden(fault: str, entries: int) -> web.Response:
    """Answer 200, with the status that ``fault`` names for each entry."""
    status = int(fault.removeprefix("hidden-"))
    outcome = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": REFUSALS[status]}]}
    results = [{"response": {"status": f"{status} {HTTPStatus(status).phrase}", "outcome": outcome}}] * entries
    return web.json_response({"resourceType": "Bundle", "type": "transaction-response", "entry": results})
