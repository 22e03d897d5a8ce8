"""``fhirline deliver verify``: compare the FHIR server with the topics of resources."""

import asyncio
from typing import Annotated

import typer

from fhirline.config.exit_codes import DIFFERS
from fhirline.config.settings import load_settings
from fhirline.streams.cli.options import AsJson
from fhirline.streams.cli.output import counting, print_json, print_table, progress


def verify(
    server: Annotated[
        str | None, typer.Option(metavar="URL", help="Base URL of the FHIR server; default: FHIRLINE_FHIR_SERVER.")
    ] = None,
    foreign: Annotated[
        bool, typer.Option(help="Search, too, for resources with the tag of our vendors that no topic holds.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Compare every resource of the `fhir.r4.*` topics with what the server has of it. Prints ids only.

    Each finding has a kind:

    * missing: the server does not have the resource.
    * older: the server has another value, and the current one was not sent yet.
    * different: the server has another value, although the current one was sent.
    * not-deleted: the topic has a tombstone, and the server has the resource.
    * foreign: the server has a resource with the tag of one of our vendors, and no topic has it.

    Nothing is changed. Run it when nothing waits: resources that arrive meanwhile may be reported.

    Exit codes:

    * 0: the server has exactly what the topics hold.
    * 1: something differs.
    * 2: a wrong setting, refused credentials, a missing topic or privilege, or a cluster or server without an answer.
    * 130: interrupted.
    """
    import uvloop

    from fhirline.streams.cli.connection import require_topics
    from fhirline.streams.observe.logs import configure_logging
    from fhirline.streams.operate.deliveries.verify import verify as verified

    settings = load_settings(**({} if server is None else {"fhir_server": server}))
    configure_logging(settings)
    require_topics(settings)
    with progress() as reporter, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(
            verified(
                settings,
                foreign,
                counting(reporter, "reading topics"),
                lambda done, total: reporter.show("comparing", done, total),
            )
        )
    if as_json:
        print_json(
            {
                "checked": result.checked,
                "equal": result.equal,
                "found": {kind.value: keys for kind, keys in result.found.items()},
                "waiting": sorted(result.waiting),
                "unsearched": result.unsearched if foreign else None,
            }
        )
    else:
        counts = [("checked", result.checked), ("equal", result.equal)]
        print_table(
            ("result", "resources"), [*counts, *((kind.value, len(keys)) for kind, keys in result.found.items())]
        )
        if not result.clean:
            rows = (
                (kind.value, key, "waits" if key in result.waiting else "-")
                for kind, keys in result.found.items()
                for key in keys
            )
            print_table(("result", "resource", "state"), rows)
        for kind, why in result.unsearched.items():
            print(f"{kind}: not searched for foreign resources: {why}")
    if not result.clean:
        raise typer.Exit(DIFFERS)
