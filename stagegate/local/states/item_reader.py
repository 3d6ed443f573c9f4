"""ItemReader: the items of a distributed Map, read from S3.

A file with many items (CSV, JSON, JSONL), an S3 inventory's manifest, or the list of a bucket's objects.
https://docs.aws.amazon.com/step-functions/latest/dg/input-output-itemreader.html
"""

import asyncio
import csv
import gzip
import io
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC
from itertools import islice
from typing import Any

from stagegate.local.service import Aws, AWSError, Json
from stagegate.local.states.definition import ItemReader
from stagegate.local.states.errors import StateFailed
from stagegate.local.states.paths import Values

ITEM_READER_FAILED = "States.ItemReaderFailed"
MAXIMUM_ITEMS = 100_000_000
_LIST_OBJECTS = ":s3:listObjectsV2"
_DELIMITERS = {"COMMA": ",", "PIPE": "|", "SEMICOLON": ";", "SPACE": " ", "TAB": "\t"}
_INVENTORY_FORMATS = ("CSV",)


@dataclass(frozen=True, kw_only=True)
class Item:
    """One item; of an object's member `key` is its name."""

    value: Json
    key: str | None = None
    source: str = "STATE_DATA"


def items_of(data: Json) -> list[Item]:
    """The items of an array, or of an object: its members, each with its key."""
    if isinstance(data, dict):
        return [Item(value={"Key": key, "Value": value}, key=key) for key, value in data.items()]
    return [Item(value=value) for value in data]


async def read_items(aws: Aws, reader: ItemReader, values: Values) -> list[Item]:
    """The items that a reader finds. Raises `StateFailed` with States.ItemReaderFailed."""
    limit = _limit(reader, values)
    parameters = {} if reader.parameters is None else reader.parameters(values)
    pointer = None if reader.items_pointer is None else reader.items_pointer(values)
    try:
        if reader.resource.endswith(_LIST_OBJECTS):
            if reader.config.get("Transformation") != "LOAD_AND_FLATTEN":
                return [item async for item in _objects(aws, parameters, limit)]
            return await _flattened(aws, reader.config, parameters, pointer=pointer, limit=limit)
        return (await _file_items(aws, reader.config, parameters, pointer))[:limit]
    except AWSError as error:
        raise _failed(error.message) from error


def given_items(reader: ItemReader, text: str, values: Values) -> list[Item]:
    """The items in `text`, which stands in the place of what the reader would have read."""
    limit = _limit(reader, values)
    place = {} if reader.parameters is None else reader.parameters(values)
    pointer = None if reader.items_pointer is None else reader.items_pointer(values)
    source = f"s3://{place.get('Bucket')}"
    if not reader.resource.endswith(_LIST_OBJECTS):
        source += f"/{place.get('Key')}"
    found = parsed_items(text, reader.config, pointer)
    return [Item(value=value, key=key, source=source) for key, value in islice(found, limit)]


def _limit(reader: ItemReader, values: Values) -> int:
    if reader.max_items is None:
        return MAXIMUM_ITEMS
    value = reader.max_items.evaluate(values)
    try:
        number = int(value)
    except (TypeError, ValueError):
        raise _failed(f"field MaxItems must be a number, but is {json.dumps(value)}") from None
    if number < 0:
        raise _failed("field MaxItems must be positive")
    return min(number, MAXIMUM_ITEMS) or MAXIMUM_ITEMS


async def _flattened(
    aws: Aws,
    config: Mapping[str, Any],
    parameters: Mapping[str, Any],
    *,
    pointer: str | None,
    limit: int,
) -> list[Item]:
    """The items in all the files below a prefix. What only stands for a folder has none."""
    found: list[Item] = []
    async for listed in _objects(aws, parameters, MAXIMUM_ITEMS):
        key = listed.value["Key"]
        if len(found) >= limit:
            break
        if not key.endswith("/"):
            found += await _file_items(aws, config, {"Bucket": parameters.get("Bucket"), "Key": key}, pointer)
    return found[:limit]


async def _objects(aws: Aws, parameters: Mapping[str, Any], limit: int) -> AsyncIterator[Item]:
    """The objects of a bucket, below a prefix, as ListObjectsV2 describes them."""
    request, count = dict(parameters), 0
    while True:
        page = await aws("s3", "ListObjectsV2", request)
        for entry in page.get("Contents", ()):
            if count == limit:
                return
            count += 1
            yield Item(value=_object(entry), source=f"s3://{parameters.get('Bucket')}")
        if not page.get("IsTruncated"):
            return
        request["ContinuationToken"] = page["NextContinuationToken"]


def _object(entry: Mapping[str, Any]) -> dict[str, Json]:
    return {
        "Etag": entry["ETag"],
        "Key": entry["Key"],
        "LastModified": entry["LastModified"].astimezone(UTC).timestamp(),
        "Size": entry["Size"],
        "StorageClass": entry.get("StorageClass", "STANDARD"),
    }


