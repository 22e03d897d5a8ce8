"""A console behind a reverse proxy that says who somebody is: no token, no cookie, and nothing that is stored."""

from itertools import count

from fhirline.streams.console.access import COOKIE, MOST_SESSIONS, Access
from tests.streams.console.conftest import Site
from tests.streams.console.test_access import event_page
from tests.support.console_pages import Visitor, console
from tests.support.processes import command
from tests.support.waiting import wait_until

HEADER = {"FHIRLINE_CONSOLE_USER_HEADER": "x-user"}


def reveal(visitor: Visitor, site: Site, token: str, reason: str = "a test") -> int:
    return visitor.post(f"{event_page(visitor, site)}/reveal", reason=reason, **{"form-token": token}).status


def test_a_reverse_proxy_names_the_person(stack: Site) -> None:
    with console(stack.load.settings, **HEADER) as (url, process):
        visitor = Visitor(url, {"x-user": "dr-o"})
        page = event_page(visitor, stack)
        token = visitor.form_token(page)
        visitor.headers["x-user"] = "somebody-else"  # another person cannot use the form
        assert reveal(visitor, stack, token) == 403
        visitor.headers["x-user"] = "dr-o"
        assert reveal(visitor, stack, token) == 200
        assert visitor.cookie == ""
        assert '"as":"dr-o"' in process.output
        assert "somebody-else" not in process.output


def test_who_is_not_named_as_the_proxy_does_it_sees_nothing(stack: Site) -> None:
    with console(stack.load.settings, **HEADER) as (url, process):
        for header in ({}, {"x-user": ""}, {"x-user": "dr-\xf6"}, {"x-user": "a", "X-User": "b"}):
            for path in ("/", "/audit", "/pipeline/updates"):
                answer = Visitor(url, header).get(path)
                assert (answer.status, "Set-Cookie" in answer.headers) == (401, False), header
        assert "page failed" not in process.output


def test_no_token_is_told_and_none_is_taken(stack: Site) -> None:
    environ = {"FHIRLINE_BOOTSTRAP": stack.load.settings.bootstrap, "FHIRLINE_LOG_FORMAT": "json", "PATH": "", **HEADER}
    with command("console", "--port", "0", environ=environ) as process:
        url = process.wait_for("console listening")["url"].rstrip("/")
        wait_until(lambda: "no token is asked for" in process.output, lambda: process.report("says nothing"))
        assert "login?token" not in process.output
        for headers in ({}, {"x-user": "dr-o"}):
            visitor = Visitor(url, headers)
            for answer in (visitor.get("/login"), visitor.get("/login?token=x"), visitor.post("/login", token="x")):
                assert answer.status == 404
            assert visitor.cookie == ""


def test_requests_without_a_cookie_end_nobodys_form(stack: Site) -> None:
    with console(stack.load.settings, **HEADER) as (url, _):
        first = Visitor(url, {"x-user": "dr-o"})
        token = first.form_token("/playground")
        for user in ("dr-o", "somebody-else"):
            for _ in range(MOST_SESSIONS // 2 + 1):
                assert Visitor(url, {"x-user": user}).get("/audit").status == 200
        assert reveal(first, stack, token) == 200


def test_logins_of_a_client_that_keeps_no_cookie_end_no_session_that_is_used() -> None:
    access = Access("token", None, lambda: 0.0)
    used, unused = (access.log_in("token", "/").cookies[COOKIE].value for _ in range(2))
    access._sessions[used].used = True
    for _ in range(MOST_SESSIONS):
        access.log_in("token", "/")
    assert len(access._sessions) == MOST_SESSIONS
    assert used in access._sessions
    assert unused not in access._sessions


def test_a_used_session_ends_for_a_new_one_where_all_are_used() -> None:
    clock = count(0.0)
    access = Access("token", None, lambda: next(clock))
    cookies = [access.log_in("token", "/").cookies[COOKIE].value for _ in range(MOST_SESSIONS)]
    for cookie in cookies:
        access._sessions[cookie].used = True
    access._sessions[cookies[0]].seen = next(clock)
    access.log_in("token", "/")
    assert len(access._sessions) == MOST_SESSIONS
    assert cookies[0] in access._sessions
    assert cookies[1] not in access._sessions
