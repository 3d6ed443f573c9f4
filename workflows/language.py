"""What the Data Science SDK lacks of the Amazon States Language: intrinsic functions, and newer fields."""

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

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


def aws_sdk(
    name: str, action: str, parameters: dict[str, Any], *, may_refuse: bool = False, **fields: Any
) -> Task:
    """A state that calls AWS: `aws_sdk("Read", "s3:getObject", {…}, result_path="$.Read")`.

    `may_refuse`: that the service refuses the call is an answer, which must not be asked for again and again.
    """
    known = {key: fields.pop(key) for key in ("result_path", "comment") if key in fields}
    task = Task(name, resource=f"arn:aws:states:::aws-sdk:{action}", parameters=parameters, **known)
    task.add_retry(throttled(action.partition(":")[0], may_refuse=may_refuse))
    return with_fields(task, **fields)


def jsonata(state: AnyState, *, output: str, arguments: dict[str, Any] | None = None) -> AnyState:
    """A state in JSONata among states in JSONPath: for what intrinsic functions can't say."""
    return with_fields(state, query_language="JSONata", arguments=arguments, output=output)


def call_aws(
    name: str, action: str, arguments: dict[str, Any], *, output: str, may_refuse: bool = False
) -> Task:
    """A state in JSONata that calls AWS: `call_aws("Look", "aws-sdk:s3:headObject", {…}, output="…")`."""
    step = jsonata(Task(name, resource=f"arn:aws:states:::{action}"), arguments=arguments, output=output)
    service = action.removeprefix("aws-sdk:").partition(":")[0]
    step.add_retry(throttled(service, may_refuse=may_refuse))
    return step


def caught_in(next_step: State | Chain, *, errors: tuple[str, ...] = ("States.ALL",)) -> Catch:
    """What `caught` is, of a state in JSONata: the error comes to `$.Failure` as well."""
    return with_fields(
        caught(next_step, errors=errors, path=None), output=merged("Failure", "$states.errorOutput")
    )


def merged(member: str, value: str) -> str:
    """A JSONata state's input with one member more, or another; `value` is an expression."""
    return merged_all(**{member: value})


def merged_all(**members: str) -> str:
    """The same with several members; `Name="expression"`."""
    pairs = ", ".join(f"'{member}': {value}" for member, value in members.items())
    return in_one_line(f"$merge([$states.input, {{{pairs}}}])")


def in_one_line(expression: str) -> str:
    """As a JSONata field takes it: not every validator lets it have more lines."""
    return f"{{% {' '.join(expression.split())} %}}"


PASSING = {
    "cloudformation": ("CloudFormation",),
    "cloudwatch": ("CloudWatch", "InternalServiceException"),
    "codebuild": ("CodeBuild", "AccountLimitExceededException", "CodeBuildException"),
    "codecommit": ("CodeCommit",),
    "dynamodb": (
        *("DynamoDB", "ProvisionedThroughputExceededException", "RequestLimitExceededException"),
        "InternalServerErrorException",
    ),
    "s3": ("S3",),
    "sagemaker": ("SageMaker",),
    "sfn": ("Sfn",),
    "sns": ("SNS", "ThrottledException"),
    "states": ("StepFunctions",),
}
"""What the names of a service's errors begin with, and those that pass.

DynamoDB and CodeBuild are called by the optimised integrations, which name errors in another way than
"aws-sdk:" does.
"""
OF_ANY_KIND = {
    "cloudformation": "CloudFormationException",
    "cloudwatch": "CloudWatchException",
    "codebuild": "AWSCodeBuildException",
    "codecommit": "CodeCommitException",
    "s3": "S3Exception",
    "sagemaker": "SageMakerException",
    "sfn": "SfnException",
    "sns": "AmazonSNSException",
    "states": "AWSStepFunctionsException",
}
"""Under what name an error comes that has no class of its own: S3's SlowDown and InternalError,
CloudFormation's Throttling, SageMaker's ThrottlingException, but refusals too. Not DynamoDB's: where the
table of the step cache refuses, jobs run."""


def throttled(service: str, *, may_refuse: bool = False) -> Retry:
    """Ask again, a little later each time, where the service was asked too often or was not there.

    Where a refusal is an answer (`may_refuse`), an error without a name is left to Catch: `is_throttled`.
    """
    prefix, *own = PASSING[service]
    of_any_kind = [OF_ANY_KIND[service]] if service in OF_ANY_KIND and not may_refuse else []
    retry = Retry(
        error_equals=[
            f"{prefix}.{error}" for error in ("ThrottlingException", "SdkClientException", *own, *of_any_kind)
        ],
        interval_seconds=2,
        max_attempts=5,
        backoff_rate=2.0,
    )
    return with_fields(retry, max_delay_seconds=30, jitter_strategy="FULL")


def is_throttled(path: str) -> Any:
    """The cause at `path` says that CloudFormation was asked too often, or was not there."""
    return is_any(path, ("Rate exceeded*", "*(Service: CloudFormation, Status Code: 5*"))


def failed(name: str, *, error: str, cause: str, paths: tuple[str, ...] = ()) -> Fail:
    """The end of an execution that says what failed; `cause` has a `{}` for each of `paths`."""
    if not paths:
        return Fail(name, error=error, cause=cause)
    return with_fields(Fail(name, error=error), cause_path=concatenated(cause, *paths).text)


Failing: TypeAlias = Callable[..., State]
"""Makes the state that ends an execution, with the arguments of `failed`."""


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