async def _file_items(
    aws: Aws, config: Mapping[str, Any], place: Mapping[str, Any], pointer: str | None
) -> list[Item]:
    kind = config.get("ManifestType")
    if kind == "S3_INVENTORY" or (kind is None and config.get("InputType") == "MANIFEST"):
        return [item async for item in _inventory(aws, place)]
    content = await _content(aws, place)
    if kind == "ATHENA_DATA":
        return await _unloaded(aws, content, config, pointer)
    # A large file takes its time: others go on.
    found = await asyncio.to_thread(lambda: list(parsed_items(content, config, pointer)))
    source = f"s3://{place.get('Bucket')}/{place.get('Key')}"
    return [Item(value=value, key=key, source=source) for key, value in found]


async def _unloaded(aws: Aws, manifest: str, config: Mapping[str, Any], pointer: str | None) -> list[Item]:
    """The items in the files that an Athena UNLOAD's manifest names, one "s3://bucket/key" in each line."""
    files = {name: value for name, value in config.items() if name != "ManifestType"}
    found: list[Item] = []
    for line in manifest.split():
        bucket, _, key = line.removeprefix("s3://").partition("/")
        found += await _file_items(aws, files, {"Bucket": bucket, "Key": key}, pointer)
    return found


def parsed_items(
    text: str, config: Mapping[str, Any], pointer: str | None
) -> Iterable[tuple[str | None, Json]]:
    """The items in a file's text: the key, where they are an object's members, and the value of each."""
    kind = config.get("InputType", "JSON")
    if kind not in _READERS:
        raise _failed(f"The InputType '{kind}' is not supported by the local runtime")
    return _READERS[kind](text, config, pointer)


async def _content(aws: Aws, place: Mapping[str, Any]) -> str:
    """An object's text; gzip by its encoding or its first bytes is unpacked."""
    body: bytes = (await aws("s3", "GetObject", dict(place)))["Body"]
    try:
        if body.startswith(b"\x1f\x8b"):
            body = gzip.decompress(body)
        return body.decode("utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise _failed(
            f"The file s3://{place.get('Bucket')}/{place.get('Key')} is not text: {error}"
        ) from error


def _csv(text: str, config: Mapping[str, Any], pointer: str | None) -> Iterator[tuple[None, Json]]:
    rows = csv.reader(
        io.StringIO(text, newline=""), delimiter=_DELIMITERS[config.get("CSVDelimiter", "COMMA")]
    )
    headers = (
        next(rows, []) if config.get("CSVHeaderLocation") == "FIRST_ROW" else config.get("CSVHeaders", [])
    )
    if len(set(headers)) < len(headers):
        raise _failed("CSV headers cannot contain duplicates.")
    for row in rows:
        if row:
            padded = [*row, *[""] * (len(headers) - len(row))]
            # AWS writes the columns in the order of their names.
            yield None, dict(sorted(zip(headers, padded, strict=False)))


def _json(text: str, config: Mapping[str, Any], pointer: str | None) -> Iterable[tuple[str | None, Json]]:
    """An array's items, or an object's members; with a JSON pointer those of what it points to."""
    data = _parsed(text)
    for part in (pointer or "").split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        try:
            data = data[int(name)] if isinstance(data, list) else data[name]
        except (KeyError, IndexError, ValueError, TypeError):
            raise _failed(f"The ItemsPointer '{pointer}' points to nothing in the file") from None
    if isinstance(data, list | dict):
        return [(item.key, item.value) for item in items_of(data)]
    raise _failed("Attempting to map over non-iterable node.")


def _json_lines(text: str, config: Mapping[str, Any], pointer: str | None) -> Iterator[tuple[None, Json]]:
    for line in text.split("\n"):
        if line.strip():
            yield None, _parsed(line)


def _parsed(text: str) -> Json:
    try:
        return json.loads(text)
    except ValueError as error:
        raise _failed(f"Unable to parse the file as JSON: {error}") from error


async def _inventory(aws: Aws, place: Mapping[str, Any]) -> AsyncIterator[Item]:
    """The objects that an S3 inventory lists: manifest.json names gzip-compressed CSV files."""
    manifest = _parsed(await _content(aws, place))
    if manifest.get("fileFormat") not in _INVENTORY_FORMATS:
        raise _failed(
            f"The inventory's format '{manifest.get('fileFormat')}' is not supported by the local runtime"
        )
    names = [name.strip() for name in manifest["fileSchema"].split(",")]
    for file in manifest["files"]:
        bucket = manifest["destinationBucket"].removeprefix("arn:aws:s3:::")
        text = await _content(aws, {"Bucket": bucket, "Key": file["key"]})
        for row in csv.reader(io.StringIO(text, newline="")):
            yield Item(value=dict(zip(names, row, strict=False)), source=f"s3://{bucket}/{file['key']}")


_READERS: dict[str, Callable[[str, Mapping[str, Any], str | None], Iterable[tuple[str | None, Json]]]] = {
    "CSV": _csv,
    "JSON": _json,
    "JSONL": _json_lines,
}


def _failed(cause: str) -> StateFailed:
    return StateFailed(ITEM_READER_FAILED, cause)
