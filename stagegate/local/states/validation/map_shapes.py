"""What a distributed Map reads, batches and writes, and how its iterations run.

https://docs.aws.amazon.com/step-functions/latest/dg/state-map-distributed.html
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from stagegate.local.service import Json
from stagegate.local.states.validation.diagnostics import Diagnostic, required, schema, too_long, unsupported
from stagegate.local.states.validation.shapes import (
    Check,
    Place,
    Shape,
    both,
    check_object,
    in_jsonata,
    in_jsonpath,
)
from stagegate.local.states.validation.values import (
    array_of,
    integer,
    object_payload,
    one_of,
    payload,
    reference_path,
    string,
)

DISTRIBUTED = "DISTRIBUTED"
EXPRESS = "EXPRESS"
_MOST_ITEMS = 100_000_000
_MOST_BATCH_BYTES = 262_144
_MOST_LABEL = 40
_NO_LABEL = re.compile(r"[\s?*<>{}\[\]:;,\\|^~$#%&`\"\x00-\x1f\x7f-\x9f]")


def _resource(*operations: str) -> Check:
    examples = [f"arn:<partition>:states:::s3:{operation}" for operation in operations]
    allowed = re.compile(rf"arn:aws[\w-]*:states:::s3:({'|'.join(operations)})")

    def check(value: Json, place: Place) -> Iterator[Diagnostic]:
        if not isinstance(value, str) or not allowed.fullmatch(value):
            message = (
                "The field 'Resource' does not match any of the allowed values. "
                f"Examples: [{', '.join(examples)}]"
            )
            yield schema(message, place.at)

    return check


_READER_CONFIG = Shape(
    fields={
        "InputType": both(one_of("CSV", "JSON", "JSONL", "PARQUET", "MANIFEST")),
        "ManifestType": both(one_of("ATHENA_DATA", "S3_INVENTORY")),
        "Transformation": both(one_of("NONE", "LOAD_AND_FLATTEN")),
        "CSVDelimiter": both(one_of("COMMA", "PIPE", "SEMICOLON", "SPACE", "TAB")),
        "CSVHeaderLocation": both(one_of("FIRST_ROW", "GIVEN")),
        "CSVHeaders": both(array_of(string)),
        "ItemsPointer": both(string),
        "MaxItems": both(integer(0, _MOST_ITEMS, may_be_expression=True)),
        "MaxItemsPath": in_jsonpath(reference_path),
    },
    at_most_one=(("MaxItems", "MaxItemsPath"),),
)


def _reader_config(value: Json, place: Place) -> Iterator[Diagnostic]:
    yield from check_object(value, _READER_CONFIG, place)
    if not isinstance(value, dict):
        return
    kind, location = value.get("InputType"), value.get("CSVHeaderLocation")
    if kind == "CSV" and location is None and "ManifestType" not in value:
        yield required(["CSVHeaderLocation"], place.at)
    if kind in ("JSON", "JSONL", "PARQUET") and location is not None:
        yield unsupported("CSVHeaderLocation", place.at)
    if location == "GIVEN" and "CSVHeaders" not in value:
        yield required(["CSVHeaders"], place.at)


ITEM_READER = Shape(
    fields={
        "Resource": both(_resource("getObject", "listObjectsV2")),
        "Parameters": in_jsonpath(object_payload),
        "Arguments": in_jsonata(object_payload),
        "ReaderConfig": both(_reader_config),
    },
    required=("Resource",),
)
ITEM_BATCHER = Shape(
    fields={
        "BatchInput": both(payload),
        "MaxItemsPerBatch": both(integer(0, may_be_expression=True)),
        "MaxItemsPerBatchPath": in_jsonpath(reference_path),
        "MaxInputBytesPerBatch": both(integer(0, _MOST_BATCH_BYTES, may_be_expression=True)),
        "MaxInputBytesPerBatchPath": in_jsonpath(reference_path),
    },
    at_most_one=(
        ("MaxItemsPerBatch", "MaxItemsPerBatchPath"),
        ("MaxInputBytesPerBatch", "MaxInputBytesPerBatchPath"),
    ),
)
_WRITER_CONFIG = Shape(
    fields={
        "Transformation": both(one_of("NONE", "COMPACT", "FLATTEN")),
        "OutputType": both(one_of("JSON", "JSONL")),
    },
    required=("Transformation", "OutputType"),
)


def _writer_config(value: Json, place: Place) -> Iterator[Diagnostic]:
    yield from check_object(value, _WRITER_CONFIG, place)


RESULT_WRITER = Shape(
    fields={
        "Resource": both(_resource("putObject")),
        "Parameters": in_jsonpath(object_payload),
        "Arguments": in_jsonata(object_payload),
        "WriterConfig": both(_writer_config),
    },
)
_PROCESSOR_CONFIG = Shape(
    fields={"Mode": both(one_of("INLINE", DISTRIBUTED)), "ExecutionType": both(one_of("STANDARD", EXPRESS))}
)


def check_processor_config(value: Json, place: Place, *, is_express: bool) -> Iterator[Diagnostic]:
    yield from check_object(value, _PROCESSOR_CONFIG, place)
    if not isinstance(value, dict):
        return
    mode = value.get("Mode")
    if mode == DISTRIBUTED and is_express:
        message = "The field 'Mode' with value 'DISTRIBUTED' is not supported inside 'EXPRESS' state machines"
        yield schema(message, f"{place.at}/Mode")
    if mode == DISTRIBUTED and "ExecutionType" not in value:
        yield required(["ExecutionType"], place.at)
    if mode == "INLINE" and "ExecutionType" in value:
        yield unsupported("ExecutionType", place.at)


def check_map(fields: Mapping[str, Any], place: Place, labels: set[str]) -> Iterator[Diagnostic]:
    """What the fields of a Map have to do with each other; `labels` are those of the Maps before."""
    if isinstance(writer := fields.get("ResultWriter"), dict):
        at = f"{place.at}/ResultWriter"
        payload_name = "Arguments" if place.is_jsonata else "Parameters"
        if not {"Resource", "WriterConfig"} & set(writer):
            yield required(["Resource", payload_name], at)
        elif "Resource" in writer and payload_name not in writer:
            yield required([payload_name], at)
    if isinstance(label := fields.get("Label"), str):
        at = f"{place.at}/Label"
        if len(label) > _MOST_LABEL:
            yield too_long("Label", label, _MOST_LABEL, at)
        elif _NO_LABEL.search(label):
            yield Diagnostic("INVALID_LABEL_NAME", f"Invalid Label name: {label}", at)
        if label in labels:
            yield Diagnostic("DUPLICATE_LABEL_NAME", f"Duplicate Label name: {label}", at)
        labels.add(label)
