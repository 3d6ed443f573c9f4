"""Items in DynamoDB by which executions keep out of each other's way.

A claim says which execution an event has started, so that an event that is delivered twice starts one. The
lock of continuous integration says whose turn it is. Its holder is an execution: a lock whose holder has
ended, or whose lease is over, is free, so none is ever lost; and who has lost it finds out before it changes
anything, since each step on is a write on the condition that it still holds it.
"""

from typing import Any

from stepfunctions.steps import Chain, ChoiceRule, Succeed, Task
from stepfunctions.steps.states import State

from workflows.config import BUILD_SECONDS, DAY, PROCESSING_SECONDS, SPOT_WAIT_SECONDS, Config
from workflows.language import Failing, call_aws, caught_in, chosen, failed, in_one_line, merged

Step = State | Chain

LOCK = "ci"
TAKEN = ("DynamoDB.ConditionalCheckFailedException",)
CLAIM_DAYS = 90
"""As long as Step Functions keeps the name of an execution."""
BUILDING, UPDATING, RUNNING = "building", "updating", "running"
"""The phases of the lock's holder: a newer commit may end it in the first and the last, and never between."""
LEASE_SECONDS = {
    BUILDING: 2 * BUILD_SECONDS,
    UPDATING: 12 * 3600,
    RUNNING: SPOT_WAIT_SECONDS + 4 * PROCESSING_SECONDS,
}
THIS_RUN = (
    "'ci-' & $hash($states.context.Execution.Id, 'SHA-256') & '-' & $states.context.Execution.RedriveCount"
)
"""By what names tell executions and redrives apart, in characters that any service takes."""
WAIT_SECONDS = (
    "$max([$states.input.PollSeconds, $min([600, $floor("
    "($millis() - $toMillis($states.context.Execution.StartTime)) / 20000)])])"
)
"""Between two looks at what somebody else has to end first: a twentieth of the time that has passed, so that
days of waiting fit into the 25,000 events that an execution may have."""
ME = "{% $states.context.Execution.Id %}"
FINISHED = "$exists($states.result.Attributes.Finished) ? $states.result.Attributes.Finished.S : ''"
SEEN = """(
  $item := $states.result.Item;
  $exists($item.Holder) ? {
    'Holder': $item.Holder.S, 'Phase': $item.Phase.S, 'Commit': $item.Commit.S,
    'ExpiresAt': $number($item.ExpiresAt.N), 'Run': $exists($item.Run) ? $item.Run.S : ''
  } : {'Holder': ''}
)"""
FATE = """(
  $seen := $states.input.Seen;
  $merge([$seen, {'Fate':
    $states.result.Status != 'RUNNING' or $seen.ExpiresAt < $millis() / 1000 ? 'free' :
    $seen.Commit = $states.input.Commit ? 'same' :
    '%s' = 'SUPERSEDED' and $seen.Phase != '%s' ? 'superseded' : 'busy'
  }])
)"""


def claim(config: Config, *, event: str, then: Step) -> Task:
    """Go on to `then` in the first execution that `event` has started, and end any other one.

    `event` is JSONata: the same text for the same event.
    """
    again = Succeed("StartedAlready", comment="Another execution was started by the same event.")
    step = call_aws(
        "Claim",
        "dynamodb:putItem",
        {
            "TableName": config.locks,
            "Item": {
                "LockId": {"S": f"{{% $states.context.StateMachine.Name & '/' & {event} %}}"},
                "Holder": {"S": ME},
                "DeleteAt": {"N": f"{{% $string($floor($millis() / 1000) + {CLAIM_DAYS * DAY}) %}}"},
            },
            "ConditionExpression": "attribute_not_exists(LockId) OR Holder = :me",
            "ExpressionAttributeValues": {":me": {"S": ME}},
        },
        output="{% $states.input %}",
    )
    unclaimed = failed(
        "ClaimFailed",
        error="ClaimFailed",
        cause="It could not be found out whether this event has started another execution: {}: {} "
        "Nothing was deployed.",
        paths=("$.Failure.Error", "$.Failure.Cause"),
    )
    step.add_catch(caught_in(again, errors=TAKEN))
    step.add_catch(caught_in(unclaimed))
    step.next(then)
    return step


