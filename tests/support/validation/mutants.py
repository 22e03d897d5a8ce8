"""Seeded mutations of resources: each returns a changed copy, or None where it finds nothing to change."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from tests.support.validation.wrong_values import CODES, DATES, DIVS, IDS, NUMBERS, REFERENCES, RETYPED, TEXTS

Resource = dict[str, Any]
Place = tuple[Any, Any]
"""A container and the key or position of a value in it."""


def mutants(bases: list[Resource], count: int, seed: int) -> Iterator[tuple[str, Resource]]:
    """``count`` mutants of the bases, each with the name of its mutation."""
    drawn = random.Random(seed)
    made = 0
    while made < count:
        mutation = drawn.choice(MUTATIONS)
        resource = orjson.loads(orjson.dumps(drawn.choice(bases)))
        if mutation(resource, drawn, bases):
            made += 1
            yield mutation.__name__, resource


def _places(value: Any) -> Iterator[Place]:
    if isinstance(value, dict):
        for name in value:
            yield value, name
            yield from _places(value[name])
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield value, position
            yield from _places(item)


def _one(resource: Resource, drawn: random.Random, wanted: Callable[[Any, Any, Any], bool]) -> Place | None:
    found = [(into, at) for into, at in _places(resource) if wanted(into, at, into[at])]
    return drawn.choice(found) if found else None


def _set(resource: Resource, drawn: random.Random, values: Any, wanted: Callable[[Any, Any, Any], bool]) -> bool:
    place = _one(resource, drawn, wanted)
    if place is None:
        return False
    place[0][place[1]] = drawn.choice(values)
    return True


def _is_date(_: Any, at: Any, value: Any) -> bool:
    return isinstance(value, str) and len(value) >= 10 and value[:4].isdigit() and value[4:5] == "-"


def _is_code(_: Any, at: Any, value: Any) -> bool:
    return isinstance(value, str) and at in {
        "status",
        "code",
        "intent",
        "gender",
        "mode",
        "use",
        "type",
        "severity",
        "criticality",
        "priority",
        "method",
        "action",
        "outcome",
        "role",
        "valueCode",
        0,
    }


def drop(resource: Resource, drawn: random.Random, _: Any) -> bool:
    place = _one(resource, drawn, lambda *_: True)
    if place:
        del place[0][place[1]]
    return place is not None


def rename(resource: Resource, drawn: random.Random, _: Any) -> bool:
    place = _one(resource, drawn, lambda into, *_: isinstance(into, dict))
    if place is None:
        return False
    into, name = place
    renamed = [f"{name}x", f"_{name}", name.upper(), f"{name}__ext", f"{name}_fhir", name.removeprefix("_"), "unknown"]
    into[drawn.choice(renamed)] = into.pop(name)
    return True


def retype(resource: Resource, drawn: random.Random, _: Any) -> bool:
    return _set(resource, drawn, RETYPED, lambda *_: True)


def wrap(resource: Resource, drawn: random.Random, _: Any) -> bool:
    place = _one(resource, drawn, lambda *_: True)
    if place is None:
        return False
    into, at = place
    value = into[at]
    shapes = [[value], {"x": value}, orjson.dumps(value).decode(), str(value)]
    if isinstance(value, list):
        shapes.append(value[0] if value else {})
    into[at] = drawn.choice(shapes)
    return True


def null(resource: Resource, drawn: random.Random, _: Any) -> bool:
    return _set(resource, drawn, [None], lambda *_: True)


def empty(resource: Resource, drawn: random.Random, _: Any) -> bool:
    return _set(resource, drawn, [{}, [], "", "  ", [None], [{}]], lambda *_: True)


def date(resource: Resource, drawn: random.Random, _: Any) -> bool:
    return _set(resource, drawn, DATES, _is_date)


def code(resource: Resource, drawn: random.Random, _: Any) -> bool:
    return _set(resource, drawn, CODES, _is_code)


def reference(resource: Resource, drawn: random.Random, _: Any) -> bool:
    return _set(resource, drawn, REFERENCES, lambda into, at, value: at == "reference" and isinstance(value, str))


def identity(resource: Resource, drawn: random.Random, _: Any) -> bool:
    return _set(resource, drawn, IDS, lambda into, at, value: at == "id")


def number(resource: Resource, drawn: random.Random, _: Any) -> bool:
    return _set(resource, drawn, NUMBERS, lambda into, at, value: isinstance(value, int | float))


def string(resource: Resource, drawn: random.Random, _: Any) -> bool:
    return _set(resource, drawn, TEXTS, lambda into, at, value: isinstance(value, str))


def div(resource: Resource, drawn: random.Random, _: Any) -> bool:
    return _set(resource, drawn, DIVS, lambda into, at, value: at == "div")


def wrong_choice(resource: Resource, drawn: random.Random, _: Any) -> bool:
    """A second member of a choice, or another one instead."""
    heads = ("value", "effective", "medication", "onset", "abatement", "occurred", "probability", "content")
    place = _one(resource, drawn, lambda into, at, _: isinstance(at, str) and at.startswith(heads) and at not in heads)
    if place is None:
        return False
    into, name = place
    head = next(item for item in heads if name.startswith(item))
    others = {"String": "x", "Boolean": True, "Integer": 3, "DateTime": "2024", "CodeableConcept": {"text": "x"}}
    other = drawn.choice(list(others))
    into[head + other] = others[other]
    if drawn.random() < 0.3 and head + other != name:
        del into[name]
    return True


def duplicate(resource: Resource, drawn: random.Random, _: Any) -> bool:
    place = _one(resource, drawn, lambda into, at, value: isinstance(value, list) and bool(value))
    if place is None:
        return False
    place[0][place[1]].append(drawn.choice(place[0][place[1]]))
    return True


def transplant(resource: Resource, drawn: random.Random, bases: list[Resource]) -> bool:
    """A member of another resource, put somewhere."""
    donor = drawn.choice(bases)
    name = drawn.choice(list(donor))
    place = _one(resource, drawn, lambda into, at, value: isinstance(value, dict))
    (resource if place is None else place[0][place[1]])[name] = donor[name]
    return True


def swap(resource: Resource, drawn: random.Random, _: Any) -> bool:
    place = _one(resource, drawn, lambda into, *_: isinstance(into, dict) and len(into) > 1)
    if place is None:
        return False
    into, one = place
    other = drawn.choice([name for name in into if name != one])
    into[one], into[other] = into[other], into[one]
    return True


def contained(resource: Resource, drawn: random.Random, _: Any) -> bool:
    inner: Resource = {"resourceType": "Medication", "id": "m", "code": {"text": "x"}}
    changes: list[Resource] = [
        {},
        {"contained": [{"resourceType": "Medication", "id": "n"}]},
        {"meta": {"versionId": "1"}},
        {"meta": {"security": [{"code": "N"}]}},
        {"resourceType": "Nonsense"},
        {"status": "done"},
    ]
    resource["contained"] = [inner | drawn.choice(changes)]
    if drawn.random() < 0.5:
        resource.setdefault("extension", []).append({"url": "http://x.example", "valueReference": {"reference": "#m"}})
    return True


def extension(resource: Resource, drawn: random.Random, _: Any) -> bool:
    bad = [
        {"url": "http://x.example"},
        {"valueString": "x"},
        {"url": "http://x.example", "valueString": "x", "valueCode": "x"},
        {"url": "http://x.example", "valueString": "x", "extension": [{"url": "y", "valueCode": "x"}]},
        {"url": "http://x.example", "valueUrl": "http://[x"},
        {"url": "a b", "valueString": "x"},
        {"url": "http://x.example", "valueBase64Binary": "$$$$"},
        {"url": "http://x.example", "valueBase64Binary": "aGVsbG8="},
        {"url": "http://x.example", "valueUuid": "urn:uuid:2cb0d7ff-6a1c-4b1b-9d4b-6a5d1b0c7f11"},
        {"url": "http://x.example", "valueOid": "1.2.3"},
        {"url": "http://x.example", "valueTime": "24:00:00"},
        {"url": "http://x.example", "valueQuantity": {"code": "mg"}},
        {"url": "http://x.example", "valuePeriod": {"start": "2024-02-01", "end": "2024-01-01"}},
    ]
    resource["extension"] = [drawn.choice(bad)]
    return True


def resource_type(resource: Resource, drawn: random.Random, _: Any) -> bool:
    kind = drawn.choice(["Patient", "Nonsense", None, "", 3, "Observation"])
    if kind is None:
        del resource["resourceType"]
    else:
        resource["resourceType"] = kind
    return True


MUTATIONS = [
    drop,
    rename,
    retype,
    wrap,
    null,
    empty,
    date,
    code,
    reference,
    identity,
    number,
    string,
    div,
    wrong_choice,
    duplicate,
    transplant,
    swap,
    contained,
    extension,
    resource_type,
]
