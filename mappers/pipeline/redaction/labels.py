"""Secrets whose key is itself a value: members ``name`` and ``value`` of an object, a pair, a column, a label (§7)."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from fhirline.config.tables import secrets
from fhirline.mappers.pipeline.redaction.keys import (
    LONGEST_CACHED,
    REDACTED,
    comparable,
    names_within,
    treatment,
    words_of,
)
from fhirline.mappers.pipeline.redaction.label_keys import (
    ADDRESSES,
    CASED_KNOWN_LABELS,
    CASED_LABELS,
    CASED_VALUES,
    ROWS,
)

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")

_INSERT = re.compile(r"(?i:\binto\b)[^()]{0,200}\(([^()]{1,4000})\)\s{0,40}(?i:values)\s{0,40}(?=\()")
"""A statement of SQL with the names of its columns, up to their values."""
_END = re.compile(r"^.*[/#:](?=[^/#:?]+/?(?:\?|$))|/?(?:\?.*)?$", re.DOTALL)
"""Matches the part of an address that is not its last."""
_OF_CONCEPT = ("text", "display", "code", "name")
_MOST_CODINGS = 20
_MOST_COLUMNS = 500
_MOST_NAMED = 1_000
"""Items of a list that are looked at for a name: headers are far fewer, and a longer list has other things."""
_CELL = re.compile(r"(?:^|(?<=[,;|\t]))[^,;|\t]{1,100}(?=[,;|\t])|(?<=[,;|\t])[^,;|\t]{1,100}$")
_QUOTED_CELL = re.compile(r"\"([^\"]{1,60})\"[ \r]*(?=[,;|\t])")
_NAME = re.compile(r"[^:=>,;\n]{1,60}")
BETWEEN = r"(?:[^\S\n]{0,2}[\-–—·/][^\S\n]{0,2}|[^\S\n]{1,3}|\\?_{1,2}|[.]|&#0*95;|%5f)?"
_EMPHASIS = r"(?:\*{1,3}|_{2}|</?[a-z]{1,10}>)"
_BULLET = r"(?:[-*•]|\d{1,3}[.)])"
_PART = (
    r"(?:\.(?:(?:value|val|text|content|data|is|\d{1,3})\b|(?=\s{0,2}[:=]))){0,3}"
    r"(?:\(\)|\s{0,3}\([^()\n:=]{1,40}\)(?=\s{0,3}[:=]))?"
)
"""Pattern of what may follow a name: the rest of a flattened path (``pass_code.value: …``), a full stop, a remark."""
_YAML = rf"(?:(?:\r?\n\s{{0,40}}{_BULLET}|[!&][\w!:.-]{{0,40}}|\{{\s{{0,4}}[\w-]{{1,40}}\s{{0,4}}:)\s{{1,4}})?"
"""Pattern before a value: a mark of a list's item, a tag or an anchor, or the first name in braces."""
_TO_VALUE = (
    rf"""(?:(?:["'”’]{{2}}|["'\])”»’}}%]|{_EMPHASIS})?\s{{0,4}}(?:[:：﹕׃∶꞉︰]\s{{0,4}}[=:]?|=>?|->|<-|[→⇒⟶➔➜👉←≔]|،|,)|\t|(?:>|&gt;)(?:<!\[CDATA\[)?"""
    r"""|["']?;s:\d{1,6}:|["']\]=>\s{1,40}(?:string\(\d{1,9}\)\s|(?:int|float)\()|["'][^\r\n]{0,100}(?:\r?\n){2}|\s{1,4}VERB(?:\s{0,2}[:：])?\s|\(["']"""
    r"""|(?:["']|['’]s)?,?\s{1,9}["'(]?(?:value|val|content|text)["']?\s{0,4}[:=])"""
    rf"""(?![\s"'(\[]{{0,4}}redacted\])\s{{0,4}}{_YAML}(?![\s"'(\[]{{0,4}}redacted\])[\s"'(\[]{{0,4}}(?:{_EMPHASIS}[\s"'(\[]{{0,4}})?"""
)
UNIT = "(?:mg|ml|mcg|[µμ]g|g|kg|mm|cm|h|x|kcal|iu|ui|bpm|mmol)"
MEASURE = rf"(?:\d{{4}}-\d\d-\d\d|\d{{1,2}}[:/.]\d|\d+\s?(?i:{UNIT})\b)"
"""Pattern of a date, a fraction or a dose, which white space alone makes no secret: ``Senha 2024-05-01``."""
CLINICAL = r"(?:[A-Z]\d\d\.\d{1,4}|\d{2,3}/\d{2,3}|(?i:covid|sars-cov)-\d{1,2}|HbA1c)(?![\w/.@-]{0,40}[\w/@-])"
"""Pattern of a code of ICD, a blood pressure, and names of medicine that have a digit: ``QR code – COVID-19 test``."""
_SPACE_TO_VALUE = (
    r"""(?:\s{0,4}(?:[;~!@{#?»…]|-{2,3}|>>|<br\s?/?>|[|]{1,4}|==|\]\(|[–—]|\s-\s|[._]{3,60}|\s(?:no\.?|nº|number|número|numero)\s)\s{0,4}[“«]?"""
    rf"""|(?:\s{{1,4}}\.|[)\]}}%])?\s{{1,4}}(?:(?<=\n){_BULLET}\s{{1,4}}|\|\s{{0,4}})?)(?!["'(]?(?:{MEASURE}|{CLINICAL}))["'(]?|/"""
)
"""Pattern of white space, a slash, or a character that is rare in prose there, between a name and its value.

The value must have a digit then."""


