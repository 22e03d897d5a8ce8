"""Check that every document and section (§) that code, tables and docs cite exists."""

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PurePosixPath

import pytest

from tests.support.paths import DOCS, ROOT

DESIGN = DOCS / "design"
HERE = Path(__file__).relative_to(ROOT).as_posix()
"""This file: it contains wrong citations on purpose."""

MAPPING = "docs/design/mapping.md"
OWN_DOCUMENT = {"mappers": MAPPING, "config": MAPPING}
"""Top-level folder → the document that a § without a document means there, and in the folder's tests."""

SECTION_OF_THE_EXAMPLE = ("docs/adding-a-vendor.md", "17")
"""File and section of mapping.md that ``fhirline vendor new`` adds for the chapter's invented vendor."""

ABSENT_ON_PURPOSE = {("tests/docs/test_docs.py", "nothing.md")}

_TOKEN = re.compile(
    r"""(?P<url>https?://[^\s)>"']+)
    |(?P<other>RFC\ \d+(?:\ §[\d.]*\d)?)
    |(?P<document>(?:[\w.-]+/)*[\w-]+\.md)\b
    |§\ ?(?P<section>\d+(?:\.\d+)*)""",
    re.X,
)
_CHAIN = re.compile(r"[`)*\]]*(?:\([^)\s]*\))?,?\s*(?:(?P<range>to|–)\s+|and\s+|or\s+)?", re.A)
"""Text between the parts of one citation: ``mapping.md §3.2 to §3.4, §4.1``."""

_DETAIL = re.compile(
    r"""`?,?\s+(?:"(?P<words>[^"]+)"|(?P<kind>rule|row|point)s?\s+(?P<numbers>\d+(?:(?:,\s+|\s+and\s+|\s+to\s+)\d+)*))"""
)
"""A part of the cited section: words of it, or a numbered rule, row or point."""


@dataclass(frozen=True)
class Citation:
    """A place that cites ``document`` (None: a § of no document), and the part of it that is cited."""

    file: str
    line: int
    document: str | None
    section: str | None = None
    words: str | None = None
    number: int | None = None
    kind: str = ""

    def __str__(self) -> str:
        named = (f"§{self.section}" if self.section else "", f'"{self.words}"' if self.words else "")
        numbered = f"{self.kind} {self.number}" if self.number is not None else ""
        return f"{self.file}:{self.line}: {' '.join(filter(None, (self.document, *named, numbered)))}"


# Reading


def citations(file: str, text: str) -> Iterator[Citation]:
    """The citations of a text, in order.

    A § belongs to the document that it directly follows, or else to the one that was named last in the paragraph. In a
    document of docs/design, and where none was named, it belongs to the file's own document.
    """
    named: str | None = None
    current: Citation | None = None
    end = 0
    for token in _TOKEN.finditer(text):
        between = text[end : token.start()]
        chain = _CHAIN.fullmatch(between) if current else None
        if re.search(r"\n[\s#]*\n", between):
            named = None
        line = text.count("\n", 0, token.start()) + 1
        previous, current = current, None
        if token["document"]:
            named = token["document"]
            current = Citation(file, line, named)
        elif token["section"]:
            inherited = named if chain or not file.startswith("docs/design/") else None
            current = Citation(file, line, inherited or own_document(file), token["section"])
            if previous and chain and chain["range"]:
                yield from between_sections(previous, current)
        if current:
            yield current
            if detail := _DETAIL.match(text, token.end()):
                yield from details(current, detail)
        end = token.end()


def own_document(file: str) -> str | None:
    return file if file.startswith("docs/design/") else OWN_DOCUMENT.get(file.removeprefix("tests/").partition("/")[0])


def between_sections(first: Citation, last: Citation) -> Iterator[Citation]:
    """The sections of ``§8.1.4 to §8.1.6`` that the range does not name itself."""
    above, _, start = (first.section or "").rpartition(".")
    other, _, stop = (last.section or "").rpartition(".")
    if start and above == other:
        for number in range(int(start) + 1, int(stop)):
            yield replace(last, section=f"{above}.{number}".lstrip("."))


def details(cited: Citation, found: re.Match[str]) -> Iterator[Citation]:
    if found["words"]:
        yield replace(cited, words=" ".join(found["words"].split()))
        return
    for part in re.split(r",\s+|\s+and\s+", found["numbers"]):
        first, _, last = re.sub(r"\s+", " ", part).partition(" to ")
        for number in range(int(first), int(last or first) + 1):
            yield replace(cited, number=number, kind=found["kind"])


@cache
def tracked() -> tuple[str, ...]:
    """The repository's files, also those not yet committed; links to its folders are left out."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return tuple(sorted(item for item in listed if (ROOT / item).is_file()))


@cache
def named_files() -> Mapping[str, Sequence[str]]:
    """Name → the repository's files of that name."""
    found: dict[str, list[str]] = {}
    for item in tracked():
        found.setdefault(PurePosixPath(item).name, []).append(item)
    return found


