"""``fhirline infermedica webhooks`` and the token that the gateway expects: read from its file, and rotated."""

from pathlib import Path

import pytest

from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from tests.support.infermedica_server import Fault, InfermedicaServer
from tests.support.infermedica_webhooks import CONFIG, GATEWAY, HANGS, SURVEY, TOKEN, Run, created
from tests.support.receiving import create_raw_topics, running_gateway
from tests.support.waiting import LIMIT


def test_a_token_comes_from_the_file_that_the_gateway_reads(api: InfermedicaServer, tmp_path: Path) -> None:
    """The last line is the newest token. ``--token-file`` names another file."""
    file, other = tmp_path / "token", tmp_path / "other"
    file.write_text("older-token-0000\nnewer-token-1111\n\n", "utf-8")
    other.write_text("given-token-2222", "utf-8")
    for path in (file, other):
        path.chmod(0o600)
    by_file = {"FHIRLINE_INFERMEDICA_TOKEN": "", "FHIRLINE_INFERMEDICA_TOKEN_FILE": str(file)}
    id_ = str(Run(api, tmp_path, "create", GATEWAY, "--json", **by_file).json["id"])
    assert api.webhooks[id_].authorization_token == "newer-token-1111"
    run = Run(api, tmp_path, "rotate-token", id_, "--token-file", str(other), **by_file)
    assert (run.code, run.err) == (0, "")
    assert api.webhooks[id_].authorization_token == "given-token-2222"
    file.chmod(0o644)
    assert "can be read by others" in Run(api, tmp_path, "rotate-token", id_, **by_file).err


def test_a_token_is_rotated_without_a_gap(api: InfermedicaServer, tmp_path: Path) -> None:
    """A running gateway accepts the old token and the new one, without a restart."""
    file = tmp_path / "token"
    by_file = {"FHIRLINE_INFERMEDICA_TOKEN": "", "FHIRLINE_INFERMEDICA_TOKEN_FILE": str(file)}
    id_ = str(Run(api, tmp_path, "create", GATEWAY, "--generate", "--json", **by_file).json["id"])
    old = api.webhooks[id_].authorization_token
    assert file.read_text("utf-8") == f"{old}\n"
    assert file.stat().st_mode & 0o777 == 0o600
    with EmbeddedBroker() as broker:
        create_raw_topics(broker)
        with running_gateway(broker.bootstrap, tmp_path, **by_file) as gateway:

            def received(token: str) -> int:
                return gateway.post("/webhooks/infermedica", SURVEY, x_webhook_infermedica_token=token).status

            assert received(old) == 202
            run = Run(api, tmp_path, "rotate-token", id_, "--generate", **by_file)
            assert run.code == 0, run.err
            new = api.webhooks[id_].authorization_token
            assert new != old
            assert len(new) >= 40
            assert new not in run.out + run.err
            assert file.read_text("utf-8").split() == [old, new]
            assert [received(item) for item in (old, new, "neither")] == [202, 202, 401]


@pytest.mark.parametrize("fault", [None, Fault(401), Fault(409)])
def test_a_refused_new_token_is_removed_from_the_file(
    api: InfermedicaServer, tmp_path: Path, fault: Fault | None
) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN, "utf-8")
    path = f"{CONFIG}/nobody"
    if fault:
        api.faults[path].extend([fault, fault])
    run = Run(api, tmp_path, "rotate-token", "nobody", "--generate", "--token-file", str(file))
    assert run.code == 1
    assert file.read_text("utf-8") == TOKEN
    assert api.asked(path) == (2 if fault and fault.status == 401 else 1), "401: once more with a new access token"


@pytest.mark.long
def test_a_new_token_stays_where_the_answer_is_lost(api: InfermedicaServer, tmp_path: Path) -> None:
    id_ = created(api, tmp_path)
    file = tmp_path / "token"
    file.write_text(TOKEN, "utf-8")
    for fault in (Fault(503), Fault(hang=True)):
        api.faults[f"{CONFIG}/{id_}"].append(fault)
        limit = HANGS if fault.hang else str(LIMIT)
        own = {"FHIRLINE_INFERMEDICA_TIMEOUT": limit}
        run = Run(api, tmp_path, "rotate-token", id_, "--generate", "--token-file", str(file), **own)
        assert run.code == 1
        assert "may have taken it" in run.err
    assert len(file.read_text("utf-8").split()) == 3
    assert Run(api, tmp_path, "rotate-token", id_, "--token-file", str(file)).code == 0
    assert api.webhooks[id_].authorization_token == file.read_text("utf-8").split()[-1]


# What goes wrong
