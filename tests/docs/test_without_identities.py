"""docs/without-identities.md: the eighteen kinds, and the rules."""

import re

from fhirline.streams.tables.without_identities.rules import MEANINGS
from tests.support.paths import ROOT
from tests.support.without_identities import catalog_of

PAGE = (ROOT / "docs" / "without-identities.md").read_text("utf-8")


def test_each_of_the_eighteen_kinds_has_a_line() -> None:
    found = re.findall(r"^\| \(([A-R])\) [^|]+ \| [^|]{6,} \|$", PAGE, re.MULTILINE)
    assert "".join(found) == "ABCDEFGHIJKLMNOPQR"


def test_each_rule_has_a_line_and_is_used() -> None:
    lines = re.findall(r"^\| `([a-z]+)[ `]", PAGE, re.MULTILINE)
    assert lines == [*MEANINGS]
    used = {
        column.without_identities.partition(" ")[0]
        for table in catalog_of().tables.values()
        for column in table.columns
    }
    assert used == {*MEANINGS}


def test_the_tables_that_are_left_out_are_those_of_texts() -> None:
    """A new table without tags would be left out without a word."""
    from fhirline.streams.tables.views import load_views
    from tests.support.cases import BASE

    assert load_views(base=BASE).keys() - catalog_of().tables.keys() == {"ingredient"}
