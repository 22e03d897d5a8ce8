"""The finder finds all that Python's patterns match, also where case is ignored and where a text is no Unicode."""

import re

import pytest

from fhirline.mappers.pipeline.finder import finder
from fhirline.mappers.pipeline.secret_labels import stem_pattern


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
