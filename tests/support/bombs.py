"""Bodies that the gateway accepts and that would fill the memory (mapping.md §1.1), and a process that maps them.

``python -m tests.support.bombs VENDOR`` maps each bomb of a vendor under a limit of its address space, and prints
a line of JSON about what it became. All values are synthetic.
"""

import copy
import json
import resource
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from string import ascii_lowercase
from time import process_time
from typing import Any

import orjson

from tests.support.memory import peak_memory

ADDRESS_SPACE = 2 << 30
"""Limit of the process that maps the bombs. orjson alone reserves 1 GiB of it without using it: the memory that is used
is measured as well."""
SIZE = 4_100_000
"""Bytes of a bomb: just below the gateway's default for a body."""


def nested(levels: int, inner: Any, key: str = "key") -> Any:
    for _ in range(levels):
        inner = {key: inner}
    return inner


def nested_lists(levels: int) -> list[Any]:
    inner: list[Any] = [1]
    for _ in range(levels):
        inner = [inner]
    return inner


def nested_levels(levels: int) -> Any:
    """Objects and lists by turns."""
    inner: Any = 1
    for level in range(levels):
        inner = {"a": inner} if level % 2 else [inner]
    return inner


def json_in_json() -> str:
    """JSON in JSON, as often as fits: each level doubles the escapes of the level below."""
    inner = "x"
    while len(outer := json.dumps([inner])) < SIZE - 1_000:
        inner = outer
    return inner


def letters(number: int) -> str:
    """A short key, another for each number."""
    found = ""
    while number or not found:
        number, place = divmod(number, len(ascii_lowercase))
        found += ascii_lowercase[place]
    return found


NAMES = (
    "confirmation=>\u2022 code%3D(\u200bcGFzc19jb2Rlconfirmation code(\u200bcGFzc19jb2Rlconfirmationsk-proj->code"
    "\u200bcGFzc19jb2Rlconfirmation (\u200b KEY-----confirmation=>\u2022 code%3D(\u200b"
)
"""Names of secrets and beginnings of tokens, in clear, encoded, and between signs that nobody sees."""


SEVERAL_ENCODINGS = "\\u0022=3D code\u0416pass_codeotp=3D =3D  %3D =3Dcode\\u0022='s3D = \uff41]]=("
"""Signs of several encodings, in each of which a text may have a secret."""


def item(number: int) -> dict[str, Any]:
    """An item of any list of any vendor."""
    return {
        "id": number,
        "name": f"n{number}",
        "question": f"q{number}",
        "answer": f"a{number}",
        "symptom": [{"name": f"s{number}"}],
        "fdaDrug": [{"name": f"d{number}"}],
        "active_substances": [f"d{number}"],
        "content": {"plan": f"p{number}"},
        **{f"field{extra}": extra for extra in range(20)},
    }


