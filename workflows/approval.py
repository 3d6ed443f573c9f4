"""A person's decision: a task that waits for it, and an end where it does not come."""

from typing import Any

from stepfunctions.steps import ChoiceRule, LambdaStep, Retry
from stepfunctions.steps.states import State

from workflows.config import Config
from workflows.language import Expression, caught, failed


def ask(
    config: Config, name: str, *, details: dict[str, Any], timeout_path: str, unanswered: State, unasked: str
) -> LambdaStep:
    """Ask for approval of what `details` says and wait for the answer, which comes to `$.Approval`.

    It goes to `unanswered` where nobody decided in time; `unasked` says what is so if nobody could be asked.
    """
    step = LambdaStep(
        name,
        wait_for_callback=True,
        timeout_seconds_path=timeout_path,
        parameters={
            "FunctionName": config.approval_request,
            "Payload": {
                "TaskToken": Expression("$$.Task.Token"),
                "ExecutionArn": Expression("$$.Execution.Id"),
                "TimeoutSeconds": Expression(timeout_path),
                **details,
            },
        },
        result_path="$.Approval",
    )
    step.add_retry(
        Retry(
            error_equals=[
                "Lambda.ClientExecutionTimeoutException",
                "Lambda.ServiceException",
                "Lambda.AWSLambdaException",
                "Lambda.SdkClientException",
                "Lambda.TooManyRequestsException",
            ],
            interval_seconds=2,
            max_attempts=5,
            backoff_rate=2.0,
        )
    )
    step.add_catch(caught(unanswered, errors=("States.Timeout",)))
    step.add_catch(
        caught(
            failed(
                f"{name}Failed",
                error=f"{name}Failed",
                cause=f"Nobody could be asked for approval: {{}}: {{}} {unasked}",
                paths=("$.Failure.Error", "$.Failure.Cause"),
            )
        )
    )
    return step


def is_approved() -> Any:
    """The answer is yes."""
    return ChoiceRule.StringEquals("$.Approval.decision", "approve")
