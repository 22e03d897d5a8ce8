"""A body with many names of secrets costs a bounded number of looks, and keeps none of its secrets (mapping.md §7)."""

import html
import re
from collections.abc import Callable
from html.entities import html5
from itertools import product
from typing import Any

import orjson
import pytest

from fhirline.config.tables import secrets
from fhirline.mappers.payload import Payload
from fhirline.mappers.pipeline import tolerant, weight
from fhirline.mappers.pipeline.bounds import bounded
from fhirline.mappers.pipeline.limits import Limits
from fhirline.mappers.pipeline.redaction import credential_forms, large_bodies, values
from fhirline.mappers.pipeline.redaction.html_references import without_references
from fhirline.mappers.pipeline.redaction.large_bodies import LargeRedaction
from fhirline.mappers.pipeline.redaction.redact import REDACTED, redact
from tests.support.redaction import SECRET

LIMIT = 100
PLAIN = [f"Cough {number}" for number in range(64)]

OF_EACH_KIND: dict[str, Callable[[int], Any]] = {
    "pair": lambda number: ["pass_code", f"{SECRET}{number}"],
    "pair of an unlike name": lambda number: [f"passCode{number}x{number}", f"{SECRET}{number}"],
    "name and value": lambda number: {"name": "pass_code", "value": f"{SECRET}{number}"},
    "extension": lambda number: {"url": f"https://example.org/{number}/pass_code", "valueString": f"{SECRET}{number}"},
    "numbered pair": lambda number: {"0": "pass_code", "1": f"{SECRET}{number}"},
    "key": lambda number: {f"userPassCode{number}x": f"{SECRET}{number}"},
    "split name": lambda number: {f"a{number}pass": {"code": f"{SECRET}{number}"}},
    "parent": lambda number: {"chatConfig": {"token": f"{SECRET}{number}"}},
    "named parent": lambda number: {"name": "chatConfig", "value": {"token": f"{SECRET}{number}"}},
    "table": lambda number: {"columns": ["id", "pass_code"], "rows": [[number, f"{SECRET}{number}"]]},
    "table of lists": lambda number: [["id", "pass_code"], [number, f"{SECRET}{number}"]],
    "headers": lambda number: ["host", "example", "pass_code", f"{SECRET}{number}"],
    "label before": lambda number: [{"name": f"pass_code{number}"}, {"value": f"{SECRET}{number}"}],
}
each_kind = pytest.mark.parametrize("kind", OF_EACH_KIND)


@pytest.fixture
def few_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (values, large_bodies):
        monkeypatch.setattr(module, "MOST_NAMES", LIMIT)


def looks(body: Any, monkeypatch: pytest.MonkeyPatch) -> int:
    """Redact a body; return how many of its values were looked at one by one."""
    found = 0
    redacted = LargeRedaction.redacted

    def counted(self: LargeRedaction, value: Any, below: frozenset[str], room: int) -> Any:
        nonlocal found
        found += 1
        return redacted(self, value, below, room)

    with monkeypatch.context() as patch:
        patch.setattr(LargeRedaction, "redacted", counted)
        redact(body)
    return found


@each_kind
@pytest.mark.usefixtures("few_names")
def test_behind_many_names_a_part_is_redacted_whole(kind: str) -> None:
    make = OF_EACH_KIND[kind]
    body = {"log": [*PLAIN, *(make(number) for number in range(4 * LIMIT)), *PLAIN, *PLAIN]}
    made = redact(body)["log"]
    assert SECRET not in str(made)
    assert len(made) == len(body["log"])
    assert made[: len(PLAIN)] == PLAIN
    assert made[-len(PLAIN) :] == PLAIN
    assert made[len(PLAIN)] == redact([make(0)])[0]  # the first ones are redacted as ever
    assert made[-len(PLAIN) * 2 - 1] == REDACTED
    assert redact({"log": made}) == {"log": made}


