"""Tasks that wait: for a token that nobody sends back, for a job that was stopped."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from stagegate.doctor.apis import call_of
from stagegate.doctor.findings import Fault
from stagegate.doctor.project import Project, State, texts

_LIMITS = ("TimeoutSeconds", "TimeoutSecondsPath", "HeartbeatSeconds", "HeartbeatSecondsPath")
_YEAR = 31_536_000
_STATUS = {
    "createTrainingJob": "TrainingJobStatus",
    "createProcessingJob": "ProcessingJobStatus",
    "createTransformJob": "TransformJobStatus",
    "createHyperParameterTuningJob": "HyperParameterTuningJobStatus",
}
_COMPARISON = re.compile(r"JobStatus\s*(=|!=|in\b)")


def token_without_timeout(project: Project) -> Iterator[Fault]:
    for definition, state in project.states:
        call = call_of(state)
        if call is None or not call.waits_for_token or definition.body.get("TimeoutSeconds"):
            continue
        limits = [state.body[key] for key in _LIMITS if key in state.body]
        if not limits:
            what = "an activity's worker" if call.is_activity else f"the token of {call}"
            wrong = f"{what} is waited for without TimeoutSeconds and without HeartbeatSeconds"
            yield Fault(file=definition.file, where=state.name, wrong=wrong)
        elif all(isinstance(limit, int) and limit >= _YEAR for limit in limits):
            wrong = f"{call} waits for {min(limits):,} seconds, which is no limit: an execution ends by then"
            yield Fault(file=definition.file, where=state.name, wrong=wrong)


def stopped_not_handled(project: Project) -> Iterator[Fault]:
    for definition, state in project.states:
        call = call_of(state)
        status = _STATUS.get(call.api) if call and call.service == "sagemaker" and call.is_sync else None
        if status and not _looks_at(state, status):
            wrong = f"no Choice looks at {status} before the next job or the end"
            yield Fault(file=definition.file, where=state.name, wrong=wrong)


def _looks_at(state: State, status: str) -> bool:
    """Whether the status is asked for on the path that follows, until another job starts."""
    output = [*texts(state.body.get("Output")), *texts(state.body.get("Assign"))]
    if any(_COMPARISON.search(text) for text in output):
        return True
    names = {status} | _renamed(state.body, {status})
    waiting, seen = [state], {id(state)}
    while waiting:
        for after in waiting.pop().following():
            if id(after) in seen:
                continue
            seen.add(id(after))
            names |= _renamed(after.body, names)
            if after.kind == "Choice" and _asks(after.body, names):
                return True
            call = call_of(after)
            if not (call and call.is_sync and call.service == "sagemaker"):
                waiting.append(after)
    return False


def _asks(choice: Mapping[str, Any], names: set[str]) -> bool:
    asked = json.dumps(choice.get("Choices", ()))
    return any(re.search(rf"\b{re.escape(name)}\b", asked) for name in names)


def _renamed(value: Any, names: set[str]) -> set[str]:
    """The members, however deep, that are given what one of the names says."""
    found: set[str] = set()
    said = "|".join(map(re.escape, sorted(names)))
    if isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, str) and re.search(rf"\b({said})\b", item):
                found.add(key.removesuffix(".$"))
                found |= set(re.findall(rf"['\"](\w+)['\"]\s*:\s*[^,}}]*\b(?:{said})\b", item))
            else:
                found |= _renamed(item, names)
    elif isinstance(value, list):
        for item in value:
            found |= _renamed(item, names)
    return found - {"Output", "Condition", "Variable", "Next", "Default", "OutputPath", "InputPath"}
