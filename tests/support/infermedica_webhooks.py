"""Runs ``fhirline infermedica webhooks`` against a local server that implements the vendor's guide."""

import json
from pathlib import Path

from tests.support import cli
from tests.support.infermedica_server import CLIENT_ID, CLIENT_SECRET, InfermedicaServer
from tests.support.receiving import environment
from tests.support.waiting import LIMIT

CONFIG = "/api/v2/config/webhook"
GATEWAY = "https://gateway.example.org/webhooks/infermedica"
TOKEN = "zGORr7q1I4egIr0c0eKXD7CMpIcjFooJ"  # the guide's own example
HANGS = "10"
"""Seconds after which a command gives up where the server hangs: a busy machine issues an access token in less."""
SURVEY = {"event_type": "survey_finished", "content": {"survey_id": "s-1"}}


class Run:
    """Runs ``fhirline infermedica webhooks ...`` to its end."""

    def __init__(self, api: InfermedicaServer, folder: Path, *arguments: str, stdin: str = "", **environ: str) -> None:
        own = {
            "FHIRLINE_INFERMEDICA_URL": api.url,
            "FHIRLINE_INFERMEDICA_CLIENT_ID": CLIENT_ID,
            "FHIRLINE_INFERMEDICA_CLIENT_SECRET": CLIENT_SECRET,
            "FHIRLINE_INFERMEDICA_TOKEN": TOKEN,
            "FHIRLINE_INFERMEDICA_TIMEOUT": str(LIMIT),
        }
        given = {name: held for name, held in environment("127.0.0.1:9", **{**own, **environ}).items() if held}
        done = cli.run("infermedica", "webhooks", *arguments, env=given, cwd=folder, stdin=stdin)
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr
        for secret in (TOKEN, CLIENT_SECRET, *api.tokens):
            assert secret not in self.out + self.err, "no secret is ever printed"

    @property
    def json(self) -> dict[str, object]:
        assert self.code == 0, self.err
        loaded: dict[str, object] = json.loads(self.out)
        return loaded


def created(api: InfermedicaServer, folder: Path) -> str:
    return str(Run(api, folder, "create", GATEWAY, "--json").json["id"])
