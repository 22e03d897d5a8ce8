"""Laws over all mappings at once: a mapping written next year is tested before anyone thinks of it.

Pure (same bytes twice), nothing crashes, every output valid, the ledger complete, no secret anywhere, and the final
store the same in any order of arrival.
"""

import random
from functools import cache
from typing import Any

import orjson
import pytest

from fhirline.mappers.json_pointer import leaves_of
from fhirline.mappers.pipeline.envelope import Envelope
from fhirline.mappers.pipeline.normalize import InMemoryState, Normalized, Normalizer
from fhirline.mappers.pipeline.output import Output
from fhirline.mappers.pipeline.practitioner_fold import contributed, decoded, encoded, folded
from fhirline.mappers.results import StateEntries
from fhirline.streams.kafka.headers import header, headers
from fhirline.streams.kafka.records import ConsumerRecord
from fhirline.streams.step4_normalize.map_event import MappedEvent, map_event
from tests.support.cases import Case, cases
from tests.support.mutations import mutated

CASES = cases()
SECRET = "s3cr3t-5528-xyzzy"
LOOKS_SECRET = "l00ks-like-4711-plugh"


@cache
def _normalizer(position: int) -> Normalizer:
    return CASES[position].normalizer()


def normalizer(case: Case) -> Normalizer:
    return _normalizer(CASES.index(case))


def followed(case: Case, body: dict[str, Any], memory: InMemoryState | None = None) -> MappedEvent:
    """Map a body as the worker does, and return everything that would leave the process."""
    received = headers(
        received_at=case.received_at, tenant="acme", **({"event_type": case.route_event} if case.route_event else {})
    )
    raw = ConsumerRecord(f"raw.{case.vendor}", 0, 0, 0, b"k", orjson.dumps(body), received)
    return map_event(raw, normalizer(case), memory or InMemoryState(), 6)


every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.vendor}/{case.name}")
few_or_many = pytest.mark.parametrize(
    "seeds", [pytest.param(range(2), id="few"), pytest.param(range(2, 30), id="many", marks=pytest.mark.long)]
)
"""Seeds of the mutants of a case: two in ``make test``, all others in ``make test-long``."""


few_or_many_orders = pytest.mark.parametrize(
    "seeds", [pytest.param(range(4), id="few"), pytest.param(range(4, 12), id="many", marks=pytest.mark.long)]
)


def mutant(case: Case, seed: int) -> dict[str, Any]:
    """A broken variant of one of the case's events, of its own for each case."""
    return mutated(case.events[seed % len(case.events)], random.Random(f"{case.vendor}/{case.name}/{seed}"))


@every_case
@few_or_many
def test_a_mutated_event_is_mapped_or_refused_and_accounted_for(case: Case, seeds: range) -> None:
    for seed in seeds:
        body = mutant(case, seed)
        result = followed(case, body)
        place = header(result.records[-1].headers, "error-path")
        assert result.error not in ("mapping-failed", "resource-invalid"), f"seed {seed}: {place}"
        assert result.normalized is not None
        assert result.records == followed(case, body).records, f"seed {seed}: the same event twice gives the same bytes"
        assert_ledger_is_complete(result.normalized, case.envelope(body), f"seed {seed}: ")


def assert_ledger_is_complete(normalized: Normalized, envelope: Envelope, which: str = "") -> None:
    """Every leaf of the input has one treatment: its own row, or one of a place above it."""
    rows = {leaf.pointer for leaf in normalized.ledger}
    assert len(rows) == len(normalized.ledger), f"{which}a leaf stands in the ledger once"
    for pointer, _ in leaves_of(envelope.body):
        above = [pointer]
        while above[-1]:
            above.append(above[-1].rpartition("/")[0])
        assert sum(place in rows for place in above) == 1, f"{which}{pointer} is not accounted for"


SECRETS: dict[str, tuple[tuple[str, ...], ...]] = {
    "altibbi": (("data", "dispense", "pass_code"), ("data", "dispense", "url"), ("data", "dispense", "qr_code")),
    "mediquo": (("payload", "consultation", "url"), ("payload", "consultation", "consultation_url")),
    "azodha": (
        ("data", "openTeleRoom", "url"),
        ("data", "appointment", "openTeleRoom"),
        ("secret",),
        ("organizationCode",),
    ),
    "infermedica": (("authorization_token",), ("x-webhook-infermedica-token",)),
}


@every_case
@few_or_many
def test_no_string_begins_or_ends_with_white_space(case: Case, seeds: range) -> None:
    """Also where the sender's texts do (mapping.md §2.4)."""
    for seed in seeds:
        result = normalizer(case)(case.envelope(padded(mutant(case, seed))), InMemoryState())
        for output in (*result.outputs, *filter(None, (result.outcome,))):
            for pointer, value in leaves_of(orjson.loads(output.value)):
                trimmed = not isinstance(value, str) or value == value.strip(" \t\r\n")
                assert trimmed, f"seed {seed}: {output.key}{pointer}"


