"""ResultWriter: the files that a distributed Map writes."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from stagegate.local.service import AWSError
from stagegate.local.states.errors import StateFailed
from stagegate.local.states.result_writer import transformed, write_results

ID = "4f2d5b6e-0000-4000-8000-111111111111"
RUN = {
    "mapRunArn": f"arn:aws:states:us-east-1:111111111111:mapRun:m/Items:{ID}",
    "redriveCount": 0,
    "files": [],
}
STARTED = datetime(2026, 11, 23, 12, tzinfo=UTC)
MACHINE = "arn:aws:states:us-east-1:111111111111:stateMachine:m/Items"


def child(name: str, status: str = "SUCCEEDED", generation: int = 0, **ended: str) -> dict[str, Any]:
    return {
        "executionArn": f"{MACHINE.replace(':stateMachine:', ':execution:')}:{name}",
        "stateMachineArn": MACHINE,
        "mapRunArn": RUN["mapRunArn"],
        "name": name,
        "status": status,
        "startDate": STARTED,
        "stopDate": STARTED,
        "input": '{"of":1}',
        "redriveCount": 0,
        "generation": generation,
        **ended,
    }


WAITING = {"status": "PENDING", "input": '"waits"'}


class Objects(dict[str, bytes]):
    """What was put into a bucket."""

    async def aws(self, service: str, operation: str, parameters: Any = None) -> dict[str, Any]:
        assert (service, operation, parameters["Bucket"]) == ("s3", "PutObject", "b")
        self[parameters["Key"]] = parameters["Body"]
        return {}


async def test_each_kind_of_end_has_a_file_and_the_manifest_names_them() -> None:
    objects = Objects()
    children = [child("a", output="[1]"), child("b", "FAILED", error="E", cause="c"), WAITING]

    written = await write_results(
        objects.aws, {}, {"Bucket": "b", "Prefix": "out"}, run=RUN, children=children
    )

    folder = f"out/{ID}"
    details = {"Bucket": "b", "Key": f"{folder}/manifest.json"}
    assert written.result == {"MapRunArn": RUN["mapRunArn"], "ResultWriterDetails": details}
    assert json.loads(objects[f"{folder}/SUCCEEDED_0.json"]) == [
        {
            "ExecutionArn": children[0]["executionArn"],
            "Input": '{"of":1}',
            "InputDetails": {"Included": True},
            "Name": "a",
            "Output": "[1]",
            "OutputDetails": {"Included": True},
            "RedriveCount": 0,
            "RedriveStatus": "NOT_REDRIVABLE",
            "RedriveStatusReason": "Execution is SUCCEEDED and cannot be redriven",
            "StartDate": "2026-11-23T12:00:00.000Z",
            "StateMachineArn": MACHINE,
            "Status": "SUCCEEDED",
            "StopDate": "2026-11-23T12:00:00.000Z",
        }
    ]
    assert json.loads(objects[f"{folder}/FAILED_0.json"]) == [
        {
            "Cause": "c",
            "Error": "E",
            "ExecutionArn": children[1]["executionArn"],
            "Input": '{"of":1}',
            "InputDetails": {"Included": True},
            "Name": "b",
            "OutputDetails": {"Included": True},
            "RedriveCount": 0,
            "RedriveStatus": "REDRIVABLE_BY_MAP_RUN",
            "StartDate": "2026-11-23T12:00:00.000Z",
            "StateMachineArn": MACHINE,
            "Status": "FAILED",
            "StopDate": "2026-11-23T12:00:00.000Z",
        }
    ]
    assert json.loads(objects[f"{folder}/PENDING_0.json"]) == [
        {"Input": '"waits"', "InputDetails": {"Included": True}, "Status": "PENDING"}
    ]
    assert json.loads(objects[f"{folder}/manifest.json"]) == {
        "DestinationBucket": "b",
        "MapRunArn": RUN["mapRunArn"],
        "ResultFiles": {
            name: [{"Key": f"{folder}/{name}_0.json", "Size": len(objects[f"{folder}/{name}_0.json"])}]
            for name in ("FAILED", "PENDING", "SUCCEEDED")
        },
    }


async def test_there_is_no_file_for_what_did_not_happen() -> None:
    objects = Objects()

    written = await write_results(
        objects.aws, {}, {"Bucket": "b"}, run=RUN, children=[child("a", output="1")]
    )

    assert sorted(objects) == [f"{ID}/SUCCEEDED_0.json", f"{ID}/manifest.json"]
    assert written.files == [
        {"Key": f"{ID}/SUCCEEDED_0.json", "Size": len(objects[f"{ID}/SUCCEEDED_0.json"])}
    ]


@pytest.mark.parametrize(
    ("config", "name", "content"),
    [
        ({"Transformation": "COMPACT", "OutputType": "JSON"}, "SUCCEEDED_0.json", '[[1,2],{"x":3}]'),
        ({"Transformation": "FLATTEN", "OutputType": "JSON"}, "SUCCEEDED_0.json", '[1,2,{"x":3}]'),
        ({"Transformation": "COMPACT", "OutputType": "JSONL"}, "SUCCEEDED_0.jsonl", '[1,2]\n{"x":3}\n'),
        ({"Transformation": "FLATTEN", "OutputType": "JSONL"}, "SUCCEEDED_0.jsonl", '1\n2\n{"x":3}\n'),
    ],
)
async def test_outputs_alone_can_be_written(config: dict[str, str], name: str, content: str) -> None:
    objects = Objects()
    children = [child("a", output="[1,2]"), child("b", output='{"x":3}'), child("c", "TIMED_OUT")]

    await write_results(objects.aws, config, {"Bucket": "b"}, run=RUN, children=children)

    assert objects[f"{ID}/{name}"].decode() == content
    (failed,) = (key for key in objects if "FAILED_0" in key)
    assert json.loads(objects[failed].decode().strip("[]\n"))["Status"] == "TIMED_OUT"


async def test_a_redrive_adds_files_and_leaves_the_earlier_ones() -> None:
    objects = Objects()
    earlier = [{"Key": f"{ID}/SUCCEEDED_0.json", "Size": 7}]
    run = {**RUN, "redriveCount": 2, "writtenGeneration": 1, "files": earlier}
    children = [child("a", output="1"), child("b", generation=2, output="2")]

    written = await write_results(
        objects.aws, {"Transformation": "COMPACT"}, {"Bucket": "b"}, run=run, children=children
    )

    key = f"{ID}/Redrive-2/SUCCEEDED_0.json"
    assert objects[key] == b"[2]"
    assert sorted(objects) == [key, f"{ID}/Redrive-2/manifest.json"]
    assert written.files == [*earlier, {"Key": key, "Size": 3}]
    assert json.loads(objects[f"{ID}/Redrive-2/manifest.json"])["ResultFiles"]["SUCCEEDED"] == written.files
    assert run["files"] == [{"Key": f"{ID}/SUCCEEDED_0.json", "Size": 7}]


async def test_a_bucket_that_takes_nothing_fails_the_writer() -> None:
    async def aws(service: str, operation: str, parameters: Any = None) -> dict[str, Any]:
        raise AWSError("NoSuchBucket", "The specified bucket does not exist", status=404)

    with pytest.raises(StateFailed) as failed:
        await write_results(aws, {}, {"Bucket": "b"}, run=RUN, children=[child("a", output="1")])
    assert (failed.value.error, failed.value.cause) == (
        "States.ResultWriterFailed",
        "The specified bucket does not exist",
    )

    with pytest.raises(StateFailed, match="'Bucket' is required"):
        await write_results(aws, {}, {}, run=RUN, children=[])


def test_without_a_bucket_what_was_to_be_written_is_the_result() -> None:
    (record,) = transformed({"Transformation": "NONE"}, child("a", output="1"))
    (failed,) = transformed({"Transformation": "COMPACT"}, child("b", "FAILED", error="E"))

    assert (record["Name"], record["Output"]) == ("a", "1")
    assert (failed["Name"], failed["Status"], failed["Error"]) == ("b", "FAILED", "E")
    assert transformed({"Transformation": "COMPACT"}, child("a", output="[1]")) == [[1]]
    assert transformed({"Transformation": "FLATTEN"}, child("a", output="[1]")) == [1]