def labelled_values(value: Mapping[str, Any], names_secret: Callable[[str], bool] | None = None) -> tuple[str, ...]:
    """Return the members of an object that have a secret value, since another member names it.

    ``names_secret`` decides whether a text is the name of a secret; by default, whether a key so named is redacted.

    >>> labelled_values({"name": "Pass code", "type": "text", "value": "1234"})
    ('value',)
    >>> labelled_values({"url": "https://example.org/fhir/pass_code", "valueString": "1234"})
    ('valueString',)
    >>> labelled_values({"name": "Ibuprofen", "value": "400 mg"})
    ()
    """
    if CASED_VALUES.isdisjoint(value):
        return ("1",) if len(value) == 2 and "1" in value and is_pair((value.get("0"), value["1"])) else ()
    labels = CASED_LABELS if names_secret else CASED_KNOWN_LABELS
    is_name = names_secret or _known_label
    for label in [key for key in value if key in labels]:
        if any(len(name) <= LONGEST_CACHED and is_name(name) for name in _names(label, value[label])):
            return tuple(key for key in value if key in CASED_VALUES and key != label)
    return ()


def _names(label: str, named: Any) -> Iterator[str]:
    """Yield the names that a label gives: a text, the end of an address, the texts and codes of a CodeableConcept."""
    if named.__class__ is str:
        yield name_of(label, named)
    elif named.__class__ is dict:
        codings = named.get("coding")
        for part in (named, *(codings[:_MOST_CODINGS] if codings.__class__ is list else ())):
            if part.__class__ is dict:
                yield from (part[key] for key in _OF_CONCEPT if part.get(key).__class__ is str)


def name_of(label: str, named: str) -> str:
    """Return the name that a text gives: the last part of an address, or the text."""
    return _END.sub("", named) if label.lower() in ADDRESSES else named


def is_pair(value: Sequence[Any]) -> bool:
    """Return whether a list is the name of a secret and its value.

    >>> is_pair(["pass_code", "1234"]), is_pair(["fever", "cough"])
    (True, False)
    """
    return len(value) == 2 and is_label(value[0])


def named_positions(value: Sequence[Any]) -> list[int]:
    """Return the positions of a list that follow the name of a secret; in a list of three, all behind the first item.

    Programs send headers as one flat list of names and values.

    >>> named_positions(["Host", "example.org", "pass_code", "1234"]), named_positions(["pass_code", "string", "1234"])
    ([3], [1, 2])
    """
    found = [place + 1 for place, item in enumerate(value[: min(len(value) - 1, _MOST_NAMED)]) if is_label(item)]
    return [1, 2] if len(value) == 3 and found == [1] else found


