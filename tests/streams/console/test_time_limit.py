"""One visitor's body keeps the shared threads busy for a bounded time, and not at all once nobody waits for it."""

from threading import Thread

import orjson
import pytest

from fhirline.config.settings import load_settings
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.mappers.pipeline.lineage import lineage
from fhirline.mappers.pipeline.normalize import InMemoryState
from fhirline.mappers.registry import open_without_receipt
from fhirline.streams.console.time_limit import SOURCES_GIVEN_UP, TookTooLong, time_limit
from tests.streams.cli.test_terminology import recommendation
from tests.streams.console.conftest import Site
from tests.support.console_pages import Answer, Visitor

MANY = orjson.dumps({**recommendation(1, {}), "more": [{"value": str(number)} for number in range(5_000)]})


def test_a_search_for_sources_ends_where_nobody_waits_for_it() -> None:
    normalize = build_normalizer(load_settings())
    envelope = open_without_receipt("altibbi", "default", MANY, None)
    with pytest.raises(TookTooLong):
        lineage(normalize, envelope, InMemoryState(), time_limit(3_600, lambda: False))
    with pytest.raises(TookTooLong):
        lineage(normalize, envelope, InMemoryState(), time_limit(0))


@pytest.mark.long
def test_a_body_of_many_values_is_shown_without_sources_and_holds_nobody_up(stack: Site) -> None:
    visitor = Visitor(stack.url).log_in()
    event = visitor.get(f"/events?q={stack.planted.position}").headers["Location"]
    token = visitor.form_token("/playground")
    fields = {"vendor": "altibbi", "tenant": "default", "body": MANY.decode(), "sources": "on", "form-token": token}
    answers: list[Answer] = []
    mapped = Thread(target=lambda: answers.append(visitor.post("/playground?part", **fields)))
    mapped.start()
    try:
        assert visitor.get(event).status == 200
        assert mapped.is_alive()
    finally:
        mapped.join()
    assert SOURCES_GIVEN_UP in answers[0].text
    assert "recommendation_data: " in answers[0].text
