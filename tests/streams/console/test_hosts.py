"""Compare ``Host`` headers with the console's own, as clients write them, and with its reverse proxy's."""

import http.client
from urllib.parse import urlsplit

import pytest

from tests.streams.console.conftest import Site
from tests.support import cli
from tests.support.console_pages import console
from tests.support.waiting import LIMIT


def status(url: str, host: str) -> int:
    """Return the status of an answer over a connection of its own."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=LIMIT)
    try:
        connection.putrequest("GET", "/login", skip_host=True)
        connection.putheader("Host", host)
        connection.endheaders()
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("address", "public", "right", "wrong"),
    [
        (
            "127.0.0.1",
            "console.example.org",
            (
                "127.0.0.1:{port}",
                "LocalHost:{port}",
                "[::1]:{port}",
                "console.example.org",
                "Console.Example.org:443",
                "console.example.org:80",
            ),
            (
                "",
                "localhost",
                "localhost:80",
                "[::1]",
                "::1:{port}",
                "[::2]:{port}",
                "console.example.org:{port}",
                "console.example.org.evil.example",
                "evil.example@localhost:{port}",
                "localhost:{port}:{port}",
                "evil.example:{port}",
            ),
        ),
        (
            "::1",
            "[2001:DB8:0::1]:8443",
            ("[::1]:{port}", "[0:0:0:0:0:0:0:1]:{port}", "localhost:{port}", "[2001:db8::1]:8443"),
            ("[::1]", "[2001:db8::1]", "[2001:db8::1]:443", "[2001:db8::2]:8443", "2001:db8::1:8443"),
        ),
        ("0:0:0:0:0:0:0:1", None, ("[::1]:{port}",), ("[::]:{port}", "[:{port}")),
    ],
)
def test_a_host_is_the_consoles_or_refused(
    stack: Site, address: str, public: str | None, right: tuple[str, ...], wrong: tuple[str, ...]
) -> None:
    public_host = {"FHIRLINE_CONSOLE_PUBLIC_HOST": public} if public else {}
    with console(stack.load.settings, "--host", address, **public_host) as (url, _):
        port = urlsplit(url).port
        found = {host: status(url, host.format(port=port)) for host in (*right, *wrong)}
    assert {host: found[host] for host in right} == dict.fromkeys(right, 200)
    assert {host: found[host] for host in wrong} == dict.fromkeys(wrong, 421)


def test_what_is_no_host_is_told_at_the_start(stack: Site) -> None:
    for value in ("https://console.example.org", "[::1", "", "a b"):
        environ = {"FHIRLINE_BOOTSTRAP": stack.load.settings.bootstrap, "PATH": ""}
        said = cli.run("console", "--port", "0", env={**environ, "FHIRLINE_CONSOLE_PUBLIC_HOST": value})
        assert said.returncode == 2, value
        assert "FHIRLINE_CONSOLE_PUBLIC_HOST: no host" in said.stderr