def header_columns(value: Sequence[Any]) -> list[int]:
    """Return the columns of a list of rows that hold secrets: the first row has their names.

    >>> header_columns([["id", "pass_code"], [1, "1234"]]), header_columns([["fever", "cough"], [1, 2]])
    ([1], [])
    """
    first = value[0] if len(value) > 1 else None
    if first.__class__ is not list or any(row.__class__ is not list for row in value[1:]):
        return []
    return [place for place, name in enumerate(first[:_MOST_COLUMNS]) if is_label(name)]


def values_of_labels(value: Sequence[Any]) -> list[int]:
    """Return the positions of the objects in a list that hold only a value, and follow the object with its name.

    >>> values_of_labels([{"name": "pass_code"}, {"value": "1234"}])
    [1]
    """
    return [
        place + 1
        for place, item in enumerate(value[: min(len(value) - 1, _MOST_NAMED)])
        if item.__class__ is dict
        and len(item) == 1
        and value[place + 1].__class__ is dict
        and CASED_VALUES.issuperset(value[place + 1])
        and labelled_values({**item, **value[place + 1]})
    ]


def named_columns(
    value: Mapping[str, Any], names_secret: Callable[[Any], bool] | None = None
) -> list[tuple[str, frozenset[int]]]:
    """Return the columns of a table that hold secrets: the member of the object with its rows, and the positions.

    >>> named_columns({"columns": ["id", "pass_code"], "rows": [[1, "1234"], [2, "5678"]]})
    [('rows', frozenset({1}))]
    """
    if ROWS.isdisjoint(value):
        return []
    is_name, found = names_secret or is_label, []
    for rows in ROWS.intersection(value):
        if value[rows].__class__ is list:
            names = [item for key, item in value.items() if key != rows and item.__class__ is list and item]
            places = frozenset(
                place for items in names for place, name in enumerate(items[:_MOST_COLUMNS]) if is_name(name)
            )
            found += [(rows, places)] if places else []
    return found


def is_label(name: Any) -> bool:
    """Return whether an item of a list is the name of a secret."""
    return may_be_label(name) and _known_label(name)


def may_be_label(name: Any) -> bool:
    """Return whether an item of a list may be the name of a secret. Most are not, which a search finds fastest."""
    if name.__class__ is not str or len(name) > LONGEST_CACHED:
        return False
    return not name.isascii() or _first_word().search(name) is not None


@lru_cache(maxsize=1)
def _first_word() -> re.Pattern[str]:
    """Return a pattern of letters that is found in every redacted key, however it is encoded."""
    names = (*secrets().redacted, *map("_".join, names_within()))
    starts = {next(word for word in _WORD.findall(name) if len(word) > 2)[:4].lower() for name in names}
    return re.compile(rf"(?i:{'|'.join(sorted(map(re.escape, starts)))}|%|&|[.\[\]/|\\])")


@lru_cache(maxsize=4096)
def _known_label(name: str) -> bool:
    """Tell whether a text is the name of a secret. A name of one word, as ``dispense``, is a word of a record too."""
    words = name.strip()
    if not _NAME.fullmatch(words):
        return False
    found = treatment(words)
    plain = words.isalpha() and words in (words.lower(), words.capitalize())
    return found.redacted and not (plain and found.names.isdisjoint(_names_of_words()))


@lru_cache(maxsize=1)
def _names_of_words() -> frozenset[str]:
    """Return the redacted keys of more than one word, as `comparable`: ``passcode`` is no word of a record."""
    return frozenset(comparable(name) for name in secrets().redacted if len(words_of(name)) > 1)


@lru_cache(maxsize=1)
def name_pattern() -> str:
    """Return a pattern of the keys of `names_within` as they are written in texts."""
    names: dict[str, list[str]] = {}
    for first, *others in names_within():  # by the first word, which most places of a text do not have
        names.setdefault(first, []).append(spelled(others))
    forms = (rf"{first}{BETWEEN}(?:{'|'.join(ends)})" for first, ends in names.items())
    return rf"(?:{'|'.join(forms)})s?"