@each_kind
@pytest.mark.usefixtures("few_names")
def test_behind_many_names_the_looks_grow_with_the_parts_alone(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = (
        looks([OF_EACH_KIND[kind](number) for number in range(count)], monkeypatch) for count in (1_000, 9_000)
    )
    assert few > LIMIT
    assert many < few + 100


@pytest.mark.usefixtures("few_names")
def test_behind_many_keys_a_part_of_an_object_is_redacted_whole() -> None:
    secret = {f"userPassCode{number}x": {"at": number, "is": SECRET} for number in range(4 * LIMIT)}
    texts = {orjson.dumps({"pass_code": f"{SECRET}{number}"}).decode(): SECRET for number in range(4 * LIMIT)}
    plain = {f"reason{number}": number for number in range(64)}
    absent = dict.fromkeys((f"userPassCode{number}y" for number in range(64)), None)
    made = redact({"log": {**secret, **texts, **absent, **plain, "rest": "Cough"}})["log"]
    assert SECRET not in str(made)
    assert made[f"userPassCode{4 * LIMIT - 1}x"] == REDACTED
    assert made.items() >= plain.items()
    assert set(map(made.get, absent)) == {None}
    assert redact({"log": made}) == {"log": made}


@pytest.mark.usefixtures("few_names")
def test_behind_twice_as_many_names_a_short_list_is_redacted_whole_too() -> None:
    """No list of such a body is long enough to be searched in parts."""

    def tree(levels: int) -> Any:
        return [tree(levels - 1), tree(levels - 1), "Cough"] if levels else [f"passCode{levels}", SECRET]

    made = redact({"first": tree(9), "plain": ["Cough", {"dose": 2}], "last": {"pass_code": SECRET}})
    assert SECRET not in str(made)
    assert made["plain"] == ["Cough", {"dose": 2}]
    assert made["last"] == REDACTED
    assert redact(made) == made


def test_the_weight_of_a_chain_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """At each level again, 150 levels took 75 times as long as one."""
    visited = 0
    weigh = weight.Weights._weigh

    def counted(self: Any, value: Any) -> Any:
        nonlocal visited
        visited += 1
        return weigh(self, value)

    monkeypatch.setattr(weight.Weights, "_weigh", counted)

    def chain(levels: int) -> Any:
        value: Any = 1
        for _ in range(levels):
            value = {"a": value}
        return value

    found = []
    for levels in (10, 90):
        visited = 0
        made = bounded({"log": [chain(levels) for _ in range(2_000)]}, Payload, Limits())
        assert made.cuts
        found.append(visited)
    assert found[1] < 1.2 * found[0]


def test_a_chain_with_escaped_keys_is_cut_as_one_with_others() -> None:
    def cut_of(key: str) -> list[tuple[int, int]]:
        value: Any = "x" * 3_000_000
        for _ in range(40):
            value = {key: value, "b": 1} if key == "a/" else {key: value}
        return [(cut.values, cut.pointer.count("/")) for cut in bounded({"log": value}, Payload, Limits()).cuts]

    assert cut_of("~") == cut_of("aa")


def test_references_are_resolved_as_html_has_them() -> None:
    pieces = [
        "&",
        "amp;",
        "amp",
        "notit;",
        "copy=2",
        "#65;",
        "#x41",
        "#99999999;",
        "NotEqualTilde;",
        "x" * 40,
        ";",
        " ",
        "é",
    ]
    for parts in product(pieces, repeat=3):
        text = "&" + "".join(parts)
        assert without_references(text) == html.unescape(text)
    for name in html5:
        assert without_references(f"&{name}") == html5[name]
        assert without_references(f"&{name}x&{name[:-1]}") == html.unescape(f"&{name}x&{name[:-1]}")


def test_names_of_credentials_are_tried_only_where_one_may_begin() -> None:
    """Python tries each alternative that ignores case at every place of a text, but none whose first class differs."""
    rule = secrets().withheld
    for names in (rule.passwords, rule.labels, rule.numbers, rule.mail_words):
        pattern = credential_forms._spelled(names)
        groups = re.findall(r"(?:^\(\?:|\|)(\[[^\]]+\])\(\?i:", pattern)
        assert len(groups) >= len({name[0].lower() for name in names}) - 1
        assert pattern.startswith("(?:[")
        for name in names:
            for spelled in (name, name.upper(), name.capitalize()):
                assert re.search(pattern, spelled), spelled


@pytest.mark.parametrize("text", ["\ud800", "a\udc00b", "\ud800\ud800", "\ud83d\ude00\ud83d", "x\ud83d"])
def test_halves_of_surrogate_pairs_are_replaced_as_utf_16_has_them(text: str) -> None:
    flags: set[str] = set()
    assert tolerant._text(text, flags) == text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert flags == {tolerant.TEXT_DAMAGED}
