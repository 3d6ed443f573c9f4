"""What is wrong with a text that should be JSON, in the words of AWS's parser."""

import json
import re


def json_problem(text: str, error: ValueError) -> str:
    """The words of AWS's JSON parser for what goes wrong most."""
    if not text.strip():
        return "Invalid execution input."
    if word := re.match(r"\s*([A-Za-z_]\w*)", text):
        expected = "JSON String, Number, Array, Object or token 'null', 'true' or 'false'"
        return f"Unrecognized token '{word[1]}': was expecting ({expected})"
    if isinstance(error, json.JSONDecodeError) and error.msg.startswith("Expecting property name"):
        position = error.pos + len(text[error.pos :]) - len(text[error.pos :].lstrip())
        character = text[position : position + 1]
        if character:
            return (
                f"Unexpected character ('{character}' (code {ord(character)})): "
                "was expecting double-quote to start field name"
            )
    return str(error)
