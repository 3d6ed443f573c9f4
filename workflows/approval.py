"""A person's decision: a task that waits for it in rounds, and what follows where it does not come.

A round ends when a reminder is due, when the time is over, and after a quarter of an hour at the latest: the
function is called again then. It reminds, and it delivers what was decided while no task waited, or what
could not be delivered; so no decision is lost, whatever failed.
"""

from typing import Any

from stepfunctions.steps import Chain, ChoiceRule, LambdaStep, Pass, Retry
from stepfunctions.steps.states import State

from workflows.config import DAY, WEEK, Config
from workflows.language import Expression, Failing, caught, chosen, failed, in_one_line, jsonata, with_fields

ROUND_SECONDS = 15 * 60
MOST_ROUNDS = 1000
"""Of about ten events each: far from the 25,000 that a history may have, however long the waiting is."""

GIVEN = "$exists($states.input.Run.Approval) ? $states.input.Run.Approval : {}"
BEGUN = f"""$merge([$states.input, {{"Asking": (
  $rules := $merge([$states.input.RuleDefaults, {GIVEN}]);
  $checked := $map(["TimeoutSeconds", "ReminderSeconds"], function($name) {{(
    $value := $lookup($rules, $name);
    $type($value) = "number" and $value >= 1 ? $value :
      $error($name & " of Approval is " & $string($value) & "; it should be a number of seconds, 1 or more"))
  }});
  $now := $toMillis($states.context.State.EnteredTime) / 1000;
  {{"Rules": $rules, "Deadline": $ceil($now + $rules.TimeoutSeconds),
    "RemindAt": $now + $rules.ReminderSeconds,
    "Longest": $max([{ROUND_SECONDS}, $rules.TimeoutSeconds / {MOST_ROUNDS}])}})}}])"""
ROUND = """$merge([$states.input, {"Asking": (
  $asking := $states.input.Asking;
  $now := $toMillis($states.context.State.EnteredTime) / 1000;
  $left := $asking.Deadline - $now;
  $reminder := $asking.RemindAt - $now;
  $merge([$asking, {"Left": $left, "Seconds":
    $max([1, $ceil($min([$left, $asking.Longest, $reminder > 0 ? $reminder : $left]))])}]))}])"""

BROKEN = (
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
    "Lambda.Unknown",
    "Sandbox.Timedout",
    "Runtime.ExitError",
    "ServiceFailed",
    "NobodyAsked",
)
"""What passes: Lambda's own failures, and those of the services behind the function."""
ANSWER = (
    *("approval_id", "decision", "decided_by", "decided_at", "comment"),
    *("votes", "record", "bound", "description", "properties"),
)
"""The members of a decision, as the function gives them (deploy/functions/approvals.py)."""


def rule_defaults(config: Config) -> dict[str, Any]:
    """What holds where the execution's input does not say otherwise, in `Approval`."""
    return {
        "Approvers": Expression(f"States.StringSplit('{config.approvers}', ',')"),
        "Required": Expression(f"States.StringToJson('{config.required_approvals}')"),
        "FourEyes": Expression(f"States.StringToJson('{config.four_eyes}')"),
        "TimeoutSeconds": WEEK,
        "ReminderSeconds": DAY,
    }


def ask(
    config: Config,
    name: str,
    *,
    kind: str,
    details: dict[str, Any],
    decided: State | Chain,
    unasked: str,
    fails: Failing = failed,
) -> Chain:
    """Ask for approval of the model package that `details` names; the answer comes to `$.Approval`.

    It goes to `decided` with approve, reject or expire in `$.Approval.decision`; `unasked` says what is so if
    nobody could be asked. The rules are those of the input's `Approval` over `$.RuleDefaults`. `fails`
    makes the state that ends the release.
    """
    broken = fails(
        f"{name}Failed",
        error=f"{name}Failed",
        cause=f"Nobody could be asked for approval: {{}}: {{}} {unasked}",
        paths=("$.Failure.Error", "$.Failure.Cause"),
    )
    common = {"ExecutionArn": Expression("$$.Execution.Id"), "Kind": kind}
    request = LambdaStep(
        name,
        wait_for_callback=True,
        timeout_seconds_path="$.Asking.Seconds",
        parameters={
            "FunctionName": config.approval_request,
            "Payload": {
                "Action": "ask",
                "TaskToken": Expression("$$.Task.Token"),
                "AskedAt": Expression("States.Format('{} {}', $$.State.EnteredTime, $$.State.RetryCount)"),
                "ExpiresAt": Expression("$.Asking.Deadline"),
                "RemindAt": Expression("$.Asking.RemindAt"),
                "Rules": Expression("$.Asking.Rules"),
                **common,
                **details,
            },
        },
        result_path="$.Approval",
    )
    end = call(config, f"End{name}", {"Action": "expire", **common}, gives=ANSWER, result_path="$.Approval")
    end.add_catch(caught(broken))
    end.next(decided)
    begin = jsonata(Pass(f"{name}Rules"), output=in_one_line(BEGUN))
    next_round = jsonata(Pass(f"{name}Round"), output=in_one_line(ROUND))
    request.add_retry(passing())
    request.add_catch(caught(next_round, errors=("States.Timeout",), path="$.Asking.Over"))
    request.add_catch(caught(broken))
    request.next(decided)
    is_open = ChoiceRule.NumericGreaterThan("$.Asking.Left", 0)
    next_round.next(chosen(f"Is{name}Open", [(is_open, request)], default=end))
    return Chain([begin, next_round])


def check(
    config: Config,
    name: str,
    *,
    parameters: dict[str, Any],
    then: State | Chain,
    differs: str,
    fails: Failing = failed,
) -> State:
    """Go on to `then` only where what is to be deployed is what was approved, byte for byte.

    `differs` says what is so where it isn't.
    """
    step = call(
        config,
        name,
        {"Action": "check", **parameters},
        gives=("matches", "differences"),
        result_path="$.Check",
    )
    step.add_catch(
        caught(
            fails(
                f"{name}Failed",
                error=f"{name}Failed",
                cause=f"It could not be checked what was approved: {{}}: {{}} {differs}",
                paths=("$.Failure.Error", "$.Failure.Cause"),
            )
        )
    )
    mismatch = fails(
        f"{name}Mismatch",
        error="ApprovalMismatch",
        cause=f"This is not what was approved: {{}} {differs}",
        paths=("$.Check.differences",),
    )
    matches = ChoiceRule.BooleanEquals("$.Check.matches", True)
    step.next(chosen(f"{name}Matches", [(matches, then)], default=mismatch))
    return step


def call(
    config: Config, name: str, payload: dict[str, Any], *, gives: tuple[str, ...], result_path: str
) -> LambdaStep:
    """Call the approval function and wait for the members that it gives back."""
    step = LambdaStep(
        name,
        parameters={"FunctionName": config.approval_request, "Payload": payload},
        result_path=result_path,
    )
    step.add_retry(passing())
    return with_fields(step, result_selector={f"{member}.$": f"$.Payload.{member}" for member in gives})


def passing() -> Retry:
    """For half an hour, since what waits for a person has time."""
    retry = Retry(error_equals=list(BROKEN), interval_seconds=2, max_attempts=14, backoff_rate=2.0)
    return with_fields(retry, max_delay_seconds=300, jitter_strategy="FULL")


def is_approved() -> Any:
    """The answer is yes."""
    return ChoiceRule.StringEquals("$.Approval.decision", "approve")


def is_expired() -> Any:
    """Nobody answered in time."""
    return ChoiceRule.StringEquals("$.Approval.decision", "expire")
