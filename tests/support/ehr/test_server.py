"""The FHIR server of the tests answers as one, and is missed where it has to be there.

That a durable one keeps its data through a kill is seen in `tests.streams.deliver.test_deliver`.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.ehr import build
from tests.support.ehr.build import Unavailable, classpath
from tests.support.ehr.fixture import EhrServers, unavailable
from tests.support.paths import ROOT
from tests.support.waiting import wait_until

PATIENT = {"resourceType": "Patient", "id": "a"}
UNKNOWN_GENDER = PATIENT | {"gender": "woman"}


def test_it_stores_what_it_is_sent_and_forgets_it_when_cleared(ehr_server: EhrServers) -> None:
    server = ehr_server()
    server.clear()
    assert server.send("PUT", "Patient/a", PATIENT).status == 201
    assert server.send("GET", "Patient/a").body["meta"]["versionId"] == "1"
    assert ehr_server() is server
    server.clear()
    assert server.send("GET", "Patient/a/_history/1").status == 404


def test_it_refuses_what_the_validator_calls_an_error(ehr_server: EhrServers) -> None:
    server = ehr_server(validate=True)
    assert server.send("PUT", "Patient/a", UNKNOWN_GENDER).status in (400, 422)
    assert server.send("PUT", "Patient/a", PATIENT).status in (200, 201)


@pytest.mark.long
def test_it_ends_with_a_test_run_that_is_killed(ehr_server: EhrServers, tmp_path: Path) -> None:
    ehr_server()  # or a skip with its reason
    code = (
        "from tests.support.ehr.server import EhrServer\n"
        "with EhrServer() as server:\n"
        "    print(server.base, flush=True)\n"
        "    input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as run:
        assert run.stdout is not None
        address = urlsplit(run.stdout.readline())
        run.kill()
    wait_until(lambda: refused(str(address.hostname), address.port or 0), "the server outlives its test run")


def refused(host: str, port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex((host, port)) != 0


def test_without_maven_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "CACHE", tmp_path / "cache")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="no mvn on the PATH"):
        classpath()


def test_what_maven_says_is_in_the_reason_and_nothing_half_made_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mvn").write_text("#!/bin/sh\necho 'no such artifact'\nexit 1\n")
    (tmp_path / "mvn").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(build, "CACHE", tmp_path / "cache")
    with pytest.raises(Unavailable, match="no such artifact"):
        classpath()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["lock"]


def test_what_is_skipped_at_home_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no java"):
        unavailable("no java")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no java"):
        unavailable("no java")
