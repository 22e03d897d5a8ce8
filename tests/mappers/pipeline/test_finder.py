"""The finder finds all that Python's patterns match, also where case is ignored and where a text is no Unicode."""

import re
import subprocess
import sys
from itertools import product

import pytest

from fhirline.mappers.pipeline.finder import finder
from fhirline.mappers.pipeline.redaction import block_names
from fhirline.mappers.pipeline.redaction.keys import names_within
from fhirline.mappers.pipeline.redaction.labels import stem_pattern
from tests.support.waiting import LIMIT


@pytest.mark.parametrize("text", ["\ud800", "x\udfff", b"\xff", b"pass\xed\xa0\x80"])
def test_what_cannot_be_searched_is_looked_at(text: str | bytes) -> None:
    assert finder("pass.code")(text)


def test_a_label_is_found_with_every_letter_that_python_takes_for_one_of_its_own() -> None:
    found = finder(stem_pattern())
    everything = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x20000)]))
    for name in ("pass", "api", "webhook"):
        assert found(name)
        for letter in {*name}:
            for same in re.findall(f"(?i:{letter})", everything):
                assert found(name.replace(letter, same)), f"U+{ord(same):04X} for {letter}"
                assert found(name.replace(letter, same).encode())


def test_what_is_in_brackets_behind_a_name_is_found_whatever_stands_between() -> None:
    names = [words for words in names_within() if len(words) > 1]
    between = [
        "",
        " ",
        "  ",
        "\t",
        "\x0b",
        "\x1c ",
        "-",
        " / ",
        "_",
        ".",
        "&#95;",
        "&#0095;",
        "%5f",
        "%5F",
        "\u2003",
        " – ",
        "·",
    ]
    behind = ["(", ": [", "={", "\x1c:\x0c{", "] => Array (", "'] => [", "\u2003=\x85{"]
    found = 0
    for name, sign, end in product(names, between, behind):
        words = sign.join(name)
        other = words.translate({ord("i"): "ı", ord("s"): "ſ", ord("k"): "\u212a"})
        for text in (words + end, words.upper() + end, f"x.{words}s_1{end}", f"é {other}½{end}", other + end):
            if block_names.opening_pattern().search(text):
                assert block_names.opening_finder()(text), repr(text)
                found += 1
    assert found > 3 * len(names) * len(between)


def test_a_name_behind_other_words_at_the_end_of_a_line_is_found_whatever_its_letters() -> None:
    for name in names_within():
        for word in ("_".join(name), "\u2003".join(name).upper(), "·".join(name).replace("i", "ı").replace("s", "ſ")):
            text = f"Your {word}：\n  1234"
            if block_names.ending_pattern().search(text):
                assert block_names.ending_finder()(text), repr(text)
            assert block_names.ending_pattern().search(f"Your {'_'.join(name)}: \n 1234")


def test_no_finder_takes_longer_to_make_than_the_slowest_pattern() -> None:
    """One with counted signs beyond ASCII took half a second of a worker's first event, and held up its heartbeats."""
    program = """
import time
from fhirline.mappers.pipeline.redaction import block_names, plain_parts, values, redact, encodings
from fhirline.mappers.pipeline.redaction import credential_forms, embedded_formats, credentials
none = frozenset()
def seconds(make, *given):
    start = time.process_time()
    make(*given)
    return time.process_time() - start
pattern = seconds(block_names.head_pattern, none) + seconds(credential_forms.forms)
modules = plain_parts, redact, block_names, encodings, credentials, embedded_formats
finders = [make for module in modules for name, make in vars(module).items() if name.endswith("_finder")]
assert len(finders) > 5, finders
for make in finders:
    took = seconds(make, *[none] * make.__wrapped__.__code__.co_argcount)
    assert took < pattern, (make, took, pattern)
"""
    subprocess.run([sys.executable, "-c", program], timeout=LIMIT, check=True)