@cache
def all_citations() -> Mapping[str, Sequence[Citation]]:
    """Document as it is cited → its citations; ``""``: sections of no document."""
    found: dict[str, list[Citation]] = {}
    for file in tracked():
        if file.endswith((".py", ".yaml", ".yml", ".md")) and file != HERE:
            for citation in citations(file, (ROOT / file).read_text("utf-8")):
                if (file, citation.document) not in ABSENT_ON_PURPOSE:
                    found.setdefault(citation.document or "", []).append(citation)
    return found


# Looking up


def located(citation: Citation) -> Path | None:
    """The cited document: beside the file that cites it, from the top, or the one document of that name."""
    if citation.document is None:
        return None
    beside = ROOT / citation.file
    for folder in (beside.parent, ROOT):
        if (path := (folder / citation.document).resolve()).is_file():
            return path
    if "/" in citation.document:
        return None
    named = named_files().get(citation.document, ())
    return ROOT / named[0] if len(named) == 1 else None


@cache
def sections(path: Path) -> Mapping[str, str]:
    """Number of each numbered heading → the section's text, subsections included; ``""`` is the whole document."""
    text = path.read_text("utf-8")
    plain = re.sub(r"^```.*?^```$", lambda block: re.sub(r"^#", " ", block[0], flags=re.M), text, flags=re.M | re.S)
    headings = [(len(match[1]), match[2], match.start()) for match in _HEADING.finditer(plain)]
    found = {"": plain}
    for position, (level, title, start) in enumerate(headings):
        following = (at for depth, _, at in headings[position + 1 :] if depth <= level)
        if number := re.match(r"(\d+(?:\.\d+)*)\b", title):
            found.setdefault(number[1], plain[start : next(following, len(plain))])
    return found


_HEADING = re.compile(r"^(#{1,6}) (.+)$", re.M)


def wrong(citation: Citation) -> bool:
    """Tell whether the document, or the cited part of it, does not exist."""
    if (citation.file, (citation.section or "").partition(".")[0]) == SECTION_OF_THE_EXAMPLE:
        return False
    path = located(citation)
    if path is None or (citation.section or "") not in sections(path):
        return True
    text = sections(path)[citation.section or ""]
    if citation.words is not None:
        return citation.words.casefold() not in " ".join(re.sub("[*`]", "", text).split()).casefold()
    if citation.number is not None:
        item = rf"^{citation.number}\. |^\| *{citation.number} *\||\b{citation.kind} {citation.number}\b"
        return re.search(item, text, re.M | re.I) is None
    return False


# Citations


def test_every_citation_leads_to_a_section() -> None:
    cited = [citation for found in all_citations().values() for citation in found]
    assert [str(citation) for citation in cited if wrong(citation)] == []


def test_the_code_cites_the_specification() -> None:
    """The test above finds about as many citations as a plain search does."""
    assert len([citation for citation in all_citations()["mapping.md"] if citation.section]) > 200
    assert {citation.section for citation in all_citations()["vendor-payloads.md"]} >= {
        "1",
        "2.1",
        "2.2",
        "2.3",
        "2.5",
        "3",
        "4",
    }


@pytest.mark.parametrize("path", sorted(DESIGN.glob("*.md")), ids=lambda path: path.name)
def test_sections_are_numbered_in_order(path: Path) -> None:
    titles = [match[2] for match in _HEADING.finditer(sections(path)[""])]
    numbers = [item[1] for item in (re.match(r"(\d+(?:\.\d+)*)\b", title) for title in titles) if item]
    assert len(set(numbers)) == len(numbers)
    assert numbers == sorted(numbers, key=lambda number: [int(part) for part in number.split(".")])


SAMPLE = f"""
(mapping.md §3.2 "fields", §1, rule 10; §9.9), and of the same paragraph (§77.1)

`{MAPPING}` §8.1.4 to §8.1.6, §8.2 and §16 point 12, §16 point 13; vendor-payloads.md §2.1 to §2.9

RFC 6901 §4, https://example.org/absent.md §3, nobody.md, mapping.md §9.1.1, "Fold" and mapping.md §9.1.1, "Unfold"

(§4.4)
"""


def test_what_is_not_there_is_found() -> None:
    found = [*citations("streams/x.py", SAMPLE)]
    assert [str(item).partition(": ")[2] for item in found if wrong(item)] == [
        "mapping.md §9.9",
        "mapping.md §77.1",
        f"{MAPPING} §16 point 13",
        "vendor-payloads.md §2.6",
        "vendor-payloads.md §2.7",
        "vendor-payloads.md §2.8",
        "vendor-payloads.md §2.9",
        "§3",
        "nobody.md",
        'mapping.md §9.1.1 "Unfold"',
        "§4.4",
    ]
    right = [str(item).partition(": ")[2] for item in found if not wrong(item)]
    assert {"mapping.md §1 rule 10", 'mapping.md §3.2 "fields"', f"{MAPPING} §8.1.5", f"{MAPPING} §16 point 12"} <= {
        *right
    }
    assert not any(wrong(citation) for citation in citations("mappers/x.py", "(§4.4)"))
    assert not any(wrong(citation) for citation in citations(MAPPING, "vendor-payloads.md §2.1, beside it §4.4"))
