"""The files of test runners, each in its own format, as the test cases of CodeBuild."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

_SECONDS = 10**9  # in nanoseconds


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    prefix: str = ""
    status: str = "SUCCEEDED"
    nanoseconds: int = 0
    message: str = ""


def cases(path: Path, file_format: str) -> list[Case]:
    """The test cases in the file. Raises ValueError where it is not what the format says."""
    if file_format == "CUCUMBERJSON":
        return list(_cucumber(json.loads(path.read_text())))
    try:
        root = ElementTree.parse(path).getroot()  # noqa: S314 (written by the user's own build)
    except ElementTree.ParseError as error:
        raise ValueError(str(error)) from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return list(_XML[file_format](root))


def _junit(root: Element) -> Iterator[Case]:
    for case in root.iter("testcase"):
        status, message = "SUCCEEDED", ""
        for tag, meaning in (("failure", "FAILED"), ("error", "ERROR"), ("skipped", "SKIPPED")):
            if (found := case.find(tag)) is not None:
                status, message = meaning, found.get("message") or found.text or ""
                break
        yield Case(
            name=case.get("name", ""),
            prefix=case.get("classname", ""),
            status=status,
            nanoseconds=_nanoseconds(case.get("time")),
            message=message,
        )


def _testng(root: Element) -> Iterator[Case]:
    meanings = {"PASS": "SUCCEEDED", "FAIL": "FAILED", "SKIP": "SKIPPED"}
    for group in root.iter("class"):
        for method in group.iter("test-method"):
            if method.get("is-config") != "true":
                yield Case(
                    name=method.get("name", ""),
                    prefix=group.get("name", ""),
                    status=meanings.get(method.get("status", ""), "UNKNOWN"),
                    nanoseconds=int(method.get("duration-ms", 0)) * 10**6,
                    message=(method.findtext("exception/message") or "").strip(),
                )


def _nunit(root: Element) -> Iterator[Case]:
    """Version 2: `executed` and `success`."""
    for case in root.iter("test-case"):
        failed = case.get("success") == "False"
        status = "FAILED" if failed else "SUCCEEDED" if case.get("executed") == "True" else "SKIPPED"
        prefix, _, name = case.get("name", "").rpartition(".")
        message = case.findtext("failure/message") or case.findtext("reason/message") or ""
        yield Case(
            name=name,
            prefix=prefix,
            status=status,
            nanoseconds=_nanoseconds(case.get("time")),
            message=message.strip(),
        )


def _nunit3(root: Element) -> Iterator[Case]:
    meanings = {"Passed": "SUCCEEDED", "Failed": "FAILED", "Skipped": "SKIPPED"}
    for case in root.iter("test-case"):
        is_error = case.get("label") == "Error"
        message = case.findtext("failure/message") or case.findtext("reason/message") or ""
        yield Case(
            name=case.get("name", ""),
            prefix=case.get("classname", ""),
            status="ERROR" if is_error else meanings.get(case.get("result", ""), "UNKNOWN"),
            nanoseconds=_nanoseconds(case.get("duration")),
            message=message.strip(),
        )


def _trx(root: Element) -> Iterator[Case]:
    meanings = {"Passed": "SUCCEEDED", "Failed": "FAILED", "NotExecuted": "SKIPPED", "Error": "ERROR"}
    classes = {
        test.get("id"): method.get("className", "")
        for test in root.iter("UnitTest")
        if (method := test.find("TestMethod")) is not None
    }
    for result in root.iter("UnitTestResult"):
        yield Case(
            name=result.get("testName", ""),
            prefix=classes.get(result.get("testId"), ""),
            status=meanings.get(result.get("outcome", ""), "UNKNOWN"),
            nanoseconds=_nanoseconds(result.get("duration")),
            message=(result.findtext("Output/ErrorInfo/Message") or "").strip(),
        )


def _cucumber(features: list[dict[str, object]]) -> Iterator[Case]:
    """A scenario is as its first step that has not passed."""
    for feature in _dicts(features):
        for scenario in _dicts(feature.get("elements")):
            results = [step.get("result") or {} for step in _dicts(scenario.get("steps"))]
            failed = [result for result in results if result.get("status") != "passed"]
            status = (
                "SUCCEEDED" if not failed else "FAILED" if failed[0].get("status") == "failed" else "SKIPPED"
            )
            yield Case(
                name=str(scenario.get("name", "")),
                prefix=str(feature.get("name", "")),
                status=status,
                nanoseconds=sum(int(result.get("duration", 0)) for result in results),
                message=str(failed[0].get("error_message", "")) if failed else "",
            )


def _dicts(value: object) -> Iterator[dict]:  # type: ignore[type-arg]
    if not isinstance(value, list):
        return
    yield from (entry for entry in value if isinstance(entry, dict))


def _nanoseconds(text: str | None) -> int:
    """Seconds, or hours, minutes and seconds: `0.5`, `00:00:00.5000000`."""
    if not text:
        return 0
    if found := re.fullmatch(r"(\d+):(\d+):([\d.]+)", text):
        return int((int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])) * _SECONDS)
    return int(float(text) * _SECONDS)


_XML: Mapping[str, Callable[[Element], Iterator[Case]]] = {
    "JUNITXML": _junit,
    "TESTNGXML": _testng,
    "NUNITXML": _nunit,
    "NUNIT3XML": _nunit3,
    "VISUALSTUDIOTRX": _trx,
}
