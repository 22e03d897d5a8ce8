"""A Bundle tells whose it is, as the erasure list knows patients."""

import orjson
import pytest

from fhirline.config.settings import Settings
from fhirline.mappers.pipeline.normalize import InMemoryState
from fhirline.mappers.registry import partition_key
from fhirline.streams.deliver.entries import entries_of
from fhirline.streams.deliver.erased import partition_keys
from fhirline.streams.operate.erasure.server import NOT_DELETED, lines
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.streams.step4_normalize.map_event import map_event
from fhirline.streams.step4_normalize.raw_event import envelope_of
from fhirline.topics.declared import BUNDLE
from tests.support.cases import BASE, Case, cases

NOBODY = ("event/", "professional/")
"""Beginnings of keys of events that name no patient: nobody can be erased by them."""


@pytest.mark.parametrize(("share", "least"), [(5, 40), pytest.param(1, 200, marks=pytest.mark.long)])
def test_each_golden_bundle_names_the_patient_of_its_event_and_nobody_else(share: int, least: int) -> None:
    found = {f"{case.vendor}/{case.name}": [*named(case)] for case in cases()[::share]}
    wrong = {case: pairs for case, pairs in found.items() if any(keys != wanted for keys, wanted in pairs)}
    assert wrong == {}
    assert sum(map(len, found.values())) > least


def named(case: Case) -> list[tuple[frozenset[str], frozenset[str]]]:
    """Return whom each Bundle of a case names, and by whose key its event is partitioned."""
    normalize, memory, found = case.normalizer(), InMemoryState(), []
    for envelope, body in zip(case.envelopes(), case.events, strict=True):
        raw = raw_record(case.vendor, "acme", orjson.dumps(body), envelope.received_at, case.route_event, 64).at(0, 0)
        made = map_event(raw, normalize, memory, Settings(_env_file=None).partitions)
        memory.apply(made.state_updates)
        key = partition_key(envelope_of(raw))
        wanted = frozenset() if key.split("|")[2].startswith(NOBODY) else frozenset({key})
        bundles = [record for record in made.records if record.topic == BUNDLE]
        found += [(partition_keys(entries_of(bundle.value), BASE), wanted) for bundle in bundles]
    return found


def test_the_report_of_an_erasure_says_what_the_server_may_keep() -> None:
    counts = {"purged": 5, "refused-405": 3, "off": 2, NOT_DELETED: 1, "submitted": 4}
    written = "\n".join(lines(counts))
    for part in ("5 deleted and purged", "3 deleted", "refused the purge with 405", "FHIRLINE_FHIR_PURGE is false"):
        assert part in written
    assert "1 not deleted yet" in written
    assert "4 deleted; the server purges them by itself" in written
    assert "nothing" in "\n".join(lines({}))
    assert "not known" in "\n".join(lines({}, asked=False))
