"""ItemBatcher: how a distributed Map puts items together, so that one child works on several.

https://docs.aws.amazon.com/step-functions/latest/dg/input-output-itembatcher.html
"""

from dataclasses import dataclass

from stagegate.local.service import Json
from stagegate.local.states.definition import ItemBatcher
from stagegate.local.states.errors import QUERY_EVALUATION_ERROR, EvaluationFailed
from stagegate.local.states.jsontext import to_text
from stagegate.local.states.paths import Values
from stagegate.local.states.templates import Setting

_MAXIMUM_BYTES = 262_144


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one child gets."""

    input: Json
    item_count: int


def make_batches(batcher: ItemBatcher | None, inputs: list[Json], values: Values) -> list[Batch]:
    """The inputs of the children, in the order of the items."""
    if batcher is None:
        return [Batch(input=input, item_count=1) for input in inputs]
    most = _limit(batcher.max_items_per_batch, values)
    most_bytes = _limit(batcher.max_input_bytes_per_batch, values) or _MAXIMUM_BYTES
    common = {} if batcher.batch_input is None else {"BatchInput": batcher.batch_input(values)}
    empty = _size({**common, "Items": []})
    batches: list[list[Json]] = []
    size = 0
    for input in inputs:
        added = _size(input) + 1
        if not batches or (most and len(batches[-1]) >= most) or size + added > most_bytes:
            batches.append([])
            size = empty
        batches[-1].append(input)
        size += added
    return [Batch(input={**common, "Items": items}, item_count=len(items)) for items in batches]


def _limit(setting: Setting | None, values: Values) -> int:
    if setting is None:
        return 0
    value = setting.evaluate(values)
    if isinstance(value, str) and value.isdecimal() and setting.field.endswith("Path"):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    cause = f"The {setting.field} field must be a positive integer, but is {to_text(value)}"
    if setting.field.endswith("Path"):
        raise EvaluationFailed(cause)
    raise EvaluationFailed(cause, error=QUERY_EVALUATION_ERROR, location=f"ItemBatcher/{setting.field}")


def _size(value: Json) -> int:
    return len(to_text(value).encode())
