"""CodeBuild's test reports: what JUnit files say, as reports and test cases."""

import uuid
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from stagegate.local.service import Runtime

REPORT = "codebuild/report"

Document = dict[str, Any]


def read(
    runtime: Runtime, build: Document, name: str, file_format: str, files: dict[str, Path]
) -> Document | None:
    """The report of a build, with its test cases; None where there are no files, or none of JUnit."""
    if not files or file_format != "JUNITXML":
        return None
    group = f"{build['projectName']}-{name}"
    arn = runtime.arn("codebuild", f"report/{group}:{uuid.uuid4()}")
    cases = [case for path in files.values() for case in _cases(path, arn)]
    counts = Counter(case["status"] for case in cases)
    failed = counts["FAILED"] + counts["ERROR"]
    return {
        "arn": arn,
        "type": "TEST",
        "name": arn.rsplit("/", 1)[-1],
        "reportGroupArn": runtime.arn("codebuild", f"report-group/{group}"),
        "executionId": build["arn"],
        "status": "FAILED" if failed else "SUCCEEDED",
        "created": datetime.now(UTC),
        "exportConfig": {"exportConfigType": "NO_EXPORT"},
        "truncated": False,
        "testSummary": {
            "total": len(cases),
            "statusCounts": dict(counts),
            "durationInNanoSeconds": sum(case["durationInNanoSeconds"] for case in cases),
        },
        "_cases": cases,
    }


def _cases(path: Path, arn: str) -> list[Document]:
    try:
        root = ElementTree.parse(path).getroot()  # noqa: S314 (written by the user's own build)
    except ElementTree.ParseError:
        return []
    return [_case(case, path, arn) for case in root.iter("testcase")]


def _case(case: ElementTree.Element, path: Path, arn: str) -> Document:
    status, message = "SUCCEEDED", ""
    for tag, meaning in (("failure", "FAILED"), ("error", "ERROR"), ("skipped", "SKIPPED")):
        if (found := case.find(tag)) is not None:
            status, message = meaning, found.get("message") or found.text or ""
            break
    return {
        "reportArn": arn,
        "testRawDataPath": path.name,
        "prefix": case.get("classname", ""),
        "name": case.get("name", ""),
        "status": status,
        "durationInNanoSeconds": int(float(case.get("time", 0)) * 1e9),
        "message": message,
        "testSuiteName": case.get("classname", ""),
    }