SHAPES: dict[str, Callable[[], Any]] = {
    "numbers": lambda: [1] * (SIZE // 2),
    "wide object": lambda: {str(number): number for number in range(SIZE // 16)},
    "empty lists": lambda: [[]] * (SIZE // 3),
    "small objects": lambda: [{"a": 1}] * (SIZE // 8),
    "texts": lambda: [f"text {number}" for number in range(SIZE // 16)],
    "deep": lambda: nested(55, [1] * 20_000),
    "deep and wide": lambda: nested(45, [[{"a": [1, 2]}] * 900] * 130),
    "long key": lambda: {"k" * 1_000_000: [1] * 1_000_000},
    "long keys": lambda: {f"{number}{'k' * 2_000}": [1] * 500 for number in range(1_000)},
    "escaped key": lambda: {"~" * 10_000: [1] * 5_000},
    "long text": lambda: "x" * (SIZE - 1_000),
    "markup": lambda: "'" * (SIZE - 1_000),
    "long texts": lambda: ["y" * 50_000] * 80,
    "deep lists": lambda: [nested_lists(50)] * 10_000,
    "long numbers": lambda: [orjson.Fragment(b"9" * 4_000)] * 500,
    "escapes": lambda: '\\"\n\u0001' * (SIZE // 20),
    "items": lambda: [item(number) for number in range(SIZE // 500)],
    "equal items": lambda: [item(7)] * 900,
    "unlike items": lambda: [item(number) for number in range(200)],
    "distinct short keys": lambda: dict.fromkeys(map(letters, range(SIZE // 10)), 1),
    "distinct long keys": lambda: dict.fromkeys((f"{number}{'kA' * 45}" for number in range(SIZE // 100)), 1),
    "distinct encoded keys": lambda: dict.fromkeys((f"%C3%A9{letters(number)}" for number in range(SIZE // 17)), 1),
    "distinct keys of a path": lambda: dict.fromkeys((f"a.{letters(number)}" for number in range(SIZE // 12)), 1),
    "distinct keys of secrets": lambda: dict.fromkeys((f"secret{number}" for number in range(SIZE // 17)), 1),
    "alternating levels": lambda: [nested_levels(55)] * (SIZE // 200),
    "JSON in JSON": json_in_json,
    "lines of secrets": lambda: "chatConfig:\n a:\n" * (SIZE // 21),
    "broken JSON in texts": lambda: ['{"a"}'] * (SIZE // 12),
    "lists in texts": lambda: ["[1]"] * (SIZE // 8),
    "encoded secrets": lambda: [f"%70ass_code={number}" for number in range(SIZE // 22)],
    "pairs": lambda: [["a", 1]] * (SIZE // 10),
    "full-width letters": lambda: "\uff41" * (SIZE // 3 - 1_000),
    "keys below a parent": lambda: {"consultation": dict.fromkeys(map(letters, range(SIZE // 10)), 1)},
    "lists below a parent": lambda: {"consultation": [["a", letters(number), 1] for number in range(SIZE // 18)]},
    "columns of secrets": lambda: [[f"pass_code{number}" for number in range(400)], *[["a"] * 400] * (SIZE // 1_602)],
    "non-ASCII keys": lambda: [{f"\u00e9{letters(number)}": 1} for number in range(SIZE // 14)],
    "calls with secrets": lambda: "ChatConfig(token=x) " * (SIZE // 21),
    "items with unread values": lambda: [
        {**item(number), **{f"unread{extra}": extra for extra in range(200)}} for number in range(SIZE // 4_100)
    ],
    "names of passwords": lambda: NAMES * (SIZE // len(NAMES.encode()) - 1),
    "texts in several encodings": lambda: [f"{number} {SEVERAL_ENCODINGS * 1_000}" for number in range(SIZE // 73_000)],
    "items of one id": lambda: [{**item(number), "id": 7} for number in range(200)],
}


@dataclass(frozen=True)
class Place:
    """The place at which a bomb is put. ``clinical``: it is one of clinical content."""

    path: tuple[str, ...]
    clinical: bool = False


@dataclass(frozen=True)
class Target:
    """A vendor's ordinary event, the type of its clinical resource, and the places of its bombs."""

    body: dict[str, Any]
    resource_type: str
    places: tuple[Place, ...]


TARGETS = {
    "mediquo": Target(
        {
            "type": "patient_consultation_finished",
            "occurred_on": 1700000000,
            "payload": {
                "consultation": {"id": "c1"},
                "patient": {"code": "p1", "allergies": [{"id": "a1", "name": "Penicillin"}]},
                "professional": {"id": "d1", "name": "Dr. Example"},
                "prescriptions": [{"id": "r1", "active_substances": ["Ibuprofen"]}],
            },
        },
        "MedicationRequest",
        (
            Place(("payload", "chat")),
            Place(("payload", "reports")),
            Place(("payload", "patient", "diseases"), clinical=True),
        ),
    ),
    "altibbi": Target(
        {
            "type": "recommendation_data",
            "consultation_id": 5,
            "user_id": 1,
            "datetime": "2023-06-15T09:38:50Z",
            "data": {"drug": [{"fdaDrug": [{"name": "Ibuprofen"}]}]},
        },
        "MedicationRequest",
        (Place(("chat",)), Place(("data", "postCallAnswer")), Place(("data", "icd10"), clinical=True)),
    ),
    "infermedica": Target(
        {
            "event_type": "survey_finished",
            "content": {"survey_id": "s1"},
            "summary": {
                "patient": {"id": "p1", "sex": "female"},
                "present_symptoms": [{"id": "s_1", "name": "Cough", "choice_id": "present"}],
            },
        },
        "Observation",
        (Place(("content", "chat")), Place(("summary", "chat")), Place(("summary", "risk_factors"), clinical=True)),
    ),
    "azodha": Target(
        {
            "event": "BookAppointment",
            "data": {
                "patientId": "p1",
                "appointment": {"id": "a1", "date": "2024-03-02", "status": "BOOKED"},
            },
        },
        "Appointment",
        (
            Place(("chat",)),
            Place(("data", "appointment", "resources")),
            Place(("data", "appointment", "participants")),
        ),
    ),
}


@dataclass(frozen=True)
class Became:
    """The result of a bomb: the dead letter's code, the bytes made of it, and the number of each resource type."""

    name: str
    clinical: bool
    sent: int
    error: str | None
    records: int
    made: int
    provenance: int
    outcome: int
    places: int
    state: int
    types: dict[str, int]
    flags: list[str]
    megabytes: int
    """Most memory that the process has used so far."""
    seconds: float
    """Processor time of the mapping. It is for reading: a test must not depend on the machine."""


def bombs(vendor: str, *wanted: str) -> Iterator[tuple[str, bool, bytes]]:
    """Make the bombs of a vendor, or those named: the name, whether it is one of clinical content, and the body."""
    target = TARGETS[vendor]
    for place in target.places:
        for name, make in SHAPES.items():
            title = f"{name} at {'/'.join(place.path)}"
            if wanted and title not in wanted:
                continue
            body = copy.deepcopy(target.body)
            inner = body
            for key in place.path[:-1]:
                inner = inner[key]
            inner[place.path[-1]] = make()
            yield title, place.clinical, orjson.dumps(body)


def main(vendor: str) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    from fhirline.config.settings import Settings
    from fhirline.mappers.pipeline.factory import build_normalizer
    from fhirline.mappers.pipeline.normalize import InMemoryState
    from fhirline.streams.kafka.headers import headers
    from fhirline.streams.kafka.records import ConsumerRecord
    from fhirline.streams.step4_normalize.map_event import map_event

    normalize = build_normalizer(Settings(_env_file=None))
    for name, clinical, value in bombs(vendor):
        received = headers(received_at="2024-06-01T12:00:00Z", tenant="acme")
        raw = ConsumerRecord(f"raw.{vendor}", 0, 0, 0, b"k", value, received)
        began = process_time()
        followed = map_event(raw, normalize, InMemoryState(), 6)
        seconds = round(process_time() - began, 2)
        normalized = followed.normalized
        outputs = normalized.outputs if normalized else ()
        outcome = normalized.outcome if normalized else None
        issues = outcome.resource["issue"] if outcome else ()
        became = Became(
            name,
            clinical,
            len(value),
            followed.error,
            len(followed.records),
            sum(len(record.value or b"") for record in followed.records),
            sum(len(output.value) for output in outputs if output.key.startswith("Provenance/")),
            len(outcome.value) if outcome else 0,
            max((len(issue.get("expression", ())) for issue in issues), default=0),
            len(followed.state_updates),
            dict(Counter(output.resource["resourceType"] for output in outputs)),
            [flag.code for flag in normalized.flags] if normalized else [],
            peak_memory(),
            seconds,
        )
        print(json.dumps(asdict(became)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
