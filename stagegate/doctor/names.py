"""Names that are used twice, and names that grow too long."""

import re
from collections.abc import Iterator

from stagegate.doctor.apis import Call, call_of
from stagegate.doctor.findings import Fault
from stagegate.doctor.project import Expression, Project, State

_NAMES = {
    ("sagemaker", "createTrainingJob"): "TrainingJobName",
    ("sagemaker", "createProcessingJob"): "ProcessingJobName",
    ("sagemaker", "createTransformJob"): "TransformJobName",
    ("sagemaker", "createHyperParameterTuningJob"): "HyperParameterTuningJobName",
    ("sagemaker", "createLabelingJob"): "LabelingJobName",
    ("sagemaker", "createModelPackage"): "ModelPackageName",
    ("states", "startExecution"): "Name",
    ("sfn", "startExecution"): "Name",
    ("cloudformation", "createChangeSet"): "ChangeSetName",
}
"""The members that name what may be made only once."""

_TOKEN = "ClientToken"  # noqa: S105 - a member, not a password
"""By it a service takes a retry for what it is: the same request, not another of the same name."""

_UNIQUE = re.compile(r"States\.UUID\(\)|\$uuid\(\)|\$millis\(\)")
_RETRY = re.compile(r"(\$\$|\$states\.context)\.State\.RetryCount")
_REDRIVE = re.compile(r"(\$\$|\$states\.context)\.Execution\.RedriveCount")
_EXECUTION_NAME = re.compile(r"(\$\$|\$states\.context)\.Execution\.Name")
_THIS_EXECUTION = re.compile(r"(\$\$|\$states\.context)\.Execution\.(Id|Name)\b")
_OF_EXECUTION = re.compile(r"(\$\$|\$states\.context)\.(Execution|StateMachine)\.\w+")
_LONGEST_EXECUTION_NAME = 80
_UUID_LENGTH = 36


def job_name_collides(project: Project) -> Iterator[Fault]:
    for file, state, call, member, name in _named(project):
        if not name.is_computed:
            wrong = f"{member} of {call} is '{name.text}' each time"
        elif _UNIQUE.search(name.text) or _is_started_once(call, name):
            continue
        elif not (_REDRIVE.search(name.text) and (_RETRY.search(name.text) or state.member(_TOKEN))):
            wrong = f"{member} of {call} is the same for a retry or a redrive: {name.text}"
        elif "$" not in _RETRY.sub("", _REDRIVE.sub("", name.text)):
            wrong = f"{member} of {call} is the same in each execution: {name.text}"
        elif _is_in_inline_map(state) and "$" not in _OF_EXECUTION.sub("", _RETRY.sub("", name.text)):
            wrong = f"{member} of {call} is the same for each item: {name.text}"
        else:
            continue
        yield Fault(file=file, where=state.name, wrong=wrong)


def _is_started_once(call: Call, name: Expression) -> bool:
    """StartExecution that is tried again gives the execution of that name and input while it runs: a name
    that this execution alone gives starts one, however often the answer is lost. Not so where the state waits
    for its end: a redrive would find it ended."""
    return (
        call.operation == "StartExecution"
        and call.pattern == ""
        and _THIS_EXECUTION.search(name.text) is not None
    )


def _is_in_inline_map(state: State) -> bool:
    """Whether the items of a Map share the execution that the state is in."""
    around = state.around
    while around and not (around.kind == "Map" and around.is_distributed):
        if around.kind == "Map":
            return True
        around = around.around
    return False


def job_name_too_long(project: Project) -> Iterator[Fault]:
    for file, state, call, member, name in _named(project):
        limit = call.longest(member)
        length = longest(name)
        if limit is not None and length > limit:
            wrong = f"{member} of {call} may have {length} characters, and the API takes {limit}: {name.text}"
            yield Fault(file=file, where=state.name, wrong=wrong)


def longest(name: Expression) -> int:
    """How long a name grows as far as its expression says: what comes from the input counts nothing."""
    if not name.is_computed:
        return len(re.sub(r"\$\{\w+\}", "", name.text))
    text = name.text.strip()
    if text.startswith("{%"):
        return sum(map(_length, _split(text.removeprefix("{%").removesuffix("%}"), at="&")))
    return _length(text)


def _length(expression: str) -> int:
    expression = expression.strip()
    if len(expression) > 1 and expression[0] in "'\"" and _quoted_end(expression, 0) == len(expression) - 1:
        return len(re.sub(r"\$\{\w+\}", "", expression[1:-1]))
    if _EXECUTION_NAME.fullmatch(expression):
        return _LONGEST_EXECUTION_NAME
    if expression in ("States.UUID()", "$uuid()"):
        return _UUID_LENGTH
    if _RETRY.fullmatch(expression) or _REDRIVE.fullmatch(expression):
        return 1
    if match := re.fullmatch(r"States\.Format\((.*)\)", expression, re.DOTALL):
        template, *values = _split(match[1], at=",")
        return _length(template.replace("{}", "")) + sum(map(_length, values))
    return 0


def _split(text: str, *, at: str) -> list[str]:
    """Split at a character outside of quotes and brackets."""
    parts, depth, start, index = [], 0, 0, 0
    while index < len(text):
        character = text[index]
        if character in "'\"":
            index = _quoted_end(text, index)
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == at and depth == 0:
            parts.append(text[start:index])
            start = index + 1
        index += 1
    return [*parts, text[start:]]


def _quoted_end(text: str, start: int) -> int:
    """Where the quotation that begins at `start` ends; the text's end where it does not."""
    index = start + 1
    while index < len(text) and text[index] != text[start]:
        index += 2 if text[index] == "\\" else 1
    return index


def _named(project: Project) -> Iterator[tuple[str, State, Call, str, Expression]]:
    for definition, state in project.states:
        call = call_of(state)
        member = _NAMES.get((call.service, call.api)) if call else None
        name = state.member(member) if member else None
        if call and member and name:
            yield definition.file, state, call, member, name
