"""The parser of FHIRPath expressions: tokens, then precedence climbing."""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from fhirline.streams.tables.views.fhirpath.syntax import (
    Call,
    Expression,
    FhirPathError,
    Index,
    Literal,
    Member,
    Operation,
    This,
    TypeOperation,
    Variable,
)

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<comment>//[^\n]*|/\*.*?\*/)
    | (?P<date>@[0-9T][0-9T:+Z.-]*)
    | (?P<number>[0-9]+(?:\.[0-9]+)?)
    | (?P<text>'(?:[^'\\]|\\.)*')
    | (?P<variable>%(?:[A-Za-z_]\w*|`[^`]+`|'[^']+'))
    | (?P<name>`[^`]+`|\$?[A-Za-z_]\w*)
    | (?P<sign><=|>=|!=|!~|[=~<>+\-*/&|.()\[\],{}])
    )""",
    re.VERBOSE | re.DOTALL,
)

_PRECEDENCE: Final = {
    operator: level
    for level, operators in enumerate(
        ("implies", "or xor", "and", "in contains", "= != ~ !~", "< > <= >=", "|", "is as", "+ - &", "* / div mod"), 1
    )
    for operator in operators.split()
}
"""Operator → its precedence, weakest first."""

_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)", re.DOTALL)
_ESCAPED: Final = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}

MAX_DEPTH: Final = 100
"""Levels of parentheses and arguments. Beyond it, Python's own stack could end."""


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


def parse(text: str) -> Expression:
    """Parse an expression. Raises FhirPathError with the character's number, from 1.

    >>> parse("name.first()")
    Call(base=Member(base=None, name='name'), name='first', arguments=(), at=5)
    """
    parser = _Parser(_tokens(text))
    expression = parser.expression()
    parser.end()
    return expression


def _tokens(text: str) -> list[_Token]:
    tokens, at, end = [], 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            rest = text[at:].lstrip()
            raise _error(end - len(rest.rstrip()), f"cannot read {rest[:1]!r}")
        at = match.end()
        if match.lastgroup != "comment":
            tokens.append(_Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
    return [*tokens, _Token("end", "", end)]


def _error(at: int, problem: str) -> FhirPathError:
    return FhirPathError(f"character {at + 1}: {problem}")


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._next
        self._at += 1
        return token

    def _taken(self, sign: str) -> bool:
        """Take the next token if it is a sign."""
        if self._next.kind == "sign" and self._next.text == sign:
            self._at += 1
            return True
        return False

    def _expect(self, sign: str) -> None:
        if not self._taken(sign):
            raise self._unexpected(f", expected {sign!r}")

    def _unexpected(self, more: str = "") -> FhirPathError:
        token = self._next
        return _error(token.at, f"unexpected {repr(token.text) if token.text else 'end'}{more}")

    def end(self) -> None:
        if self._next.kind != "end":
            raise self._unexpected()

    def expression(self, weakest: int = 0) -> Expression:
        """Parse operands with all operators that bind stronger than ``weakest``."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _error(self._next.at, f"nested deeper than {MAX_DEPTH} levels")
        left = self._operand()
        while True:
            token = self._next
            level = _PRECEDENCE.get(token.text, 0) if token.kind in ("sign", "name") else 0
            if level <= weakest:
                self._depth -= 1
                return left
            self._take()
            if token.text in ("~", "!~"):
                raise _error(token.at, f"{token.text!r} is not supported; use = or lower()")
            if token.text in ("is", "as"):
                left = TypeOperation(token.text, left, self._type())
            else:
                left = Operation(token.text, left, self.expression(level))

    def _type(self) -> str:
        """Parse ``Quantity``, ``FHIR.Quantity``, ``System.String``."""
        name = self._name()
        while self._taken("."):
            name = f"{name}.{self._name()}"
        return name

    def _name(self) -> str:
        if self._next.kind != "name":
            raise self._unexpected(", expected a name")
        return self._take().text.strip("`")

    def _operand(self) -> Expression:
        operand = self._term()
        while True:
            if self._taken("."):
                operand = self._member(operand)
            elif self._taken("["):
                operand = Index(operand, self.expression())
                self._expect("]")
            else:
                return operand

    def _term(self) -> Expression:
        token = self._next
        match token.kind:
            case "number":
                self._take()
                return Literal(Decimal(token.text) if "." in token.text else int(token.text))
            case "text":
                self._take()
                return Literal(_written(token))
            case "date":
                raise _error(token.at, "date literals are not supported; name the date as a constant of the view")
            case "variable":
                self._take()
                return Variable(token.text[1:].strip("`'"))
            case "name":
                return self._member(None)
        if self._taken("("):
            expression = self.expression()
            self._expect(")")
            return expression
        if self._taken("{"):
            self._expect("}")
            return Literal(None)
        for sign in ("-", "+"):
            if self._taken(sign):
                return Operation(sign, Literal(0), self.expression(_PRECEDENCE["*"]))
        raise self._unexpected()

    def _member(self, base: Expression | None) -> Expression:
        token = self._next
        name = self._name()
        if self._taken("("):
            return Call(base, name, self._arguments(), token.at)
        if token.text.startswith("$"):
            if token.text == "$this" and base is None:
                return This()
            raise _error(token.at, f"{token.text!r} is not supported; use $this or %rowIndex")
        if base is None and token.text in ("true", "false"):
            return Literal(token.text == "true")
        return Member(base, name)

    def _arguments(self) -> tuple[Expression, ...]:
        if self._taken(")"):
            return ()
        arguments = [self.expression()]
        while self._taken(","):
            arguments.append(self.expression())
        self._expect(")")
        return tuple(arguments)


def _written(token: _Token) -> str:
    """Return the text of a literal. Two escapes may be one character: ``\\ud83d\\ude00``."""
    text = _ESCAPE.sub(_unescaped, token.text[1:-1])
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise _error(token.at, "the text has one half of a surrogate pair") from None


def _unescaped(match: re.Match[str]) -> str:
    character = match[1]
    return chr(int(character[1:], 16)) if len(character) == 5 else _ESCAPED.get(character, character)
