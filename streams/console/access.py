"""Decide who may use the console, by a token or a reverse proxy, and what the browser may do with its pages.

* A visitor shows the token once and gets a session cookie, which scripts and other sites cannot use.
* Behind a reverse proxy that authenticates people, its header names the person instead
  (``FHIRLINE_CONSOLE_USER_HEADER``). There is no token, no cookie and no session that is stored: the form token is
  computed from the name.
* A request that changes or reveals something also needs the session's form token (CSRF).
* The ``Host`` header must be one of the console's own, so that a name of another site that resolves to 127.0.0.1
  reaches nothing.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from fhirline.config.vendors import RateLimit
from fhirline.streams.console.hosts import normalized
from fhirline.streams.step1_receive.rate_limit import TokenBucket

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

COOKIE = "fhirline-console"
FORM_TOKEN = "form-token"  # the field's name
FORM_TYPE = "application/x-www-form-urlencoded"
OPEN_PATHS = ("/login", "/static/")
MOST_SESSIONS = 1_000
"""Sessions that are kept. Beyond that, one that was never used ends for a new one, else the one unused for longest."""
LONGEST_REASON = 500
LONGEST_PAGE = 2_000
IDLE = 12 * 3_600.0
"""Seconds without a request after which a session is over. Updates of an open page are none."""
UPDATES = "/updates"  # the end of their paths
NEXT = "next"  # the field that names the page to show after the login

FORM_PAGE = "form-page"  # the field that names the page of a form
NOT_DONE = "not-done"  # in the address of the login where a form came without a session

_OWN_PAGE = re.compile(r"/(?!/)[!-\[\]-~]*")  # neither a backslash nor white space, which browsers read as / and skip

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Server": "fhirline",
}


@dataclass(slots=True, eq=False)
class Session:
    """A visitor. ``user``: the person that the reverse proxy named, else None. ``seen``: time of the last request.

    ``used``: whether there was a request after the login.
    """

    form_token: str
    user: str | None
    seen: float
    used: bool = False


SESSION = web.RequestKey("session", Session)
OF_FORM = web.RequestKey("of-form", str)
"""The page of the form that was sent."""


class Access:
    """Checks each request. ``hosts``: values of ``Host`` that are the console's, normalized.

    Times are monotonic seconds.
    """

    def __init__(self, token: str, user_header: str | None, clock: Callable[[], float]) -> None:
        self._token = token.encode()
        self._user_header = user_header
        self._secret = secrets.token_bytes(32)
        self._clock = clock
        self._sessions: dict[str, Session] = {}
        self._logins = TokenBucket(RateLimit(per_second=1, burst=10), clock())
        self._reveals = TokenBucket(RateLimit(per_second=0.5, burst=20), clock())
        self._exports = TokenBucket(RateLimit(per_second=1 / 60, burst=2), clock())
        self.hosts: frozenset[str] = frozenset()

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer 421 for a foreign host, and lead a visitor without a session to the login."""
        if normalized(request.headers.get("Host", "")) not in self.hosts:
            raise web.HTTPMisdirectedRequest(text="This host name is not the console's.\n")
        if request.path.startswith(OPEN_PATHS):
            return await handler(request)
        session = self._session(request) if self.has_token else self._named(request)
        if session is None:
            if request.path.endswith(UPDATES):
                return web.Response(status=204)  # the browser asks no more, and the page says so
            if request.method not in ("GET", "HEAD"):
                raise web.HTTPSeeOther(f"/login?{urlencode({NOT_DONE: '', NEXT: await _page_of_form(request)})}")
            asked = request.path_qs
            raise web.HTTPSeeOther("/login" if asked == "/" else f"/login?{urlencode({NEXT: asked})}")
        request[SESSION] = session
        if request.method not in ("GET", "HEAD"):
            await self._require_form_token(request, session)
            request[OF_FORM] = await _page_of_form(request)
        return await handler(request)

    @property
    def has_token(self) -> bool:
        """Tell whether visitors log in with the token. Else the reverse proxy says who they are."""
        return self._user_header is None

    def log_in(self, token: str, next_page: str) -> web.HTTPSeeOther:
        """Return the answer that starts a session, and leads to a page. Raises HTTPForbidden for a wrong token."""
        self.require_token_login()
        now = self._clock()
        if self._logins.wait(now) > 0:
            raise web.HTTPTooManyRequests(text="Too many attempts. Wait a few seconds.\n")
        if not hmac.compare_digest(token.encode(), self._token):
            self._logins.take()
            raise web.HTTPForbidden(text="This token is not the console's. The process prints the right one.\n")
        answer = web.HTTPSeeOther(own_page(next_page))
        self._start_session(answer)
        return answer

    def require_token_login(self) -> None:
        """Raise HTTPNotFound where no token is asked for."""
        if not self.has_token:
            raise web.HTTPNotFound(text="There is no login here: the reverse proxy says who you are.\n")

    def log_out(self, request: web.Request) -> web.HTTPSeeOther:
        """Return the answer that ends the request's session."""
        self._sessions.pop(request.cookies.get(COOKIE, ""), None)
        answer = web.HTTPSeeOther("/login")
        answer.del_cookie(COOKIE, path="/")
        return answer

    def require_reveal(self) -> None:
        """Count an answer with patient data. Raises HTTPTooManyRequests where there were too many."""
        self._count(self._reveals, "Too many events were revealed in a short time.")

    def require_export(self) -> None:
        """Count a file with patient data of many events. Raises HTTPTooManyRequests where there were too many."""
        self._count(self._exports, "Two files with payloads at once, and one a minute after that, are exported.")

    def _count(self, bucket: TokenBucket, limit: str) -> None:
        if (seconds := ceil(bucket.wait(self._clock()))) > 0:
            wait = f"{limit} Try again in {seconds} s.\n"
            raise web.HTTPTooManyRequests(text=wait, headers={"Retry-After": str(seconds)})
        bucket.take()

    def _session(self, request: web.Request) -> Session | None:
        id, now = request.cookies.get(COOKIE, ""), self._clock()
        found = self._sessions.get(id)
        if found is not None and now - found.seen > IDLE:
            del self._sessions[id]
            return None
        if found is not None:
            found.used = True
            if not request.path.endswith(UPDATES):
                found.seen = now
        return found

    def _named(self, request: web.Request) -> Session:
        """Return the session of the person whom the reverse proxy names. Raises HTTPUnauthorized where it names none.

        The form token is the same for all requests of a person: a client that keeps no cookie takes nobody's place.
        """
        names = request.headers.getall(self._user_header or "", [])
        if len(names) > 1:
            raise web.HTTPUnauthorized(text=f"{self._user_header} was sent more than once: one is not the proxy's.\n")
        if not (names and names[0] and names[0].isprintable()):  # what is no UTF-8 is not printable either
            raise web.HTTPUnauthorized(text=f"The reverse proxy sent no name in {self._user_header}.\n")
        token = hmac.new(self._secret, names[0].encode(), hashlib.sha256).hexdigest()
        return Session(token, names[0], self._clock(), True)

    def _start_session(self, answer: web.Response) -> None:
        now = self._clock()

        def in_use(id: str) -> tuple[bool, float]:
            session = self._sessions[id]
            return session.used and now - session.seen <= IDLE, session.seen

        while len(self._sessions) >= MOST_SESSIONS:
            del self._sessions[min(self._sessions, key=in_use)]
        id = secrets.token_urlsafe(32)
        self._sessions[id] = Session(secrets.token_urlsafe(32), None, now)
        answer.set_cookie(COOKIE, id, httponly=True, samesite="Strict", path="/")

    async def _require_form_token(self, request: web.Request, session: Session) -> None:
        sent = str((await form_of(request)).get(FORM_TOKEN, ""))
        if not hmac.compare_digest(sent.encode(), session.form_token.encode()):
            raise web.HTTPForbidden(text="The form is not of this session. Open the page again.\n")


