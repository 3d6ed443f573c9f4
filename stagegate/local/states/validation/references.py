"""What a JSONata expression refers to, read from its text: names at its top level, and fields of `$states`.

A parser by operator precedence that keeps no tree, only whether what it reads is evaluated with the
expression's own context item (there is none) or with a value that a step before has found.
https://docs.jsonata.org/path-operators
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache


class Unreadable(ValueError):
    """The text is no expression; in JSONata's words."""


@dataclass(frozen=True)
class References:
    at_top_level: tuple[str, ...]
    """The names that nothing stands before, "$" and "$$" too, each once, as they come in the text."""
    of_states: tuple[str, ...]
    """`input` of `$states.input.x`."""


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str


_SKIPPED = re.compile(r"(?:\s+|/\*.*?\*/)*", re.DOTALL)
_TOKEN = re.compile(
    r"""(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<number>\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)
    |`(?P<quoted>[^`]*)`
    |(?P<variable>\$\$|\$\w*)
    |(?P<operator>\*\*|\.\.|:=|!=|<=|>=|~>|\?:|\?\?|[-.\[\]{}()@\#;:?+*/%|=<>^&,~])
    |(?P<name>[^\s.\[\]{}()@\#;:?+*/%|=<>^&,~!"'`$-]+)""",
    re.VERBOSE | re.DOTALL,
)
_REGEX = re.compile(r"/((?:[^/\\\[]|\\.|\[(?:[^\]\\]|\\.)*\])*)/[a-z]*", re.DOTALL)
_VALUES = {"true", "false", "null"}
_BINDING = {
    **dict.fromkeys(("(", "[", "@", "#"), 80),
    ".": 75,
    "{": 70,
    **dict.fromkeys(("*", "/", "%"), 60),
    **dict.fromkeys(("+", "-", "&"), 50),
    **dict.fromkeys(("=", "!=", "<", ">", "<=", ">=", "~>", "^", "in", "??", "?:"), 40),
    "and": 30,
    "or": 25,
    "?": 20,
    "..": 20,
    ":=": 10,
}
_UNARY = 70


@lru_cache(maxsize=10_000)
def references(source: str) -> References:
    """Of an expression without its "{%" and "%}" that has been compiled."""
    reader = _Reader(source)
    reader.expression(0, is_top=True)
    return References(tuple(reader.names), tuple(reader.fields))