def lock(config: Config, *, waiting: State, then: Step, fails: Failing) -> Task:
    """Go on to `then` as the lock's holder; where it is somebody else's turn, to `waiting`.

    The last commit that went all the way comes to `$.Finished`.
    """
    broken = fails(
        "LockFailed",
        error="LockFailed",
        cause="Whose turn it is could not be found out: {}: {} Nothing was built.",
        paths=("$.Failure.Error", "$.Failure.Cause"),
    )
    take = _take(
        config,
        "Lock",
        condition="attribute_not_exists(Holder) OR Holder = :me",
        output=merged("Finished", FINISHED),
    )
    read = call_aws(
        "ReadLock",
        "dynamodb:getItem",
        {"TableName": config.locks, "Key": {"LockId": {"S": LOCK}}, "ConsistentRead": True},
        output=merged("Seen", SEEN),
    )
    look = call_aws(
        "DescribeHolder",
        "aws-sdk:sfn:describeExecution",
        {"ExecutionArn": "{% $states.input.Seen.Holder %}"},
        output=merged("Seen", FATE % (config.execution_mode, UPDATING)),
    )
    take_over = _take(
        config,
        "TakeLock",
        # An answer that got lost: it has been taken already.
        condition="(Holder = :holder AND Phase = :phase) OR Holder = :me",
        output=merged("Finished", FINISHED),
        values={
            ":holder": {"S": "{% $states.input.Seen.Holder %}"},
            ":phase": {"S": "{% $states.input.Seen.Phase %}"},
        },
    )
    take.add_catch(caught_in(read, errors=TAKEN))
    take_over.add_catch(caught_in(waiting, errors=TAKEN))
    # An execution that is not known any more has ended long ago.
    look.add_catch(caught_in(take_over, errors=("Sfn.ExecutionDoesNotExistException",)))
    for step in (take, read, look, take_over):
        step.add_catch(caught_in(broken))

    take.next(then)
    read.next(chosen("IsLockHeld", [(ChoiceRule.StringEquals("$.Seen.Holder", ""), waiting)], default=look))
    same = Succeed("BuiltAlready", comment="Another execution is at the same commit.")
    fate = "$.Seen.Fate"
    look.next(
        chosen(
            "IsLockFree",
            [
                (ChoiceRule.StringEquals(fate, "same"), same),
                (ChoiceRule.StringEquals(fate, "busy"), waiting),
            ],
            default=take_over,
        )
    )
    take_over.next(
        chosen(
            "IsHolderSuperseded",
            [(_is_superseding(), stop_superseded(then=then))],
            default=then,
        )
    )
    return take


def stop_superseded(*, then: Step) -> Task:
    """Stop who held the lock, and the run that it had started where that has not asked a person yet."""
    stop = _stop("StopHolder", "$states.input.Seen.Holder")
    look = call_aws(
        "LookAtSuperseded",
        "aws-sdk:sfn:getExecutionHistory",
        last_event("$states.input.Seen.Run"),
        output=merged("Seen", f"$merge([$states.input.Seen, {{'IsAsking': {IS_ASKING}}}])"),
    )
    stop_run = _stop("StopSupersededRun", "$states.input.Seen.Run")
    # What has ended in the meantime can't be stopped, and need not be.
    for step in (stop, look, stop_run):
        step.add_catch(caught_in(then))
    asking = chosen(
        "IsSupersededAsking", [(ChoiceRule.BooleanEquals("$.Seen.IsAsking", True), then)], default=stop_run
    )
    stop.next(chosen("HadItStarted", [(ChoiceRule.StringEquals("$.Seen.Run", ""), then)], default=look))
    look.next(asking)
    stop_run.next(then)
    return stop


IS_ASKING = """(
  $last := $states.result.Events[0];
  $last.Type = 'TaskSubmitted' and $contains($last.TaskSubmittedEventDetails.Resource, 'waitForTaskToken')
)"""
"""Whether an execution waits for a person, by the last event of its history."""


