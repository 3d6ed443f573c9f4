"""JSON as Step Functions writes it: no spaces, characters as they are."""

import json

from stagegate.local.service import Json


def to_text(value: Json) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def from_text(text: str) -> Json:
    return json.loads(text)
