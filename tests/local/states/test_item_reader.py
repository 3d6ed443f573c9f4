"""ItemReader: the items that files and lists in S3 have for a distributed Map."""

import gzip
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from stagegate.local.service import AWSError
from stagegate.local.states.definition import ItemReader
from stagegate.local.states.errors import StateFailed
from stagegate.local.states.item_reader import Item, read_items
from stagegate.local.states.paths import Values
from stagegate.local.states.templates import compile_setting, compile_template

GET_OBJECT = "arn:aws:states:::s3:getObject"
LIST_OBJECTS = "arn:aws:states:::s3:listObjectsV2"
CSV = b'name,count\nbeech,3\n"oak, old",\nelm\nash,1,more\n'


async def read(
    objects: dict[str, bytes],
    key: str = "items",
    *,
    data: Any = None,
    resource: str = GET_OBJECT,
    **config: Any,
) -> list[Any]:
    """The values of the items."""
    return [item.value for item in await items_in(objects, key, data=data, resource=resource, **config)]


async def items_in(
    objects: dict[str, bytes],
    key: str = "items",
    *,
    data: Any = None,
    resource: str = GET_OBJECT,
    **config: Any,
) -> list[Item]:
    async def aws(service: str, operation: str, parameters: Any = None) -> dict[str, Any]:
        if operation == "GetObject":
            if parameters["Key"] not in objects:
                raise AWSError("NoSuchKey", "The specified key does not exist.", status=404)
            return {"Body": objects[parameters["Key"]]}
        found = sorted(name for name in objects if name.startswith(parameters.get("Prefix", "")))
        begin = int(parameters.get("ContinuationToken", 0))
        moment = datetime(2026, 11, 23, tzinfo=UTC)
        return {
            "Contents": [
                {"Key": name, "ETag": '"e"', "LastModified": moment, "Size": len(objects[name])}
                for name in found[begin : begin + 2]
            ],
            "IsTruncated": begin + 2 < len(found),
            "NextContinuationToken": str(begin + 2),
        }

    place = {"Bucket": "b", "Prefix": key} if resource == LIST_OBJECTS else {"Bucket": "b", "Key": key}
    pointer = config.get("ItemsPointer")
    reader = ItemReader(
        resource=resource,
        parameters=compile_template(place),
        config=config,
        max_items=compile_setting(config, "MaxItems", language="JSONPath"),
        items_pointer=None if pointer is None else compile_template(pointer),
    )
    values = Values(data=data, context=dict, variables={}, record=lambda produce: produce())
    return await read_items(aws, reader, values)


async def test_rows_of_a_csv_file_are_objects() -> None:
    assert await read({"items": CSV}, InputType="CSV", CSVHeaderLocation="FIRST_ROW") == [
        {"name": "beech", "count": "3"},
        {"name": "oak, old", "count": ""},
        {"name": "elm", "count": ""},
        {"name": "ash", "count": "1"},
    ]


async def test_headers_can_be_given_and_the_delimiter_too() -> None:
    options = {"InputType": "CSV", "CSVHeaderLocation": "GIVEN", "CSVDelimiter": "PIPE"}

    assert await read({"items": b"a|1\n\nb|2"}, CSVHeaders=["x", "y"], **options) == [
        {"x": "a", "y": "1"},
        {"x": "b", "y": "2"},
    ]


@pytest.mark.parametrize(
    ("content", "config", "items"),
    [
        ([1, {"a": 2}], {}, [1, {"a": 2}]),
        ({"a": 1, "b": [2]}, {}, [{"Key": "a", "Value": 1}, {"Key": "b", "Value": [2]}]),
        ({"data": {"items": [1, 2, 3]}}, {"ItemsPointer": "/data/items"}, [1, 2, 3]),
        ([1, 2, 3], {"MaxItems": 2}, [1, 2]),
        ([1, 2, 3], {"MaxItems": 0}, [1, 2, 3]),
        ([1, 2, 3], {"MaxItemsPath": "$.most"}, [1]),
    ],
)
async def test_json_files(content: Any, config: dict[str, Any], items: list[Any]) -> None:
    text = json.dumps(content).encode()

    assert await read({"items": text}, data={"most": 1}, InputType="JSON", **config) == items
    assert await read({"items": gzip.compress(text)}, data={"most": 1}, InputType="JSON", **config) == items


