"""What the Data Science SDK lacks of the Amazon States Language: intrinsic functions, and newer fields."""

from typing import Any, TypeVar

from stepfunctions.inputs import Placeholder
from stepfunctions.steps import Catch, Chain, Choice, Fail, Retry, Task
from stepfunctions.steps.choice_rule import ChoiceRule
from stepfunctions.steps.states import State

AnyState = TypeVar("AnyState", bound=State)


class Expression(Placeholder):  # type: ignore[misc]
    """A path or an intrinsic function, wherever the SDK takes a placeholder: `Expression("$.Run.RunId")`."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def to_jsonpath(self) -> str:
        return self.text


def concatenated(template: str, *paths: str) -> Expression:
    """`concatenated("{}-train", "$.Run.RunId")` as States.Format."""
    arguments = ", ".join((f"'{template}'", *paths))
    return Expression(f"States.Format({arguments})")


def with_fields(state: AnyState, **fields: Any) -> AnyState:
    """`state` with fields that the SDK doesn't know: `result_selector`, `error_path`, `cause_path`."""
    state.fields.update(fields)
    return state


def aws_sdk(name: str, action: str, parameters: dict[str, Any], **fields: Any) -> Task:
    """A state that calls AWS: `aws_sdk("Read", "s3:getObject", {…}, result_path="$.Read")`."""
    known = {key: fields.pop(key) for key in ("result_path", "comment") if key in fields}
    task = Task(name, resource=f"arn:aws:states:::aws-sdk:{action}", parameters=parameters, **known)
    task.add_retry(throttled(action.partition(":")[0]))
    return with_fields(task, **fields)


def jsonata(state: AnyState, *, output: str, arguments: dict[str, Any] | None = None) -> AnyState:
    """A state in JSONata among states in JSONPath: for what intrinsic functions can't say."""
    return with_fields(state, query_language="JSONata", arguments=arguments, output=output)


def throttled(service: str) -> Retry:
    """Ask again, a little later each time, where the service was asked too often or was not there."""
    prefix = {
        "cloudformation": "CloudFormation", "cloudwatch": "CloudWatch", "dynamodb": "DynamoDb", "s3": "S3",
        "sagemaker": "SageMaker",
    }[service]  # fmt: skip
    retry = Retry(
        error_equals=[f"{prefix}.{error}" for error in ("ThrottlingException", "SdkClientException")],
        interval_seconds=2,
        max_attempts=5,
        backoff_rate=2.0,
    )
    return with_fields(retry, max_delay_seconds=30, jitter_strategy="FULL")


def failed(name: str, *, error: str, cause: str, paths: tuple[str, ...] = ()) -> Fail:
    """The end of an execution that says what failed; `cause` has a `{}` for each of `paths`."""
    if not paths:
        return Fail(name, error=error, cause=cause)
    return with_fields(Fail(name, error=error), cause_path=concatenated(cause, *paths).text)


def caught(
    next_step: State | Chain, *, errors: tuple[str, ...] = ("States.ALL",), path: str | None = "$.Failure"
) -> Catch:
    """Go to `next_step` with the error and its cause at `path`; a JSONata state has `output` instead."""
    if path is None:
        return Catch(error_equals=list(errors), next_step=next_step)
    return Catch(error_equals=list(errors), result_path=path, next_step=next_step)


def chosen(
    name: str, choices: list[tuple[Any, State | Chain]], *, default: State | Chain | None = None
) -> Choice:
    """A Choice state: the first rule that holds, or `default`, or what it is chained with."""
    choice = Choice(name)
    for rule, next_step in choices:
        choice.add_choice(rule, next_step)
    if default is not None:
        choice.default_choice(default)
    return choice


def is_any(path: str, values: tuple[str, ...]) -> Any:
    """The text at `path` is one of `values`, which may hold `*`."""
    return ChoiceRule.Or([ChoiceRule.StringMatches(path, value) for value in values])