@dataclass
class _Reader:
    source: str
    position: int = 0
    names: dict[str, None] = field(default_factory=dict)
    fields: dict[str, None] = field(default_factory=dict)

    def peek(self, *, before_operand: bool = False) -> _Token | None:
        """The next token, which stays; a slash where an operand has to come begins a regular expression."""
        self.position = _SKIPPED.match(self.source, self.position).end()  # type: ignore[union-attr]
        if before_operand and self.source.startswith("/", self.position):
            return self._regex()
        if not (match := _TOKEN.match(self.source, self.position)):
            return None
        kind = str(match.lastgroup)
        return _Token(kind, match[kind])

    def _regex(self) -> _Token:
        if not (match := _REGEX.match(self.source, self.position)):
            raise Unreadable("No terminating / in regular expression")
        if not match[1]:
            raise Unreadable("Empty regular expressions are not allowed")
        return _Token("regex", match[0])

    def take(self, token: _Token) -> None:
        self.position += len(token.text) + (2 if token.kind == "quoted" else 0)

    def accept(self, text: str) -> bool:
        token = self.peek()
        if token is None or token.kind != "operator" or token.text != text:
            return False
        self.take(token)
        return True

    def expression(self, least: int, *, is_top: bool) -> None:
        """Read what binds more strongly than `least`."""
        first = self.operand(is_top=is_top)
        while (token := self.peek()) is not None and _binding(token) > least:
            self.take(token)
            if token.text == ".":
                self._step(first)
            else:
                _INFIX.get(token.text, _Reader._binary)(self, token.text, is_top)
            first = None

    def operand(self, *, is_top: bool) -> _Token | None:
        """Read one; gives the variable where it is one."""
        token = self.peek(before_operand=True)
        if token is None:
            return None
        self.take(token)
        if token.kind == "variable":
            if token.text in ("$", "$$") and (is_top or token.text == "$$"):
                self.names[token.text] = None
            return token
        if token.kind in ("name", "quoted"):
            if not (token.kind == "name" and self._is_word(token.text, is_top)) and is_top:
                self.names[token.text] = None
        elif token.kind == "operator":
            self._prefix(token.text, is_top)
        return None

    def _is_word(self, name: str, is_top: bool) -> bool:
        """Whether the name is none but a value or the beginning of a function, which is then read."""
        if name in ("function", "λ") and self.accept("("):
            self._signature()
            self.accept("{")
            self._list("}", is_top)
            return True
        return name in _VALUES

    def _signature(self) -> None:
        while not self.accept(")"):
            if (token := self.peek()) is None:
                return
            self.take(token)
        if self.accept("<"):
            depth = 1
            while depth and self.position < len(self.source):
                depth += {"<": 1, ">": -1}.get(self.source[self.position], 0)
                self.position += 1

    def _prefix(self, operator: str, is_top: bool) -> None:
        if operator == "-":
            self.expression(_UNARY, is_top=is_top)
        elif operator in _CLOSING:
            self._list(_CLOSING[operator], is_top)
        elif operator == "|":
            # A transformation works on what it is given.
            self._list("|", is_top=False)
            self._list("|", is_top=False)

    def _list(self, end: str, is_top: bool) -> None:
        """Expressions up to `end`, whatever separates them."""
        while not self.accept(end):
            before = self.position
            self.expression(0, is_top=is_top)
            token = self.peek()
            if token is not None and token.text in (",", ";", ":", "?"):
                self.take(token)
            elif token is None or self.position == before:
                return

    def _step(self, first: _Token | None) -> None:
        token = self.peek()
        if first is not None and first.text == "$states" and token and token.kind in ("name", "quoted"):
            self.fields[token.text] = None
        self.expression(_BINDING["."], is_top=False)

    def _binary(self, operator: str, is_top: bool) -> None:
        # An assignment binds to its right: what it assigns is a whole expression.
        least = _BINDING[operator] - 1 if operator == ":=" else _BINDING[operator]
        self.expression(least, is_top=is_top)

    def _condition(self, operator: str, is_top: bool) -> None:
        self.expression(0, is_top=is_top)
        if self.accept(":"):
            self.expression(0, is_top=is_top)

    def _call(self, operator: str, is_top: bool) -> None:
        self._list(")", is_top)

    def _predicate(self, operator: str, is_top: bool) -> None:
        self._list("]", is_top=False)

    def _grouping(self, operator: str, is_top: bool) -> None:
        self._list("}", is_top=False)

    def _sorting(self, operator: str, is_top: bool) -> None:
        self.accept("(")
        while not self.accept(")"):
            before = self.position
            if not self.accept("<"):
                self.accept(">")
            self.expression(0, is_top=False)
            if not self.accept(",") and self.position == before:
                return

    def _focus(self, operator: str, is_top: bool) -> None:
        if (token := self.peek()) is not None:
            self.take(token)


_CLOSING = {"(": ")", "[": "]", "{": "}"}
_INFIX: dict[str, Callable[[_Reader, str, bool], None]] = {
    "(": _Reader._call,
    "[": _Reader._predicate,
    "{": _Reader._grouping,
    "^": _Reader._sorting,
    "@": _Reader._focus,
    "#": _Reader._focus,
    "?": _Reader._condition,
}


def _binding(token: _Token) -> int:
    if token.kind == "operator" or (token.kind == "name" and token.text in ("and", "or", "in")):
        return _BINDING.get(token.text, 0)
    return 0
