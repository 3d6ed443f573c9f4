"""Records by themselves: split, put into mini-batches, filtered and joined."""

import json
import struct

import pytest

from stagegate.local.sagemaker.transform_records import (
    CSV,
    JSON,
    JSON_LINES,
    DataProcessing,
    Unusable,
    batches,
    filter_of,
    split,
)


def record_io(data):
    return struct.pack("<II", 0xCED7230A, len(data)) + data + b"\0" * (-len(data) % 4)


def tf_record(data):
    return struct.pack("<QI", len(data), 1) + data + struct.pack("<I", 2)


@pytest.mark.parametrize(
    ("split_type", "records"),
    [
        ("None", [b"a\nb\n"]),
        ("Line", [b"a\n", b"b\r\n", b"\n", b"c\rd"]),
        ("RecordIO", [record_io(b"12345"), record_io(b""), record_io(b"1234")]),
        ("TFRecord", [tf_record(b"123"), tf_record(b"")]),
    ],
)
def test_an_object_is_split_into_its_records(split_type, records):
    assert split(b"".join(records), split_type) == records


@pytest.mark.parametrize(
    ("split_type", "content"),
    [
        ("RecordIO", b"a,b\n" * 3),
        ("RecordIO", record_io(b"12345")[:-1]),
        ("RecordIO", record_io(b"12345")[:5]),
        ("TFRecord", tf_record(b"123")[:-1]),
    ],
)
def test_what_is_not_in_the_format_is_refused(split_type, content):
    with pytest.raises(Unusable, match=f"The data is not in {split_type}"):
        split(content, split_type)


@pytest.mark.parametrize(
    ("several", "limit", "expected"),
    [
        (True, 0, [[b"11", b"2", b"33"]]),
        (True, 3, [[b"11", b"2"], [b"33"]]),
        (True, 2, [[b"11"], [b"2"], [b"33"]]),
        (False, 0, [[b"11"], [b"2"], [b"33"]]),
    ],
)
def test_a_mini_batch_has_as_many_records_as_may_be(several, limit, expected):
    assert list(batches([b"11", b"2", b"33"], several=several, limit=limit)) == expected


def test_a_record_larger_than_a_payload_is_refused():
    with pytest.raises(Unusable, match="Too much data for max payload size"):
        list(batches([b"1", b"22"], several=True, limit=1))


def processing(content_type, *, given="$", kept="$", joins=False):
    return DataProcessing(
        input_filter=filter_of(given),
        output_filter=filter_of(kept),
        joins=joins,
        input_type=content_type,
        output_type=content_type,
    )


@pytest.mark.parametrize(
    ("path", "sent"),
    [("$", b'7,"a,b",3\r\n'), ("$[1:]", b'"a,b",3\n'), ("$[0,2]", b"7,3\n"), ("$[-1]", b"3\n")],
)
def test_a_filter_takes_columns_of_csv(path, sent):
    assert processing(CSV, given=path).sent(b'7,"a,b",3\r\n') == sent


@pytest.mark.parametrize(
    ("path", "sent"), [("$.x", 1), ("$['x','z']", {"x": 1, "z": [2, 3]}), ("$.z[1]", 3), ("$.z[0:]", [2, 3])]
)
def test_a_filter_takes_parts_of_json(path, sent):
    assert json.loads(processing(JSON, given=path).sent(b'{"x": 1, "y": 5, "z": [2, 3]}')) == sent


def test_answers_are_appended_to_the_lines_of_csv_and_the_output_filter_chooses():
    rows = [b"1,x\n", b"2,y"]

    assert processing(CSV, joins=True).kept(rows, b"0.5,a\n0.7,b\n") == b"1,x,0.5,a\n2,y,0.7,b\n"
    assert processing(CSV, joins=True, kept="$[0,-1]").kept(rows, b"0.5,a\n0.7,b\n") == b"1,a\n2,b\n"


def test_answers_become_an_attribute_of_json():
    lines = [b'{"id": 1}\n', b"[2]\n"]

    kept = processing(JSON_LINES, joins=True).kept(lines, b"0.5\n[0.7]\n")
    chosen = processing(JSON, joins=True, kept="$['id','SageMakerOutput']")

    assert [json.loads(line) for line in kept.splitlines()] == [
        {"id": 1, "SageMakerOutput": 0.5},
        {"SageMakerInput": [2], "SageMakerOutput": [0.7]},
    ]
    assert json.loads(chosen.kept([b'{"id": 1, "x": 2}'], b"{}")) == {"id": 1, "SageMakerOutput": {}}


@pytest.mark.parametrize(
    ("records", "answer", "message"),
    [
        ([b"1\n", b"2\n"], b"0.5\n", "has answered 2 records with 1"),
        ([b"1\n"], b"\xff\n", "cannot be read as text/csv"),
        ([b"1\n"], b"0.5\n", "selects what is not there"),
    ],
)
def test_answers_that_do_not_fit_are_refused(records, answer, message):
    with pytest.raises(Unusable, match=message):
        processing(CSV, joins=True, kept="$[5]").kept(records, answer)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("x", "it should begin with"),
        ("$..x", "is not supported"),
        ("$[?@.x]", "only names, indexes"),
        ("$[", "unexpected end"),
        ("$.x | $.y", "more than one path"),
    ],
)
def test_what_is_no_filter_of_sagemaker_is_refused(path, message):
    with pytest.raises(ValueError, match=message):
        filter_of(path)
