"""``fhirline infermedica webhooks`` against a local server that implements the vendor's guide, errors included."""

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from fhirline.config.own_command import own_command
from tests.support.infermedica_server import CLIENT_ID, CLIENT_SECRET, Fault, InfermedicaServer
from tests.support.infermedica_webhooks import CONFIG, GATEWAY, HANGS, TOKEN, Run, created
from tests.support.receiving import environment
from tests.support.waiting import LIMIT


def test_every_documented_call(api: InfermedicaServer, tmp_path: Path) -> None:
    """Create, list, show, update, rotate, delete: the requests follow the guide, and no token is printed."""
    made = Run(
        api, tmp_path, "create", GATEWAY, "--event", "survey_finished", "--event", "survey_created", "--json"
    ).json
    id_ = str(made["id"])
    assert made == {"id": id_, "url": GATEWAY, "subscribed_events": ["survey_finished", "survey_created"]}
    assert api.webhooks[id_].authorization_token == TOKEN
    assert json.loads(Run(api, tmp_path, "list", "--json").out) == [made]
    assert Run(api, tmp_path, "show", id_, "--json").json == made

    moved = Run(api, tmp_path, "update", id_, "--url", f"{GATEWAY}/acme", "--json").json
    assert moved == {**made, "url": f"{GATEWAY}/acme"}
    narrowed = Run(api, tmp_path, "update", id_, "--event", "survey_finished", "--json").json
    assert narrowed == {**moved, "subscribed_events": ["survey_finished"]}

    rotated = Run(api, tmp_path, "rotate-token", id_, "--json", FHIRLINE_INFERMEDICA_TOKEN="another-token-0123456789")
    assert rotated.json == narrowed
    assert "another-token" not in rotated.out + rotated.err
    assert api.webhooks[id_].authorization_token == "another-token-0123456789"

    assert Run(api, tmp_path, "delete", id_, "--yes", "--json").json == narrowed
    assert json.loads(Run(api, tmp_path, "list", "--json").out) == []
    asked = [(method, path, body) for method, path, body in api.requests if path.startswith(CONFIG)]
    one = f"{CONFIG}/{id_}"
    both = ["survey_finished", "survey_created"]
    assert asked == [
        ("POST", CONFIG, {"url": GATEWAY, "authorization_token": TOKEN, "subscribed_events": both}),
        ("GET", CONFIG, None),
        ("GET", one, None),
        ("PATCH", one, {"url": f"{GATEWAY}/acme"}),
        ("PATCH", one, {"subscribed_events": ["survey_finished"]}),
        ("PATCH", one, {"authorization_token": "another-token-0123456789"}),
        ("DELETE", one, None),
        ("GET", CONFIG, None),
    ]


def test_survey_finished_is_the_subscribed_event(api: InfermedicaServer, tmp_path: Path) -> None:
    assert api.webhooks[created(api, tmp_path)].subscribed_events == ["survey_finished"]


def test_lines_for_programs_and_a_table_for_people(api: InfermedicaServer, tmp_path: Path) -> None:
    id_ = created(api, tmp_path)
    run = Run(api, tmp_path, "list")
    assert run.out.splitlines() == ["id\turl\tevents", f"{id_}\t{GATEWAY}\tsurvey_finished"]
    leader, follower = pty.openpty()
    try:
        own = {
            "FHIRLINE_INFERMEDICA_URL": api.url,
            "FHIRLINE_INFERMEDICA_CLIENT_ID": CLIENT_ID,
            "FHIRLINE_INFERMEDICA_CLIENT_SECRET": CLIENT_SECRET,
            "COLUMNS": "200",
            "TERM": "xterm",
        }
        command = own_command("infermedica", "webhooks", "list")
        subprocess.run(command, env=environment("-", **own), cwd=tmp_path, stdout=follower, timeout=LIMIT, check=True)
        shown = os.read(leader, 65_536).decode()
    finally:
        os.close(leader)
        os.close(follower)
    assert "┃" in shown
    assert id_ in shown


# The token


def test_tokens_that_the_vendor_echoes_are_not_printed(api: InfermedicaServer, tmp_path: Path) -> None:
    """The answer to create contains the token, by the guide. Other answers may contain it too."""
    id_ = created(api, tmp_path)
    api.echo_tokens = True
    api.webhooks[id_].authorization_token = "0ld-t0ken-that-nobody-here-knows"
    for arguments in (["list"], ["show", id_], ["show", id_, "--json"]):
        run = Run(api, tmp_path, *arguments)
        assert id_ in run.out
        assert "0ld-t0ken" not in run.out + run.err
    api.faults[CONFIG].append(Fault(400, body=b'{"detail": "0ld-t0ken-that-nobody-here-knows is in use\\u001b[2J"}'))
    run = Run(api, tmp_path, "create", GATEWAY)
    assert run.code == 1
    assert "[...] is in use" in run.err
    assert "0ld-t0ken" not in run.err
    assert "\x1b" not in run.err, "no control characters either"
    api.webhooks[id_].url = f"{GATEWAY}?token={TOKEN}"
    assert "token=[redacted]" in Run(api, tmp_path, "delete", id_, "--yes").out


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (Fault(401), "the client may not do this (401)"),
        (Fault(403), "the client may not do this (403)"),
        (Fault(404), "there is no such configuration (404)"),
        (Fault(409), "it conflicts with a configuration that exists (409)"),
        (Fault(429, {"Retry-After": "7"}), "too many requests (429): try again in 7 s"),
        (Fault(418), "the instance refuses the request (http-418, 418); it answered: fault 418"),
        (Fault(302, {"Location": "http://127.0.0.1:9/"}), "the instance refuses the request (http-302, 302)"),
        (Fault(500), "the instance has an error (500)"),
        (Fault(200, body=b"<html>"), "the instance refuses the request (not-json, 200)"),
        (Fault(200, body=b"[1]"), "the answer is no webhook configuration"),
    ],
)
def test_errors_name_the_remedy(api: InfermedicaServer, tmp_path: Path, fault: Fault, told: str) -> None:
    api.faults[f"{CONFIG}/w-1"].extend([fault, fault])
    run = Run(api, tmp_path, "show", "w-1")
    assert (run.code, run.out) == (1, "")
    assert run.err.startswith(f"fhirline infermedica: {api.url}: ")
    assert told in run.err
    assert len(run.err.splitlines()) == 1