def own_page(path: str) -> str:
    """Return the path of a page of the console; ``/`` for what a browser may take for another site's address.

    >>> [own_page(path) for path in ("/events?q=a", "//evil.example/", "/\\t/evil.example", "https://evil.example", "")]
    ['/events?q=a', '/', '/', '/', '/']
    """
    return path if _OWN_PAGE.fullmatch(path) else "/"


async def _page_of_form(request: web.Request) -> str:
    """Return the page that the form names; ``/`` where it names none. What cannot be read as a form names none."""
    try:
        sent = str((await form_of(request)).get(FORM_PAGE, ""))
    except web.HTTPException:
        return "/"
    return own_page(sent) if len(sent) <= LONGEST_PAGE else "/"


def page_of(request: web.Request) -> str:
    """Return the address under which the page is asked for again: of the answer to a form, that of the form's page."""
    if request.method in ("GET", "HEAD"):
        return request.path_qs.removesuffix(UPDATES)
    page: str = request.get(OF_FORM, "/")
    return page


async def form_of(request: web.Request) -> Mapping[str, Any]:
    """Read the request's form. Handlers behind a session call ``request.post``, which returns it once more.

    Raises HTTPUnsupportedMediaType and HTTPBadRequest. Files are refused: they would be kept on a disk meanwhile.
    """
    if request.content_type != FORM_TYPE:
        raise web.HTTPUnsupportedMediaType(text=f"A form is sent as {FORM_TYPE}.\n")
    try:
        return await request.post()
    except (UnicodeError, LookupError):
        raise web.HTTPBadRequest(text="The form cannot be read: it is not UTF-8 text.\n") from None


def reason_in(form: Mapping[str, Any]) -> str:
    """Return why somebody wants to look, as an audit line has it. Raises HTTPBadRequest where nobody says."""
    reason = str(form.get("reason", "")).strip()
    if not reason:
        raise web.HTTPBadRequest(text="Give a reason: it is kept in the audit log.\n")
    return reason[:LONGEST_REASON]


async def add_headers(_: web.Request, answer: web.StreamResponse) -> None:
    """Add the headers that forbid scripts, frames, caches and other sites."""
    answer.headers.update(HEADERS)