def spelled(words: Iterable[str]) -> str:
    """Return a pattern of words as they are written in a name, with a separator between them or none."""
    return BETWEEN.join(map(re.escape, words))


@lru_cache(maxsize=1)
def _label() -> re.Pattern[str]:
    """Return the pattern of a label and of the value behind it: one word that has a digit, or is long.

    The label is the first group.
    """
    to_value = _TO_VALUE.replace("VERB", f"(?:{verb_pattern()})")
    return re.compile(
        rf"((?i:(?<![a-z]){name_pattern()}{_PART})"
        rf"""(?:(?i:{to_value})(?=[^\s"'<>,;]{{0,200}}\d|[^\s"'<>,;]{{12}})"""
        rf"""|(?:{_SPACE_TO_VALUE})(?=[^\s"'<>,;]{{0,200}}\d)(?=[^\s"'<>,;]{{4}})))[^\s"'<>,;]+"""
    )


@lru_cache(maxsize=1)
def _stems() -> tuple[str, ...]:
    """Return the first words of the keys of `names_within`: a text without any has no label of a secret."""
    return tuple(sorted({words[0] for words in names_within()}))


def stem_pattern() -> str:
    """Return a pattern (of `finder`) that is found in every text with a label of a secret.

    Where case is ignored, i, ı and İ are one letter for Python, but not for `finder`.
    """
    return any_of(_stems())


def named_pattern() -> str:
    """Return a pattern (of `finder`) that is found in JSON whose texts name a secret: a stem, or a whole key."""
    words = [[word.lower() for word in _WORD.findall(name)] for name in secrets().redacted]
    joined = {sign.join(name) for name in words if len(name) > 1 for sign in ("", "_", "-", " ")}
    return any_of((*_stems(), *sorted(joined)))


@lru_cache(maxsize=1)
def verb_pattern() -> str:
    """Return a pattern of the words that may stand between the name of a secret and the secret."""
    return "|".join(word.replace(" ", r"\s{1,4}") for word in secrets().verbs)


def any_of(names: Iterable[str]) -> str:
    """Return a pattern, for Python and for `finder`, of any of some names, whatever their case."""
    return rf"(?i:{'|'.join(re.escape(name).replace('i', '[iıİ]') for name in names)})"


def _cells(first: str, rows: str) -> Iterator[str]:
    """Yield the cells of a text's first line, also those in quotes behind other words, where further lines have cells.

    >>> [*_cells('Note: "id";"pass_code"', '"1";"2"')], [*_cells("Bring the pass code, please", "Rest")]
    (['Note: "id', 'pass_code', 'id'], [])
    """
    signs = "".join(sign for sign in ",;|\t" if sign in rows)
    if signs:
        for cell in _CELL.finditer(first):
            around = {first[cell.end() : cell.end() + 1], first[cell.start() - 1 : cell.start()]}
            if not around.isdisjoint(signs):
                yield cell[0].strip(" \"'\r")
        yield from _QUOTED_CELL.findall(first)


def without_labelled(text: str) -> str:
    """Return a text with the value behind each label of a secret redacted; the same text where there is none.

    >>> without_labelled("Your pass code: 5528, valid today")
    'Your pass code: [redacted], valid today'
    >>> without_labelled("Pass code: ask the pharmacy. Code: 4")
    'Pass code: ask the pharmacy. Code: 4'
    """
    first, _, rows = text.partition("\n")
    if rows and any(is_label(cell) for cell in _cells(first[:4_000], rows)):
        return REDACTED  # a table, whose first line has the names of the columns
    if (found := _INSERT.search(text)) and any(is_label(name.strip(" \t\n\"'`[]")) for name in found[1].split(",")):
        text = text[: found.end()] + REDACTED
    return _label().sub(lambda found: found[1] + REDACTED, text)
