"""ResultWriter: where and how a distributed Map writes what its children came to.

https://docs.aws.amazon.com/step-functions/latest/dg/input-output-resultwriter.html
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from stagegate.local.service import Aws, AWSError, Json
from stagegate.local.states.definition import ResultWriter
from stagegate.local.states.errors import StateFailed
from stagegate.local.states.jsontext import from_text, to_text
from stagegate.local.states.paths import Values

_RESULT_WRITER_FAILED = "States.ResultWriterFailed"
_FILES = {
    "SUCCEEDED": ("SUCCEEDED",),
    "FAILED": ("FAILED", "TIMED_OUT", "ABORTED"),
    "PENDING": ("PENDING", "RUNNING"),
}
"""The files, and the statuses of the children that stand in each."""


async def write_results(
    aws: Aws, writer: ResultWriter, values: Values, map_run_arn: str, children: Iterable[Mapping[str, Any]]
) -> Json:
    """Write the results to S3; gives the Map's result, which says where. Raises `StateFailed`."""
    place = {} if writer.parameters is None else writer.parameters(values)
    bucket, prefix = place.get("Bucket"), str(place.get("Prefix", "")).strip("/")
    if not bucket:
        raise StateFailed(_RESULT_WRITER_FAILED, "The field 'Bucket' is required but was missing")
    folder = "/".join(filter(None, (prefix, map_run_arn.rpartition(":")[2])))
    is_lines = writer.config.get("OutputType") == "JSONL"
    manifest: dict[str, list[Json]] = {name: [] for name in _FILES}
    listed = list(children)
    try:
        for name, statuses in _FILES.items():
            chosen = [child for child in listed if child["status"] in statuses]
            if not chosen:
                continue
            key = f"{folder}/{name}_0.{'jsonl' if is_lines else 'json'}"
            body = _written(writer.config, chosen, is_successful=name == "SUCCEEDED").encode()
            await aws("s3", "PutObject", {"Bucket": bucket, "Key": key, "Body": body})
            manifest[name].append({"Key": key, "Size": len(body)})
        summary = {"DestinationBucket": bucket, "MapRunArn": map_run_arn, "ResultFiles": manifest}
        key = f"{folder}/manifest.json"
        await aws("s3", "PutObject", {"Bucket": bucket, "Key": key, "Body": to_text(summary).encode()})
    except AWSError as error:
        raise StateFailed(_RESULT_WRITER_FAILED, error.message) from error
    return {"MapRunArn": map_run_arn, "ResultWriterDetails": {"Bucket": bucket, "Key": key}}


def transformed(config: Mapping[str, Any], children: Iterable[Mapping[str, Any]]) -> Json:
    """The results as a writer without a bucket gives them: as the Map's own result."""
    records = [child for child in children if child["status"] not in ("PENDING", "RUNNING")]
    return _records(config, records, is_successful=True)


def _written(config: Mapping[str, Any], children: list[Mapping[str, Any]], *, is_successful: bool) -> str:
    records = _records(config, children, is_successful=is_successful)
    if config.get("OutputType") == "JSONL":
        return "".join(f"{to_text(record)}\n" for record in records)
    return to_text(records)


def _records(
    config: Mapping[str, Any], children: list[Mapping[str, Any]], *, is_successful: bool
) -> list[Json]:
    """NONE tells of each execution, COMPACT gives its output, FLATTEN what is in it where it is an array."""
    transformation = config.get("Transformation", "NONE")
    if transformation == "NONE" or not is_successful:
        return [_execution(child) for child in children]
    outputs = [from_text(child["output"]) for child in children if "output" in child]
    if transformation == "COMPACT":
        return outputs
    return [item for output in outputs for item in (output if isinstance(output, list) else [output])]


def _execution(child: Mapping[str, Any]) -> dict[str, Json]:
    """One execution, as the files have it."""
    members = {
        "ExecutionArn": child["executionArn"],
        "Input": child["input"],
        "InputDetails": {"Included": True},
        "Name": child["name"],
        "StartDate": _iso(child["startDate"]),
        "StateMachineArn": child["stateMachineArn"],
        "Status": child["status"],
        "RedriveCount": child["redriveCount"],
        "RedriveStatus": "NOT_REDRIVABLE" if child["status"] == "SUCCEEDED" else "REDRIVABLE",
    }
    if "output" in child:
        members |= {"Output": child["output"], "OutputDetails": {"Included": True}}
    for member in ("error", "cause"):
        if member in child:
            members[member.capitalize()] = child[member]
    if "stopDate" in child:
        members["StopDate"] = _iso(child["stopDate"])
    return members


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
