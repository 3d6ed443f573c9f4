"""Batch transform's records: split from an object, put into mini-batches, filtered, joined with the answers.

After CreateTransformJob's `TransformInput`, `TransformOutput` and `DataProcessing`, and "Associate Prediction
Results with Input Records": https://docs.aws.amazon.com/sagemaker/latest/dg/batch-transform-data-processing.html
"""

import csv
import io
import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jsonpath

from stagegate.local.sagemaker.channels import RECORD_IO

CSV, JSON, JSON_LINES = "text/csv", "application/json", "application/jsonlines"
_RECORD_IO_LENGTH = (1 << 29) - 1  # the other bits say whether the record goes on
_SELECTORS = (
    jsonpath.selectors.NameSelector,
    jsonpath.selectors.IndexSelector,
    jsonpath.selectors.SliceSelector,
    jsonpath.selectors.WildcardSelector,
)
_OF_ONE = (jsonpath.selectors.NameSelector, jsonpath.selectors.IndexSelector)


class Unusable(Exception):
    """Records, or the answer to them, that cannot be processed as was asked."""


def split(content: bytes, split_type: str) -> list[bytes]:
    """The records of an object, each as it stands there: with its newline, with its frame.

    Raises `Unusable` where it is not what `split_type` (None, Line, RecordIO, TFRecord) says.
    """
    match split_type:
        case "Line":
            return _lines(content)
        case "RecordIO":
            return list(_framed(content, _record_io_size, "RecordIO"))
        case "TFRecord":
            return list(_framed(content, _tf_record_size, "TFRecord"))
    return [content]


def batches(records: Sequence[bytes], *, several: bool, limit: int) -> Iterator[list[bytes]]:
    """Mini-batches of at most `limit` bytes, 0 for any number, with one record each unless `several`.

    Raises `Unusable` where a record alone is larger.
    """
    batch: list[bytes] = []
    size = 0
    for record in records:
        if limit and len(record) > limit:
            raise Unusable("Too much data for max payload size")
        if batch and (not several or (limit and size + len(record) > limit)):
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += len(record)
    if batch:
        yield batch


@dataclass(frozen=True)
class Filter:
    """A JSONPath of `DataProcessing`; None stands for `$`, which is everything."""

    path: jsonpath.JSONPath | None

    def of(self, value: Any) -> Any:
        """A value for a path to one; an object for several names; else an array.

        Raises `Unusable` where something that it names is not there.
        """
        if self.path is None:
            return value
        found = list(self.path.finditer(value))
        last = self.path.segments[-1].selectors
        if len(found) < sum(isinstance(selector, _OF_ONE) for selector in last):
            raise Unusable(f"The filter {self.path} selects what is not there")
        if self.path.singular_query():
            return found[0].obj
        if all(isinstance(selector, jsonpath.selectors.NameSelector) for selector in last):
            return {match.parts[-1]: match.obj for match in found}
        return [match.obj for match in found]


def filter_of(text: str) -> Filter:
    """Raises ValueError where it is no path, or has what SageMaker's filters do not: `..`, conditions."""
    if text and not text.startswith("$"):
        raise ValueError("it should begin with '$'")
    try:
        path = jsonpath.compile(text or "$")
    except jsonpath.JSONPathError as error:
        raise ValueError(str(error)) from error
    if not isinstance(path, jsonpath.JSONPath):
        raise ValueError("it is more than one path")
    for segment in path.segments:
        if not isinstance(segment, jsonpath.segments.JSONPathChildSegment):
            raise ValueError("'..' is not supported")
        if not all(isinstance(selector, _SELECTORS) for selector in segment.selectors):
            raise ValueError("only names, indexes, slices and * are supported")
    return Filter(path if path.segments else None)


@dataclass(frozen=True, kw_only=True)
class DataProcessing:
    """What is done with records before they are sent, and with the answers before they are kept."""

    input_filter: Filter
    output_filter: Filter
    joins: bool
    input_type: str
    output_type: str

    def sent(self, record: bytes) -> bytes:
        """What the model gets of a record."""
        if self.input_filter.path is None:
            return record
        return _written(self.input_filter.of(_read(record, self.input_type)), self.input_type)

    def kept(self, records: Sequence[bytes], answer: bytes) -> bytes:
        """What is kept of the answer to these records. Raises `Unusable` where it has another number."""
        if not self.joins and self.output_filter.path is None:
            return answer
        answers = [answer] if self.output_type == JSON else [line for line in _lines(answer) if line.strip()]
        if len(answers) != len(records):
            raise Unusable(f"The algorithm has answered {len(records)} records with {len(answers)}")
        whole = b""
        for record, one in zip(records, answers, strict=True):
            value = _read(one, self.output_type)
            if self.joins:
                value = _joined(_read(record, self.input_type), value)
            whole += _written(self.output_filter.of(value), self.output_type)
        return whole


def _joined(given: Any, answer: Any) -> Any:
    if isinstance(given, list) and isinstance(answer, _Row):
        return _Row([*given, *answer])
    if isinstance(given, dict):
        return {**given, "SageMakerOutput": answer}
    return {"SageMakerInput": given, "SageMakerOutput": answer}


class _Row(list[str]):
    """A line of CSV."""


def _read(record: bytes, content_type: str) -> Any:
    try:
        text = record.decode()
        if content_type != CSV:
            return json.loads(text)
        rows = list(csv.reader([text], strict=True))
    except (ValueError, csv.Error) as error:
        raise Unusable(f"A record cannot be read as {content_type}: {error}") from error
    return _Row(rows[0] if rows else [])


def _written(value: Any, content_type: str) -> bytes:
    if content_type == CSV:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(value if isinstance(value, list) else [value])
        return text.getvalue().encode()
    return json.dumps(value).encode() + (b"\n" if content_type == JSON_LINES else b"")


def _lines(content: bytes) -> list[bytes]:
    """A carriage return alone ends no line."""
    return [line + b"\n" for line in content.split(b"\n")[:-1]] + (
        [last] if (last := content.rpartition(b"\n")[2]) else []
    )


def _framed(content: bytes, size_of: Any, name: str) -> Iterator[bytes]:
    start = 0
    while start < len(content):
        try:
            end = start + size_of(content, start)
        except struct.error as error:
            raise Unusable(f"The data is not in {name}: {error}") from error
        if end > len(content):
            raise Unusable(f"The data is not in {name}: its last record is cut off")
        yield content[start:end]
        start = end


def _record_io_size(content: bytes, start: int) -> int:
    magic, length = map(int, struct.unpack_from("<II", content, start))
    if magic != RECORD_IO:
        raise struct.error("a record does not begin as it should")
    length &= _RECORD_IO_LENGTH
    return 8 + length + -length % 4


def _tf_record_size(content: bytes, start: int) -> int:
    """A length of 64 bits and its checksum, the data and its checksum."""
    (length,) = struct.unpack_from("<Q", content, start)
    return 12 + int(length) + 4