def padded(value: Any) -> Any:
    """Return a body with white space around every text that is no word of a vocabulary (those have a space inside)."""
    if isinstance(value, dict):
        return {name: padded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [padded(item) for item in value]
    return f" \n{value}\t " if isinstance(value, str) and " " in value else value


@every_case
@few_or_many
def test_no_secret_leaves(case: Case, seeds: range) -> None:
    """Secrets under their own keys, wherever those stand, and what looks like one under a key no rule knows.

    The former are in no record at all, the latter only in the value of a dead letter, as they are in raw.
    """
    for seed in seeds:
        for record in followed(case, with_secrets(case, seed, nested=seed % 2 == 1)).records:
            letter = record.topic.startswith("dead-letter.")
            for secret in (SECRET,) if letter else (SECRET, LOOKS_SECRET):
                assert secret.encode() not in (record.value or b""), f"seed {seed}: {record.topic}"
            assert SECRET not in repr(record.headers), f"seed {seed}: {record.topic}"
            assert LOOKS_SECRET not in repr(record.headers), f"seed {seed}: {record.topic}"


def with_secrets(case: Case, seed: int, nested: bool) -> dict[str, Any]:
    """A mutant of the case with secrets; ``nested`` puts each object of the body into another one too."""
    body = mutant(case, seed)
    for path in SECRETS.get(case.vendor, ()):
        put(body, path, f"https://{SECRET}" if path[-1] == "url" else SECRET)
    put(body, ("extra", "accessToken"), LOOKS_SECRET)
    put(body, ("extra", "signed"), f"https://{LOOKS_SECRET}")
    if nested:
        return {**body, **{name: {name: value} for name, value in body.items() if isinstance(value, dict)}}
    return body


def put(body: dict[str, Any], path: tuple[str, ...], value: str) -> None:
    """Set ``value`` at ``path``, with objects made on the way where something else stands."""
    place = body
    for key in path[:-1]:
        if not isinstance(place.get(key), dict):
            place[key] = {}
        place = place[key]
    place[path[-1]] = value


@pytest.mark.parametrize(
    "case", [case for case in CASES if len(case.events) > 1], ids=lambda case: f"{case.vendor}/{case.name}"
)
@few_or_many_orders
def test_any_order_of_arrival_ends_in_the_same_store(case: Case, seeds: range) -> None:
    """Byte-equal redeliveries stand behind their first: their later receipt may show (mapping.md §15.8)."""
    events = list({envelope.event_key: envelope for envelope in reversed(case.envelopes())}.values())
    expected = final_store(case, events)
    for seed in seeds:
        shuffled = list(events)
        random.Random(seed).shuffle(shuffled)
        redelivered = [item for envelope in shuffled for item in (envelope, envelope)] if seed % 2 else shuffled
        assert final_store(case, redelivered) == expected, f"order of seed {seed}"


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.vendor in ("azodha", "mediquo")],
    ids=lambda case: f"{case.vendor}/{case.name}",
)
@few_or_many_orders
def test_any_split_over_partitions_ends_in_the_same_practitioners(case: Case, seeds: range) -> None:
    """A professional's events come from the partitions of many patients: neither order nor split may show."""
    events = list({envelope.event_key: envelope for envelope in reversed(case.envelopes())}.values())
    expected = final_practitioners(case, [(envelope, 0) for envelope in events])
    assert expected == {
        key: value for key, value in final_store(case, events).items() if key.startswith("Practitioner/")
    }
    for seed in seeds if len(events) > 1 else ():
        rng = random.Random(seed)
        shuffled = [(envelope, rng.randrange(3)) for envelope in events]
        rng.shuffle(shuffled)
        assert final_practitioners(case, shuffled) == expected, f"order and split of seed {seed}"


def final_practitioners(case: Case, placed: list[tuple[Envelope, int]]) -> dict[str, bytes]:
    """The last Practitioners, folded over the raw partitions that the events are placed in."""
    normalize, memories = normalizer(case), [InMemoryState(), InMemoryState(), InMemoryState()]
    contributions: dict[str, dict[str, StateEntries]] = {}
    for envelope, partition in placed:
        updates = normalize(envelope, memories[partition]).state_updates
        for subject, entries in contributed(updates, memories[partition]).items():
            contributions.setdefault(subject, {})[f"raw.{case.vendor}/{partition}"] = decoded(encoded(entries))
        memories[partition].apply(updates)
    store = {}
    for subject, by_source in contributions.items():
        made = folded(normalize, case.vendor, "acme", subject, by_source)
        assert isinstance(made, Output)
        store[made.key] = made.value
    return store


def final_store(case: Case, envelopes: list[Envelope]) -> dict[str, bytes]:
    """The last value under each canonical key."""
    normalize, memory = normalizer(case), InMemoryState()
    store: dict[str, bytes] = {}
    for envelope in envelopes:
        result = normalize(envelope, memory)
        memory.apply(result.state_updates)
        store.update((output.key, output.value) for output in result.outputs)
    return store


def test_state_survives_its_topic() -> None:
    """State entries read back from their records are what was remembered: folds do not depend on the process."""
    from fhirline.streams.step3_restore.state import PartitionState, state_record

    for case in CASES:
        normalize, kept, restored = normalizer(case), InMemoryState(), PartitionState()
        for envelope in case.envelopes():
            result = normalize(envelope, kept)
            again = normalize(envelope, restored)
            assert [output.value for output in result.outputs] == [output.value for output in again.outputs]
            kept.apply(result.state_updates)
            for statement in result.state_updates:
                record = state_record("state", 0, "acme|x", statement)
                assert record.value is not None
                restored.read(record.key, record.value)
