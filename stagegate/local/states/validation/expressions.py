"""What is wrong with a JSONata expression before it is evaluated: its syntax, and what it can't refer to.

An expression is evaluated with no context item: a path begins with `$states` or with a variable.
"""

import re
from collections.abc import Iterator

from stagegate.local.states.jsonata import InvalidJsonata, compile_jsonata, is_jsonata
from stagegate.local.states.validation.diagnostics import Diagnostic, schema
from stagegate.local.states.validation.references import Unreadable, references
from stagegate.local.states.validation.shapes import Place

INVALID = "INVALID_JSONATA_EXPRESSION"
UNSUPPORTED = "UNSUPPORTED_JSONATA_EXPRESSION"

_TOKENS = {
    "LeftBracket": "[",
    "RightBracket": "]",
    "LeftBrace": "{",
    "RightBrace": "}",
    "LeftParen": "(",
    "RightParen": ")",
    "Comma": ",",
    "Colon": ":",
    "Semicolon": ";",
    "Dot": ".",
    "DotDot": "..",
    "Question": "?",
    "At": "@",
    "Hash": "#",
    "Caret": "^",
    "Ampersand": "&",
    "Pipe": "|",
    "Tilde": "~",
    "Plus": "+",
    "Minus": "-",
    "Star": "*",
    "Slash": "/",
    "Percent": "%",
    "Equal": "=",
    "NotEqual": "!=",
    "LessThan": "<",
    "LessThanOrEqual": "<=",
    "GreaterThan": ">",
    "GreaterThanOrEqual": ">=",
    "ColonEqual": ":=",
    "Assign": ":=",
}
"""The library's names of tokens; JSONata's messages show the token itself."""


def check_expression(text: str, place: Place) -> Iterator[Diagnostic]:
    """What is against `text` where an expression has to stand."""
    if not is_jsonata(text):
        yield schema("JSONata string must start with {% and end with %}", place.at)
        return
    try:
        compile_jsonata(text)
    except InvalidJsonata as invalid:
        yield Diagnostic(INVALID, _in_jsonatas_words(str(invalid)), place.at)
        return
    try:
        found = references(text.removeprefix("{%").removesuffix("%}"))
    except Unreadable as unreadable:
        yield Diagnostic(INVALID, str(unreadable), place.at)
        return
    for name in found.at_top_level:
        words = "Reference to '$$' is" if name == "$$" else f"Reference to '{name}' at the top level is"
        yield Diagnostic(UNSUPPORTED, f"{words} not supported.", place.at)
    for name in found.of_states:
        if name not in place.visible:
            yield Diagnostic(UNSUPPORTED, f"Field '$states.{name}' does not exist.", place.at)


def _in_jsonatas_words(message: str) -> str:
    """`S0202: Expected RightBracket, got Comma` is `Expected "]", got ","` in JSONata's own words."""
    message = re.sub(r"^(Invalid \w+: )?S\d{4}: ", "", message)
    message = re.sub(r'\b(?:String|Identifier|Variable|Name)\(("(?:[^"\\]|\\.)*")\)', r"\1", message)
    message = re.sub(r"\bNumber\((-?[\d.]+?)(?:\.0)?\)", r"\1", message)
    return re.sub(r"\b[A-Z]\w+\b", lambda word: _quoted(word[0]), message)


def _quoted(word: str) -> str:
    return f'"{_TOKENS[word]}"' if word in _TOKENS else word
