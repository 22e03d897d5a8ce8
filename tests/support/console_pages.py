"""A console as a process, on events that were mapped before, and a visitor who keeps cookies and no redirects."""

import http.client
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

from fhirline.config.settings import Settings
from tests.support.processes import Command, command
from tests.support.waiting import LIMIT, wait_until

TOKEN = "synthetic-token-of-a-test"


@dataclass(slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    text: str


@dataclass(slots=True)
class Visitor:
    """Sends requests to a console. ``headers``: sent with each."""

    url: str
    headers: dict[str, str] = field(default_factory=dict)
    cookie: str = ""

    def get(self, path: str) -> Answer:
        return self._request("GET", path, None)

    def head(self, path: str) -> Answer:
        return self._request("HEAD", path, None)

    def post(self, path: str, /, **fields: str) -> Answer:
        return self._request("POST", path, urlencode(fields))

    def log_in(self) -> "Visitor":
        assert self.post("/login", token=TOKEN).status == 303
        return self

    def form_token(self, path: str) -> str:
        """Return the token of the first form of a page."""
        found = re.search(r'name="form-token" value="([^"]+)"', self.get(path).text)
        assert found, path
        return found[1]

    def _request(self, method: str, path: str, body: str | None) -> Answer:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=LIMIT)
        headers = dict(self.headers)
        if self.cookie:
            headers["Cookie"] = self.cookie
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if set_cookie := answer.getheader("Set-Cookie"):
            self.cookie = set_cookie.partition(";")[0]
        return Answer(answer.status, dict(answer.getheaders()), text)


@contextmanager
def console(settings: Settings, *arguments: str, **environ: str) -> Iterator[tuple[str, Command]]:
    """Run a console until the context ends, and yield its address once it has read the topics."""
    own = {
        "FHIRLINE_BOOTSTRAP": settings.bootstrap,
        "FHIRLINE_CONSOLE_TOKEN": TOKEN,
        "FHIRLINE_LOG_FORMAT": "json",
        "PATH": "",
    }
    with command("console", "--port", "0", *arguments, environ=own | environ) as process:
        url = process.wait_for("console listening")["url"].rstrip("/")
        visitor = Visitor(url, {"x-user": "somebody"} if "FHIRLINE_CONSOLE_USER_HEADER" in environ else {})
        if visitor.headers:
            visitor.get("/")
        else:
            visitor.log_in()
        wait_until(lambda: "still being read" not in visitor.get("/events").text, lambda: process.report("reads"))
        yield url, process