@pytest.mark.long
def test_a_server_that_hangs(api: InfermedicaServer, tmp_path: Path) -> None:
    api.faults[f"{CONFIG}/w-1"].append(Fault(hang=True))
    run = Run(api, tmp_path, "show", "w-1", FHIRLINE_INFERMEDICA_TIMEOUT=HANGS)
    assert (run.code, run.out) == (1, "")
    assert run.err.startswith(f"fhirline infermedica: {api.url}: no answer (timeout)")


def test_a_second_configuration_of_a_url_conflicts(api: InfermedicaServer, tmp_path: Path) -> None:
    created(api, tmp_path)
    run = Run(api, tmp_path, "create", GATEWAY)
    assert run.code == 1
    assert "(409)" in run.err
    assert "[redacted]" in run.err, "the server quotes the token"


def test_no_answer(api: InfermedicaServer, tmp_path: Path) -> None:
    run = Run(api, tmp_path, "list", FHIRLINE_INFERMEDICA_URL="http://127.0.0.1:9")
    assert (run.code, run.out) == (1, "")
    assert "no answer (token-unreachable)" in run.err


def test_refused_credentials(api: InfermedicaServer, tmp_path: Path) -> None:
    api.client_secret = "another"
    run = Run(api, tmp_path, "list")
    assert run.code == 1
    assert "the OAuth client credentials are refused (401)" in run.err


@pytest.mark.parametrize(
    ("arguments", "environ", "told"),
    [
        (["update", "w-1"], {}, "nothing to update"),
        (["create", "gateway/webhooks"], {}, "the URL must be absolute"),
        (["create", GATEWAY], {"FHIRLINE_INFERMEDICA_TOKEN": ""}, "FHIRLINE_INFERMEDICA_TOKEN_FILE are not set"),
        (["create", GATEWAY], {"FHIRLINE_INFERMEDICA_TOKEN": "naïve"}, "not valid in an HTTP header"),
        (["create", GATEWAY, "--token-file", "missing"], {}, "missing: contains no token"),
        (["rotate-token", "w-1", "--generate"], {}, "--generate needs a file"),
        (["rotate-token", "..", "--generate", "--token-file", "new"], {}, "not a webhook's id"),
        (["create", GATEWAY, "--generate", "--token-file", "no/folder"], {}, "no/folder: No such file"),
        (["list"], {"FHIRLINE_INFERMEDICA_URL": ""}, "FHIRLINE_INFERMEDICA_URL is not set"),
        (["list"], {"FHIRLINE_INFERMEDICA_URL": "http://example.org"}, "must be https://"),
        (["list", "--no-such-option"], {}, "No such option"),
    ],
)
def test_wrong_arguments_are_reported_before_any_request(
    api: InfermedicaServer, tmp_path: Path, arguments: list[str], environ: dict[str, str], told: str
) -> None:
    run = Run(api, tmp_path, *arguments, **environ)
    assert (run.code, run.out) == (2, "")
    assert told in run.err
    assert not any(path.startswith(CONFIG) for _, path, _ in api.requests)
    assert not [line for path in tmp_path.iterdir() for line in path.read_text("utf-8").split()], (
        "no token is left behind"
    )


def test_delete_asks_for_confirmation(api: InfermedicaServer, tmp_path: Path) -> None:
    id_ = created(api, tmp_path)
    for answer in ("n\n", ""):
        run = Run(api, tmp_path, "delete", id_, stdin=answer)
        assert (run.code, run.out.strip()) == (1, "")
        assert f"Delete the configuration that sends webhooks to {GATEWAY}?" in run.err
        assert id_ in api.webhooks
    assert Run(api, tmp_path, "delete", id_, stdin="y\n").code == 0
    assert not api.webhooks


def test_ids_are_one_segment_of_the_path(api: InfermedicaServer, tmp_path: Path) -> None:
    assert Run(api, tmp_path, "show", "../surveys/s-1?x=#").code == 1
    assert api.requests[-1][1] == f"{CONFIG}/..%2Fsurveys%2Fs-1%3Fx%3D%23"


def test_scopes_are_requested_where_set(api: InfermedicaServer, tmp_path: Path) -> None:
    assert Run(api, tmp_path, "list").code == 0
    assert Run(api, tmp_path, "list", FHIRLINE_INFERMEDICA_SCOPES="{url}/webhook.read {url}/x").code == 0
    assert api.scopes == ["", f"{api.url}/webhook.read {api.url}/x"]
    assert api.requests[0][2] == {"grant_type": "client_credentials"}
