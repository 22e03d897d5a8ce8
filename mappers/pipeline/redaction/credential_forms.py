"""The forms that a credential has in a text, whatever its key is (mapping.md §7)."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import cache

from fhirline.config.tables import secrets
from fhirline.mappers.pipeline.finder import finder
from fhirline.mappers.pipeline.redaction.labels import CLINICAL, MEASURE, UNIT, verb_pattern
from fhirline.mappers.pipeline.redaction.search import Form

_NEAR, _FAR = 500, 5_000
"""`Form.reach` of forms that are in a sentence or line, and of JSON Web Keys and tables."""


def _digit_ahead() -> str:
    r"""Return a pattern that is found before a word with a digit behind at most 200 other characters.

    It is ``(?=\S{0,200}\d)`` at a third of its time on a text that is a list of names: Python would look up the
    category of each character, and go back over all of them where there is no digit. Here one class of single
    characters decides. Such a class is slow from U+10000 on: behind the first of these, categories of up to 200 more
    are looked up.
    """
    stops = "".join(sign for sign in map(chr, range(0x10000)) if sign.isspace() or sign.isdecimal())
    beyond = r"\U00010000-\U0010ffff"
    return rf"(?=[^{re.escape(stops)}{beyond}]{{0,200}}+(?:\d|[{beyond}][^\s\d]{{0,200}}+\d))"


_DIGIT_AHEAD = _digit_ahead()
_ATTRIBUTES = r"""(?:\s{1,4}[\w:.-]{1,40}=["'][^<>"'\n]{0,100}["']){0,5}\s{0,4}"""
_TO_VALUE = (
    r"""(?:["'\]]?\s{0,4}(?:[:=：]\s{0,4}[=:]?(?:</[a-z]{1,10}>)?|=>|->|→)\s{0,4}(?:[|>]-?[ \t]{0,4}\r?\n\s{0,40})?"""
    rf"""|{_ATTRIBUTES}>\s{{0,4}}(?:<!\[CDATA\[)?|["']\s{{1,4}}[Vv]alue\s{{0,4}}=\s{{0,4}}|["']\s{{0,4}}(?:\r?\n){{2}})"""
)
"""Pattern between the name of a secret and the secret: a colon, the end of a tag, an attribute, a form's part."""
_VALUE = rf"""["']?{_DIGIT_AHEAD}[^\s"'<>,;،]{{4,}}"""
_NUMBER = (
    r"""["'(*]{0,2}(?:[A-Z]-)?(?:\d{4,8}|\d{3}[ -]\d{3}|\d{4}[ -]\d{4})"""
    rf"""(?!\w|[-.,:/]\d|\s?(?:%|{UNIT}\b))"""
)
"""Pattern of a code of digits alone: no dose, date, decimal or longer number."""
_UNSPACED = re.compile("[\u3040-\u30ff\u4e00-\u9fff]")
"""Letters of Chinese and Japanese, which are written without white space."""
_YEAR = r"(?:19|20)\d\d(?!\d)"
_REMARK = r"\s{0,3}\([^()\n]{1,40}\)"
"""Pattern of a remark in brackets between a name and its colon: ``password (temporary): …``."""
_NUMBER_SIGN = r"\s{0,2}(?:#|nº|n\.º|(?i:no\.?|number|número|numero)(?=\s))\s{0,2}"
_SUFFIX = r"(?:\s{0,2}(?:(?i:code|number|no\.?|número|numero)|nº|#))?"
_PASSWORD_OF_USER = r"""[^\s"'<>,;@:/\\]{1,100}(?:@[^\s"'<>,;@:/\\]{1,100})?"""
_HOST = r"(?!\dx\.)(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z][A-Za-z0-9-]{1,23}|\d{1,3}(?:\.\d{1,3}){3}|localhost"


@cache
def forms() -> tuple[Form, ...]:
    """Return the forms of credentials."""
    return tuple(Form(finder(hint), re.compile(pattern), reach) for hint, pattern, reach in _form_patterns())


@cache
def form_hints() -> tuple[str, ...]:
    """Return patterns (of `finder`), at least one of which is found in every credential of a form."""
    return tuple(hint for hint, _, _ in _form_patterns())


def _spelled(names: Iterable[str]) -> str:
    """Return a pattern, for Python and for `finder`, of names in the table, whatever their case.

    A space may be another character, or none; a letter with a mark may be without it, or be two characters. The names
    are grouped by their first letter, in a class of its own: at most places of a text, Python then tries none of them.
    """
    by_first: dict[str, list[list[str]]] = {}
    for name in (unicodedata.normalize("NFC", name) for name in names):
        first, rest = name[0], [_letter(sign) for sign in name[1:]]
        plain = unicodedata.normalize("NFD", first)
        base, marks = plain[0], plain[1:]
        by_first.setdefault(_either_case(base), []).append([f"(?:{marks})?", *rest] if marks else rest)
        if marks:
            by_first.setdefault(_either_case(first), []).append(rest)
    return rf"(?:{'|'.join(f'{first}(?i:{_joined(ends)})' for first, ends in by_first.items())})"


def _joined(names: list[list[str]]) -> str:
    """Return a pattern of names, given as the patterns of their letters. What several begin with is tried once."""
    ends: dict[str, list[list[str]]] = {}
    for name in names:
        first = name[0] if name else ""  # the end of a name with which others begin
        ends.setdefault(first, []).append(name[1:])
    choices = [first + (_joined(rest) if first else "") for first, rest in ends.items()]
    return choices[0] if len(choices) == 1 else f"(?:{'|'.join(choices)})"


def _either_case(letter: str) -> str:
    """Return a class of the characters that are a letter, whatever its case, for Python and for `finder`."""
    further = {"i": "ıİ", "k": "\u212a", "s": "\u017f"}
    return f"[{''.join(sorted({letter.lower(), letter.upper(), *further.get(letter, '')}))}]"


def _letter(sign: str) -> str:
    if sign == " ":
        return r"[\s_-]{0,4}"
    base, *marks = list(unicodedata.normalize("NFD", sign))
    plain = "[iıİ]" if base == "i" else re.escape(base)  # one letter for Python, but not for `finder`
    return rf"(?:{sign}|{plain}(?:{''.join(marks)})?)" if marks else plain


def _tokens(starts: Mapping[str, int], digit: str = "") -> str:
    """Return the pattern of providers' tokens. Base64 may contain the first letters of one by chance.

    The pattern begins with a letter, and the characters that may not precede a token are checked behind it: Python
    skips the places of a text that have none of these letters at once, where it would try each token at each place.
    """
    by_first: dict[str, list[str]] = {}
    for start, least in starts.items():
        before = "+/" if start.isalnum() else ""
        signs = r"\w-" if start.isalnum() and not digit else r"\w.~+/-"
        first, rest = re.escape(start[0]), re.escape(start[1:])
        not_behind = rf"(?<![A-Za-z0-9{before}]{first})"
        by_first.setdefault(first, []).append(rf"{not_behind}{rest}{digit}[{signs}]{{{least},}}={{0,2}}")
    return "|".join(f"{first}(?:{'|'.join(ends)})" for first, ends in by_first.items())


def _form_patterns() -> Iterator[tuple[str, str, int]]:
    """Yield hint, pattern and reach of each form.

    They are withheld in this order, which matters: a form that takes the beginning of another would leave its end.
    """
    for patterns, reach in (
        (_token_patterns, _NEAR),
        (_web_key_patterns, _FAR),
        (_structured_patterns, _NEAR),
        (_command_patterns, _NEAR),
        (_table_patterns, _FAR),
        (_named_patterns, _NEAR),
        (_behind_patterns, _NEAR),
        (_user_patterns, _NEAR),
        (_encoded_patterns, _NEAR),
    ):
        for hint, pattern in patterns():
            yield _for_finder(hint), pattern, reach


def _for_finder(hint: str) -> str:
    """Return a hint that finds what Python does, for which i, ı and İ are one letter, and more signs white space."""
    return re.sub(r"(?<!\(\?)i", "[iıİ]", hint.replace(r"\s", r"[\s\x1c-\x1f]"))


def _token_patterns() -> Iterator[tuple[str, str]]:
    """Yield the forms of headers, keys and tokens."""
    rule = secrets().withheld
    yield (
        "(?i:bearer|token)",
        r"(?i:\b(?:authorization\s{0,4}[:=]\s{0,4})?"
        r"\b(?:bearer|token)(?:\s{1,4}|:)(?=[a-z0-9._~+/=-]{16})"
        r"(?:(?=[^\s0-9]{0,200}+[0-9])[a-z0-9._~+/=-]{16,}|[a-z0-9._~+/=-]{32,}))",
    )
    yield (
        "(?i:authoriz)",
        r"(?i:\bauthorization\s{0,4}[:=]\s{0,4}"
        r"(?:(?:digest|hawk|aws4-hmac-sha256)\s{1,4}[^\r\n]{1,2000}"
        r"|(?:bearer|basic|token|apikey|negotiate|ntlm|bot|key)\s{1,4}\S+))",
    )
    yield r"asic[\s\\]", r"\b[Bb]asic\s{1,4}(?=\S{0,200}[0-9=])(?=\S{0,200}[A-Z])[A-Za-z0-9+/]{12,}={0,2}"
    yield "eyJ", r"\beyJ[A-Za-z0-9_-]{8,}[A-Za-z0-9_.=-]*"  # JSON in base64: a JWT, or its header
    key = r"[A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    yield "-----BEGIN ", rf"-----BEGIN {key}(?:(?:(?!-----)[\s\S]){{0,20000}}-----END {key})?"
    yield "A(?:KIA|SIA)", r"\bA(?:KIA|SIA)[A-Z0-9]{16}\b"
    yield r"SG\.", r"\bSG\.[\w-]{16,400}\.[\w-]{16,}"  # SendGrid
    yield "|".join(map(re.escape, rule.tokens)), _tokens(rule.tokens)
    with_digit = rule.tokens_with_digit
    yield "|".join(map(re.escape, with_digit)), _tokens(with_digit, _DIGIT_AHEAD)
    yield (
        r"(?i:ookie\s{0,4}:)",
        r"(?i:\b(?:set-)?cookie\s{0,4}:\s{0,4}[^\s=;]{1,100}=[^\s;]+(?:;\s?[\w-]{1,40}(?:=[^\s;]+)?)*)",
    )
    yield (
        "PuTTY-User-Key-File",
        r"PuTTY-User-Key-File-\d(?:(?!Private-MAC:)[\s\S]){0,20000}(?:Private-MAC:\s{0,4}\S+)?",
    )


def _web_key_patterns() -> Iterator[tuple[str, str]]:
    """Yield the form of a JSON Web Key with a private member."""
    yield '"kty', r'\{(?=[^{}]{0,4000}"kty")(?=[^{}]{0,4000}"(?:k|d)"\s{0,4}:\s{0,4}"[\w-]{8})[^{}]{0,8000}\}?'


def _structured_patterns() -> Iterator[tuple[str, str]]:
    """Yield the forms of Twilio's keys, of addresses with a secret, and of a user and a password in one place."""
    yield "SK[0-9a-f]{32}", r"\bSK[0-9a-f]{32}\b"  # Twilio
    starts = [re.escape(start).replace(r"\*", r"[A-Za-z0-9.-]{1,100}") for start in secrets().withheld.addresses]
    ends = [re.escape(start.rpartition("*")[2]) for start in secrets().withheld.addresses]
    yield f"(?i:{'|'.join(ends)})", rf"(?i:\bhttps?://(?:{'|'.join(starts)}))[^\s\"'<>]{{8,}}"
    user, word = "(?i:user(?:name)?|login|usuario)", "(?i:pass(?:word)?|pwd|pw|contraseña)"
    sign = r"\s{0,2}[/|+]\s{0,2}"
    yield (
        rf"{user}\s{{0,2}}[/|+]",
        rf"\b{user}{sign}{word}\s{{0,4}}[:=]\s{{0,4}}[^\s/|+,;]{{1,100}}{sign}[^\s/|+,;]{{1,100}}",
    )


def _command_patterns() -> Iterator[tuple[str, str]]:
    """Yield the forms of commands with a password, and of codes for a login that have no name beside them."""
    yield "curl", r"(?<=\bcurl\b)[^\n]{0,200}?\s(?:-u|--user)[ =]{0,4}[^\s:]{1,100}:\S+"
    yield "mysql", r"(?<=\bmysql)(?:dump|admin)?\b[^\n]{0,200}?\s-p(?=[^\s;,]{0,100}[^a-z\s;,])[^\s;,]{4,}"
    yield "OTP-", r"(?<![A-Za-z])OTP-(?:[A-Z]-)?\d{4,8}(?![\w.,/-]*\d)"
    to = r"\s{1,4}(?i:to|para)\s{1,4}"
    login = r"(?i:log\s?in|sign\s?in|iniciar\s{1,4}sesi[oó]n|iniciar\s{1,4}sess[aã]o)"
    yield login, rf"(?<![\w.,/-])\d{{4,8}}{to}{login}(?![A-Za-z])"


def _table_patterns() -> Iterator[tuple[str, str]]:
    """Yield the forms of tables in a text, of which a column is named like a password: all rows go."""
    passwords = _spelled(secrets().withheld.passwords)
    cell, end = rf"[ \t]{{0,20}}[\"']?{passwords}[\"']?[ \t]{{0,20}}", r"[^\n]{0,2000}\n"
    yield (
        rf"{passwords}[\"']?[ \t]*[,;\t\r\n]",
        rf"\A(?:{cell}(?P<before>[,;\t])|[^\n]{{0,2000}}?(?P<behind>[,;\t]){cell}(?=[,;\t\r\n])){end}"
        r"(?=[^\n]{0,2000}(?:(?P=before)|(?P=behind)))[\s\S]+",
    )
    yield (
        rf"\|[ \t]*[\"']?{passwords}[\"']?[ \t]*\|",
        rf"(?m:^)[ \t]{{0,10}}\|(?:[^\n|]{{0,100}}\|){{0,20}}?{cell}\|{end}[ \t]{{0,10}}\|[ \t:|-]{{3,500}}\r?"
        r"(?:\n[ \t]{0,10}\|[^\n]{0,2000})+",
    )


def _behind_patterns() -> Iterator[tuple[str, str]]:
    """Yield the forms of a password before its name, and of names in scripts that have no white space."""
    rule = secrets().withheld
    passwords = _spelled(rule.passwords)
    own = "|".join(rule.own_words)
    end = r"(?![A-Za-z])(?=\s{0,4}(?:[^\w\s]|$)|\s{1,4}(?i:for|to|of|para|de|do|da|pour|für|and|y|e)\s)"
    yield (
        rf"(?i:{verb_pattern()})\s+(?:(?i:{own})\s+)*{passwords}",
        rf"""(?<![^\s"'“«(])(?!{MEASURE}|{CLINICAL})(?=[^\s"'<>,;،]{{0,100}}\d)(?=[^\s"'<>,;،]{{0,100}}[^\W\d_])"""
        rf"""[^\s"'<>,;،()]{{6,100}}["'”»)]?\s{{1,4}}(?i:{verb_pattern()})\s{{1,4}}"""
        rf"(?i:(?:(?:{own})\s{{1,4}}){{0,2}}){passwords}{end}",
    )
    joined = [name for name in rule.passwords if _UNSPACED.match(name)]
    codes = [name for name in rule.numbers if _UNSPACED.match(name)]
    between = r"(?:[是为為はがの：:]|\s|[「『“\"'])"
    yield _spelled(joined), rf"{_spelled(joined)}{between}{{0,4}}(?=[!-~]{{0,100}}\d)[!#-&(-+\--~]{{4,100}}"
    yield _spelled(codes), rf"{_spelled(codes)}{between}{{0,4}}\d{{4,8}}(?!\d|[.,]\d|\s?(?:{UNIT}|年|月|日))"


def _named_patterns() -> Iterator[tuple[str, str]]:
    """Yield the forms of a credential beside its name."""
    rule = secrets().withheld
    passwords, labels, numbers = map(_spelled, (rule.passwords, rule.labels, rule.numbers))
    phrases = _spelled(name for name in rule.labels if " " in name)
    words = [name for name in rule.numbers if name.isascii() and " " not in name]
    short = _spelled(words)
    sure = rf"(?:{'|'.join(map(str.upper, words))}|{phrases}|{_spelled(set(rule.numbers) - set(words))})"
    further = rf"(?:\s{{1,4}}{_spelled(rule.qualifiers)}(?!\w)){{0,2}}(?:{_REMARK})?"
    of = r"\s{1,4}(?i:for|to|of|para|de|do|da|del|für|pour|الخاص|الخاصة)(?:\s{1,4}[^\s:：=]{1,20}(?!\w)){1,5}?"
    verb = rf"\s{{1,4}}(?i:(?:{verb_pattern()}|-)(?:\s{{0,4}}[:：=]\s{{0,4}}|\s{{1,4}}))"
    colon, no_measure = r"\s{0,4}[:=：]\s{0,4}", rf"(?![\"']?{MEASURE})"
    yield (
        rf"{passwords}|{labels}|OTP",
        rf"(?<![A-Za-z])(?:(?:[xX][ _-])?(?:{passwords}|{labels})|OTP){further}{_TO_VALUE}{_VALUE}",
    )
    yield (
        rf"{passwords}|{phrases}|(?i:token)",
        rf"(?<![A-Za-z])(?:{passwords}(?:{further}{verb}|\s{{1,4}}{no_measure})|(?:{phrases}|(?i:token)){verb}{no_measure}"
        rf"|(?:{passwords}|{phrases}){of}(?:{colon}|{verb}){no_measure}){_VALUE}",
    )
    yield (
        rf"{numbers}|{phrases}",
        rf"(?<![A-Za-z])(?:{sure}{_SUFFIX}(?:(?:{of})?(?:{_REMARK})?(?:{_TO_VALUE}|{verb})|{_NUMBER_SIGN}|\s{{1,4}})"
        rf"|{short}{_SUFFIX}(?:{_TO_VALUE}|{verb})(?![\"'(*]{{0,2}}{_YEAR})){_NUMBER}",
    )
    yield (
        rf"{numbers}|{phrases}|{passwords}",
        rf"(?<![\w.,/-]){_NUMBER}{verb}(?:[^\s\d.,;:]{{1,20}}\s{{1,4}}){{0,4}}"
        rf"(?:{sure}|{short}|{passwords})(?![A-Za-z])",
    )


def _encoded_patterns() -> Iterator[tuple[str, str]]:
    """Yield the form of tokens and of their headers in base64."""
    yield "ZXlK|QmVhcmVyI|QmFzaWMg", r"\b(?:ZXlK|QmVhcmVyI|QmFzaWMg)[A-Za-z0-9+/_-]{12,}={0,2}"


def _user_patterns() -> Iterator[tuple[str, str]]:
    """Yield the form ``user:password@host`` without a scheme, which an e-mail address behind a word is not.

    With a port it is one. Without, the password has a digit or a character that addresses do not have, or the user's
    name is one of an account; and the host is not one of a mail service for people.
    """
    rule = secrets().withheld
    words, accounts = _spelled(rule.mail_words), _spelled(rule.accounts)
    mail = rf"(?i:{'|'.join(map(re.escape, rule.mail_hosts))})\."
    yield (
        r'[^\s"]:[^\s"]+@',
        rf"(?<![\w.@/%+-])(?!{words}:)(?:(?=[^\s@]{{4,170}}@[A-Za-z0-9.-]{{1,100}}:\d{{2,5}}\b)[A-Za-z][\w.+-]{{1,63}}:"
        rf"{_PASSWORD_OF_USER}@[A-Za-z0-9.-]{{1,100}}"
        rf"|(?:{accounts}:|[A-Za-z][\w.+-]{{1,63}}:(?=\S{{0,100}}?[\d!#$%^&*=~?][^\s@]{{0,100}}@)(?=\S{{4}}))"
        rf"{_PASSWORD_OF_USER}@(?!{mail})(?:{_HOST})(?![\w@.-]*@))(?::\d{{1,5}})?(?:/[^\s\"'<>]*)?",
    )
