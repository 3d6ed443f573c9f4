"""CodeBuild's test reports: what the files of test runners say, in the groups that reports have."""

import uuid
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stagegate.local import build_report_formats
from stagegate.local.service import Runtime

REPORT = "codebuild/report"
REPORT_GROUP = "codebuild/report-group"
NOT_EXPORTED = {"exportConfigType": "NO_EXPORT"}

Document = dict[str, Any]


def read(
    runtime: Runtime, build: Document, name: str, file_format: str, files: dict[str, Path]
) -> Document | None:
    """The report of a build, with its test cases; None where there are no files.

    `name` is that of a group, which gets the project's before it, or the ARN of one.
    """
    if not files:
        return None
    group = (
        name.rpartition("report-group/")[2] if name.startswith("arn:") else f"{build['projectName']}-{name}"
    )
    arn = runtime.arn("codebuild", f"report/{group}:{uuid.uuid4()}")
    try:
        cases = [
            _case(case, where, arn)
            for where, path in files.items()
            for case in build_report_formats.cases(path, file_format)
        ]
    except ValueError:
        cases, status = [], "INCOMPLETE"
    else:
        failed = any(case["status"] in ("FAILED", "ERROR") for case in cases)
        status = "FAILED" if failed else "SUCCEEDED"
    return {
        "arn": arn,
        "type": "TEST",
        "name": arn.rsplit("/", 1)[-1],
        "reportGroupArn": runtime.arn("codebuild", f"report-group/{group}"),
        "executionId": build["arn"],
        "status": status,
        "created": datetime.now(UTC),
        "exportConfig": NOT_EXPORTED,
        "truncated": False,
        "testSummary": {
            "total": len(cases),
            "statusCounts": dict(Counter(case["status"] for case in cases)),
            "durationInNanoSeconds": sum(case["durationInNanoSeconds"] for case in cases),
        },
        "_cases": cases,
    }


def keep(runtime: Runtime, report: Document) -> None:
    """Write the report down, and its group where it is the first of it."""
    group = report["reportGroupArn"]
    if runtime.store.get(REPORT_GROUP, group) is None:
        runtime.store.put(REPORT_GROUP, group, new_group(group))
    runtime.store.put(REPORT, report["arn"], report)


def new_group(arn: str) -> Document:
    now = datetime.now(UTC)
    return {
        "arn": arn,
        "name": arn.rpartition("/")[2],
        "type": "TEST",
        "exportConfig": NOT_EXPORTED,
        "created": now,
        "lastModified": now,
        "tags": [],
        "status": "ACTIVE",
    }


def _case(case: build_report_formats.Case, where: str, arn: str) -> Document:
    return {
        "reportArn": arn,
        "testRawDataPath": where,
        "prefix": case.prefix,
        "name": case.name,
        "status": case.status,
        "durationInNanoSeconds": case.nanoseconds,
        "message": case.message,
        "testSuiteName": case.prefix,
    }