def last_event(execution: str) -> dict[str, Any]:
    """The arguments of getExecutionHistory that ask for it."""
    return {
        "ExecutionArn": f"{{% {execution} %}}",
        "ReverseOrder": True,
        "MaxResults": 1,
        "IncludeExecutionData": False,
    }


def go_on(
    config: Config, name: str, *, phase: str, then: Step, lost: State, fails: Failing, run: str = ""
) -> Task:
    """Enter the holder's next phase; to `lost` where a newer commit has taken the lock.

    `run` is JSONata: the execution that was started, to be stopped together with this one.
    """
    return _write(
        config,
        name,
        update="SET Phase = :phase, ExpiresAt = :until" + (", Run = :run" if run else ""),
        values={
            ":phase": {"S": phase},
            ":until": _until(phase),
            **({":run": {"S": f"{{% {run} %}}"}} if run else {}),
        },
        then=then,
        lost=lost,
        fails=fails,
    )


def finish(config: Config, *, then: Step, lost: State, fails: Failing) -> Task:
    """Give the lock to whoever is next, and keep the commit as the last one that went all the way."""
    return _write(
        config,
        "Finish",
        update="SET Finished = :commit REMOVE Holder, Phase, ExpiresAt, Run",
        condition="Holder = :me OR (attribute_not_exists(Holder) AND Finished = :commit)",
        values={":commit": {"S": "{% $states.input.Commit %}"}},
        then=then,
        lost=lost,
        fails=fails,
    )


def _write(
    config: Config,
    name: str,
    *,
    update: str,
    values: dict[str, Any],
    then: Step,
    lost: State,
    fails: Failing,
    condition: str = "Holder = :me",
) -> Task:
    """Change the lock's item while it is ours."""
    step = call_aws(
        name,
        "dynamodb:updateItem",
        {
            "TableName": config.locks,
            "Key": {"LockId": {"S": LOCK}},
            "UpdateExpression": update,
            "ConditionExpression": condition,
            "ExpressionAttributeValues": {":me": {"S": ME}, **values},
        },
        output="{% $states.input %}",
    )
    step.add_catch(caught_in(lost, errors=TAKEN))
    step.add_catch(
        caught_in(
            fails(
                f"{name}Failed",
                error="LockFailed",
                cause="The lock of continuous integration could not be written: {}: {}",
                paths=("$.Failure.Error", "$.Failure.Cause"),
            )
        )
    )
    step.next(then)
    return step


def _take(
    config: Config, name: str, *, condition: str, output: str, values: dict[str, Any] | None = None
) -> Task:
    return call_aws(
        name,
        "dynamodb:updateItem",
        {
            "TableName": config.locks,
            "Key": {"LockId": {"S": LOCK}},
            "UpdateExpression": (
                "SET Holder = :me, #commit = :commit, Phase = :building, ExpiresAt = :until REMOVE Run"
            ),
            "ConditionExpression": condition,
            "ExpressionAttributeNames": {"#commit": "Commit"},
            "ExpressionAttributeValues": {
                ":me": {"S": ME},
                ":commit": {"S": "{% $states.input.Commit %}"},
                ":building": {"S": BUILDING},
                ":until": _until(BUILDING),
                **(values or {}),
            },
            "ReturnValues": "ALL_NEW",
        },
        output=output,
    )


def _until(phase: str) -> dict[str, str]:
    return {"N": f"{{% $string($floor($millis() / 1000) + {LEASE_SECONDS[phase]}) %}}"}


def _stop(name: str, execution: str) -> Task:
    return call_aws(
        name,
        "aws-sdk:sfn:stopExecution",
        {
            "ExecutionArn": f"{{% {execution} %}}",
            "Error": "Superseded",
            "Cause": in_one_line(
                "'Commit ' & $states.input.Commit & ' is newer: ' & $states.context.Execution.Id"
            ),
        },
        output="{% $states.input %}",
    )


def _is_superseding() -> Any:
    return ChoiceRule.And(
        [
            ChoiceRule.IsPresent("$.Seen.Fate", True),
            ChoiceRule.StringEquals("$.Seen.Fate", "superseded"),
        ]
    )