async def test_lines_of_json() -> None:
    lines = '{"a": 1}\n\n[2]\r\n"a line\u2028separator"\n'.encode()

    assert await read({"items": lines}, InputType="JSONL") == [{"a": 1}, [2], "a line\u2028separator"]


async def test_an_inventory_names_files_of_objects() -> None:
    manifest = {
        "sourceBucket": "data",
        "destinationBucket": "arn:aws:s3:::b",
        "fileFormat": "CSV",
        "fileSchema": "Bucket, Key, Size",
        "files": [{"key": "part.csv.gz"}],
    }
    objects = {
        "items": json.dumps(manifest).encode(),
        "part.csv.gz": gzip.compress(b'"data","a.png","12"\n"data","b.png","13"\n'),
    }

    assert await read(objects, InputType="MANIFEST") == [
        {"Bucket": "data", "Key": "a.png", "Size": "12"},
        {"Bucket": "data", "Key": "b.png", "Size": "13"},
    ]


async def test_a_manifest_of_athena_names_files_of_items() -> None:
    objects = {"items": b"s3://b/one.csv\ns3://b/two.csv\n", "one.csv": b"n\n1\n", "two.csv": b"n\n2\n3\n"}
    config = {"InputType": "CSV", "CSVHeaderLocation": "FIRST_ROW", "ManifestType": "ATHENA_DATA"}

    assert await read(objects, **config) == [{"n": "1"}, {"n": "2"}, {"n": "3"}]


async def test_columns_are_in_the_order_of_their_names() -> None:
    (item,) = await read({"items": b"b,a\n2,1"}, InputType="CSV", CSVHeaderLocation="FIRST_ROW")

    assert list(item.items()) == [("a", "1"), ("b", "2")]


async def test_an_item_knows_where_it_is_from() -> None:
    objects = {"x/a": b"[1]", "x/b": b"[2]", "x/folder/": b""}
    flattened = {"Transformation": "LOAD_AND_FLATTEN", "InputType": "JSON"}

    assert [item.source for item in await items_in(objects, "x/a", InputType="JSON")] == ["s3://b/x/a"]
    listed = await items_in(objects, "x/", resource=LIST_OBJECTS)
    assert [item.source for item in listed] == ["s3://b"] * 3
    loaded = await items_in(objects, "x/", resource=LIST_OBJECTS, **flattened)
    assert [(item.value, item.source) for item in loaded] == [(1, "s3://b/x/a"), (2, "s3://b/x/b")]


async def test_the_objects_below_a_prefix() -> None:
    objects = dict.fromkeys(("x/a", "x/b", "x/c", "y/d"), b"[1]")

    listed = await read(objects, "x/", resource=LIST_OBJECTS)

    assert [item["Key"] for item in listed] == ["x/a", "x/b", "x/c"]
    assert listed[0] == {
        "Etag": '"e"',
        "Key": "x/a",
        "LastModified": 1795392000.0,
        "Size": 3,
        "StorageClass": "STANDARD",
    }
    assert len(await read(objects, "x/", resource=LIST_OBJECTS, MaxItems=2)) == 2
    flattened = {"Transformation": "LOAD_AND_FLATTEN", "InputType": "JSON"}
    assert await read(objects, "x/", resource=LIST_OBJECTS, **flattened) == [1, 1, 1]


@pytest.mark.parametrize(
    ("content", "config", "cause"),
    [
        (b"a,a\n1,2", {"InputType": "CSV", "CSVHeaderLocation": "FIRST_ROW"}, "CSV headers cannot contain"),
        (b"[1]", {"InputType": "JSON", "MaxItems": -1}, "field MaxItems must be positive"),
        (b"3", {"InputType": "JSON"}, "Attempting to map over non-iterable node."),
        (b"{", {"InputType": "JSON"}, "Unable to parse the file as JSON"),
        (b"\xff\xfe", {"InputType": "JSONL"}, "is not text"),
        (b"{}", {"InputType": "JSON", "ItemsPointer": "/no"}, "points to nothing"),
        (b"", {"InputType": "PARQUET"}, "'PARQUET' is not supported by the local runtime"),
    ],
)
async def test_what_cannot_be_read_is_named(content: bytes, config: dict[str, Any], cause: str) -> None:
    with pytest.raises(StateFailed, match=cause) as failed:
        await read({"items": content}, **config)

    assert failed.value.error == "States.ItemReaderFailed"
