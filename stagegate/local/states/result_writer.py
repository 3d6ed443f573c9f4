"""ResultWriter: where and how a distributed Map writes what its children came to.

https://docs.aws.amazon.com/step-functions/latest/dg/input-output-resultwriter.html
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from stagegate.local.service import Aws, AWSError, Json
from stagegate.local.states.errors import StateFailed
from stagegate.local.states.jsontext import from_text, to_text
from stagegate.local.states.redrives import redrive_status

_RESULT_WRITER_FAILED = "States.ResultWriterFailed"
_FILES = {
    "FAILED": ("FAILED", "TIMED_OUT", "ABORTED"),
    "PENDING": ("PENDING", "RUNNING"),
    "SUCCEEDED": ("SUCCEEDED",),
}
"""The files, and the statuses of the children that stand in each."""


@dataclass(frozen=True, kw_only=True)
class Written:
    result: Json
    """The Map's result, which says where the manifest is."""
    files: list[dict[str, Json]]
    """The files with what succeeded: a redrive adds one of its own to them."""


async def write_results(
    aws: Aws,
    config: Mapping[str, Any],
    place: Json,
    *,
    run: Mapping[str, Any],
    children: Iterable[Mapping[str, Any]],
) -> Written:
    """Write a file for each kind of end, and a manifest that names them. Raises `StateFailed`."""
    bucket = place.get("Bucket") if isinstance(place, dict) else None
    if not isinstance(bucket, str):
        raise StateFailed(_RESULT_WRITER_FAILED, "The field 'Bucket' is required but was missing")
    generation = run["redriveCount"]
    folder = _folder(place.get("Prefix"), run["mapRunArn"], generation)
    extension = "jsonl" if config.get("OutputType") == "JSONL" else "json"
    chosen = _by_file(children, written_generation=run.get("writtenGeneration", -1))
    manifest: dict[str, list[dict[str, Json]]] = {
        name: list(run["files"]) if name == "SUCCEEDED" else [] for name in _FILES
    }
    try:
        for name in _FILES:
            if not chosen[name] and not manifest[name]:
                continue
            body = _text(config, chosen[name], is_successful=name == "SUCCEEDED").encode()
            key = f"{folder}{name}_0.{extension}"
            await aws("s3", "PutObject", {"Bucket": bucket, "Key": key, "Body": body})
            manifest[name].append({"Key": key, "Size": len(body)})
        summary = {"DestinationBucket": bucket, "MapRunArn": run["mapRunArn"], "ResultFiles": manifest}
        key = f"{folder}manifest.json"
        await aws("s3", "PutObject", {"Bucket": bucket, "Key": key, "Body": to_text(summary).encode()})
    except AWSError as error:
        raise StateFailed(_RESULT_WRITER_FAILED, error.message) from error
    details = {"Bucket": bucket, "Key": key}
    result = {"MapRunArn": run["mapRunArn"], "ResultWriterDetails": details}
    return Written(result=result, files=manifest["SUCCEEDED"])


def _folder(prefix: Json, map_run_arn: str, generation: int) -> str:
    parts = [str(prefix or "").removesuffix("/"), map_run_arn.rpartition(":")[2]]
    if generation:
        parts.append(f"Redrive-{generation}")
    return "".join(f"{part}/" for part in parts if part)


def _by_file(
    children: Iterable[Mapping[str, Any]], *, written_generation: int
) -> dict[str, list[Mapping[str, Any]]]:
    """The children of each file; what an earlier manifest has among its successes stays there."""
    chosen: dict[str, list[Mapping[str, Any]]] = {name: [] for name in _FILES}
    for child in children:
        if child["status"] == "SUCCEEDED" and child["generation"] <= written_generation:
            continue
        name = next(name for name, statuses in _FILES.items() if child["status"] in statuses)
        chosen[name].append(child)
    return chosen


def transformed(config: Mapping[str, Any], child: Mapping[str, Any]) -> list[Json]:
    """What a child that has ended adds to the Map's own result, where nothing is written."""
    return _records(config, [child], is_successful=child["status"] == "SUCCEEDED")


def _text(config: Mapping[str, Any], children: list[Mapping[str, Any]], *, is_successful: bool) -> str:
    records = _records(config, children, is_successful=is_successful)
    if config.get("OutputType") == "JSONL":
        return "".join(f"{to_text(record)}\n" for record in records)
    return to_text(records)


def _records(
    config: Mapping[str, Any], children: list[Mapping[str, Any]], *, is_successful: bool
) -> list[Json]:
    """NONE tells of each execution, COMPACT gives its output, FLATTEN what is in it where it is an array.

    Of an execution that has not succeeded, everything is told in any case.
    """
    transformation = config.get("Transformation", "NONE")
    if transformation == "NONE" or not is_successful:
        return [_execution(child) for child in children]
    outputs = [from_text(child["output"]) for child in children]
    if transformation == "COMPACT":
        return outputs
    return [item for output in outputs for item in (output if isinstance(output, list) else [output])]


def _execution(child: Mapping[str, Any]) -> dict[str, Json]:
    """One execution, as the files have it: its members in the order of their names."""
    record: dict[str, Json] = {
        "Input": child["input"],
        "InputDetails": {"Included": True},
        "Status": child["status"],
    }
    if "executionArn" in child:
        record |= {
            "ExecutionArn": child["executionArn"],
            "Name": child["name"],
            "OutputDetails": {"Included": True},
            "RedriveCount": child["redriveCount"],
            "StartDate": _iso(child["startDate"]),
            "StateMachineArn": child["stateMachineArn"],
        }
        record |= {f"{name[:1].upper()}{name[1:]}": text for name, text in redrive_status(child).items()}
    record |= {name.capitalize(): child[name] for name in ("output", "error", "cause") if name in child}
    record |= {
        f"{name[:1].upper()}{name[1:]}": _iso(child[name])
        for name in ("stopDate", "redriveDate")
        if name in child
    }
    return dict(sorted(record.items()))


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
