"""Python names for what a vendor names: events, objects and fields.

>>> snake("VisitCompleted"), snake("lab-result.v2"), snake("2nd visit"), snake("Größe"), snake("予約")
('visit_completed', 'lab_result_v2', 'n2nd_visit', 'grosse', 'unnamed')
>>> camel("visit_completed"), camel("lab-result.v2")
('VisitCompleted', 'LabResultV2')
>>> singular("doctors"), singular("allergies"), singular("diagnoses"), singular("address")
('doctor', 'allergy', 'diagnosis', 'address')
"""

import keyword
import re
import unicodedata
from collections.abc import Collection

from pydantic import BaseModel

LONGEST = 60
"""Characters of a name. A longer key is data rather than a name."""

_WORDS = re.compile(r"[A-Z]+(?![a-z])\d*|[A-Z]?[a-z]+\d*|\d+[a-z]*", re.ASCII)
_LATIN = str.maketrans({"ß": "ss", "æ": "ae", "ø": "o", "ł": "l", "đ": "d", "ı": "i"})
_DATA = re.compile(
    r"\d+|\d{4}-\d{2}(-\d{2})?.*|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[^@\s]+@[^@\s]+\.\w+", re.ASCII
)
_PLAIN = re.compile(r"[a-z][A-Za-z0-9_]*", re.ASCII)
_IRREGULAR = {"diagnoses": "diagnosis", "analyses": "analysis", "statuses": "status", "data": "data", "news": "news"}


def is_data(key: str) -> bool:
    """Tell whether a key is a value instead of a field's name: a number, date, UUID or e-mail address, or very long."""
    return len(key) > LONGEST or _DATA.fullmatch(key) is not None


def words(text: str) -> list[str]:
    """Return the lower-case ASCII words of a name."""
    plain = unicodedata.normalize("NFKD", text.translate(_LATIN)).encode("ascii", "ignore").decode()
    return [word.lower() for word in _WORDS.findall(plain)]


def snake(text: str) -> str:
    """Make a module's or a function's name of any text."""
    name = "_".join(words(text))[:40].strip("_") or "unnamed"
    name = f"n{name}" if name[0].isdigit() else name
    return f"{name}_" if keyword.iskeyword(name) else name


def camel(text: str) -> str:
    """Make a class name of any text."""
    name = "".join(word.capitalize() for word in snake(text).split("_"))
    return f"{name}_" if keyword.iskeyword(name) else name


def singular(noun: str) -> str:
    """Return an English noun's singular, as far as its ending shows."""
    lower = noun.lower()
    if lower in _IRREGULAR:
        return _IRREGULAR[lower]
    if lower.endswith("ies") and len(noun) > 4:
        return f"{noun[:-3]}y"
    if re.search(r"(ss|x|ch|sh)es$", lower):
        return noun[:-2]
    return noun[:-1] if lower.endswith("s") and not re.search(r"(ss|us|is)$", lower) and len(noun) > 3 else noun


def attribute(key: str, taken: Collection[str]) -> str:
    """Make the attribute of a payload model for a JSON key: the key itself if it can be one."""
    name = key if _PLAIN.fullmatch(key) else snake(key)
    if keyword.iskeyword(name) or hasattr(BaseModel, name) or name.startswith("model_"):
        name = f"{name}_"
    return unique(name, taken)


def unique(name: str, taken: Collection[str], between: str = "_") -> str:
    """Return a name, with the first number behind it that makes it differ from those that are taken."""
    if name not in taken:
        return name
    number = 2
    while f"{name}{between}{number}" in taken:
        number += 1
    return f"{name}{between}{number}"
