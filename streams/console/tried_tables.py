"""Code tables that the playground tries: the texts of a form, for one mapping. Nothing of them is stored.

Each text replaces the file of its table in the deployment's folder, as it does once it has been put there.
"""

from collections.abc import Mapping
from typing import Any

import yaml

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.config.terminology import SUFFIX, Terminology, load_terminology, norm, try_terminology
from fhirline.mappers.json_pointer import value_at
from fhirline.streams.operate.terminology.draft import add_row, drafts, has_row, template
from fhirline.streams.operate.terminology.missing import Word

FIELD = "rows-"
"""Beginning of the names of the form's fields."""
LONGEST_WORD = 200
MOST_CHARACTERS = 60_000
"""Length of a table's text: the largest packaged table has a third of it."""
DEEPEST = 20
"""Levels of a table's text: the packaged ones have five."""

_OPENING = (
    yaml.BlockSequenceStartToken,
    yaml.BlockMappingStartToken,
    yaml.FlowSequenceStartToken,
    yaml.FlowMappingStartToken,
)
_CLOSING = (yaml.BlockEndToken, yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken)

VERSION = "own-1"
"""Version of the files that are begun here."""


def texts_in(form: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, str]:
    """Return the texts of a form's tables by name, without those that are empty."""
    sent = {name: str(form.get(f"{FIELD}{name}", "")).replace("\r\n", "\n") for name in names}
    return {name: text for name, text in sent.items() if text.strip()}


def terminology_with(settings: Settings, texts: Mapping[str, str]) -> tuple[Terminology, dict[str, str]]:
    """Load the tables with the texts. A table that is wrong is left out, and the second result says why."""
    problems, right = {}, {}
    for table, text in texts.items():
        try:
            _require_plain(table, text)
            try_terminology(None, {table: text})
            right[table] = text
        except ConfigurationError as error:
            problems[table] = str(error)
    folder = settings.terminology_dir
    return (try_terminology(folder, right) if right else load_terminology(folder)), problems


def _require_plain(table: str, text: str) -> None:
    """Raise ConfigurationError for what would keep the process busy.

    These are a long text, aliases, which multiply, and depth, whose square the parser needs.
    """
    if len(text) > MOST_CHARACTERS:
        raise ConfigurationError(
            f"{table}{SUFFIX}: has {len(text):,} characters; at most {MOST_CHARACTERS:,} are tried"
        )
    depth = 0
    try:
        for token in yaml.scan(text):
            depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
            at = f"{table}{SUFFIX}:{token.start_mark.line + 1}"
            if isinstance(token, yaml.AliasToken):
                raise ConfigurationError(f"{at}: an alias cannot be tried here; write the value out")
            if depth > DEEPEST:
                raise ConfigurationError(f"{at}: is nested deeper than {DEEPEST} levels")
    except yaml.YAMLError:
        return  # loading the table names the line


def opened(settings: Settings, texts: Mapping[str, str], table: str) -> dict[str, str]:
    """Add a table: with the deployment's own rows where its folder has some."""
    return {**texts, table: texts.get(table) or _own_text(settings, table) or template(table, VERSION)}


def with_draft(settings: Settings, texts: Mapping[str, str], word: Word) -> dict[str, str]:
    """Add a drafted row for a word, as ``fhirline terminology draft`` writes it."""
    text = texts.get(word.table) or _own_text(settings, word.table)
    if text:
        return {**texts, word.table: add_row(text, word)}
    return {**texts, word.table: drafts([word], VERSION, "the playground")[f"{word.table}{SUFFIX}"]}


def _own_text(settings: Settings, table: str) -> str:
    """Read the table's file in the deployment's folder; empty where there is none."""
    if settings.terminology_dir is None:
        return ""
    path = settings.terminology_dir / f"{table}{SUFFIX}"
    try:
        return path.read_text("utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError(f"FHIRLINE_TERMINOLOGY_DIR: cannot read {path}") from None


def words_without_a_row(
    unmapped: tuple[tuple[str, str], ...], body: Any, terminology: Terminology, texts: Mapping[str, str]
) -> list[tuple[Word | None, str, str, bool]]:
    """List words without a row: the word, its table and pointer, and whether a row was drafted.

    The word is None where the value is another one than was looked up, and where it was listed before.
    """
    listed: dict[tuple[str, str], Word] = {}
    found: list[tuple[Word | None, str, str, bool]] = []
    for table, pointer in unmapped:
        spelling = word_at(body, pointer)
        word = None
        if spelling is not None and terminology.row(table, spelling) is None and (table, norm(spelling)) not in listed:
            word = listed[table, norm(spelling)] = Word(table, spelling, 1, 1)
        found.append((word, table, pointer, word is not None and has_row(texts.get(table, ""), word)))
    return found


def word_at(body: Any, pointer: str) -> str | None:
    """Return the word at a pointer; None where there is no short text."""
    value = value_at(body, pointer)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    spelling = " ".join(str(value).split())
    return spelling if spelling and len(spelling) <= LONGEST_WORD and spelling.isprintable() else None
