"""What a stage's stack would change: a change set that is made before anything is changed, and shown.

Where it is not wanted it is discarded.

`plan(config, STAGING, then=deploy(config, STAGING, then=…))`: what was planned is at `$.<word>.ChangeSet`.
"""

from functools import partial

from stepfunctions.steps import ChoiceRule, Fail, Pass, Task, Wait
from stepfunctions.steps.states import State

from workflows.config import Config
from workflows.language import (
    Expression,
    Failing,
    aws_sdk,
    call_aws,
    caught,
    caught_in,
    chosen,
    concatenated,
    failed,
    is_any,
    is_throttled,
    merged,
    with_fields,
)
from workflows.stages import (
    THIS_ATTEMPT,
    UNDER_WAY,
    Stage,
    Step,
    account_of,
    change_set_of,
    credentials,
    describe_stack,
    stack_name,
)

NEVER_WHOLE = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED", "REVIEW_IN_PROGRESS")
"""A stack in such a state can only be deleted and made anew."""
NO_CHANGES = ("*didn't contain changes*", "*No updates are to be performed*")
"""Why CloudFormation makes no change set where there is nothing to change."""
SHOWN = """$result := $states.result;
$changes := [$map($result.Changes.ResourceChange, function($change) {{
  'Change': $change.Action = 'Add' ? 'added' : $change.Action = 'Remove' ? 'removed' :
    $change.Replacement = 'True' ? 'replaced' :
    $change.Replacement = 'Conditional' ? 'replaced if need be' : 'changed',
  'LogicalResourceId': $change.LogicalResourceId,
  'ResourceType': $change.ResourceType,
  'Properties': [$distinct($change.Details.Target.Name)]
}})];
$texts := $map(['added', 'changed', 'replaced', 'replaced if need be', 'removed'], function($word) {(
  $names := [$map($changes[Change = $word], function($change) {
    $change.LogicalResourceId &
      ($count($change.Properties) > 0 ? ' (' & $join($change.Properties, ', ') & ')' : '')
  })];
  $count($names) > 0 ? $word & ': ' & $join($names, ', ')
)});
{
  'Status': $result.Status,
  'Reason': $exists($result.StatusReason) ? $result.StatusReason : '',
  'Changes': $changes,
  'Text': $count($changes) > 0 ? $join([$texts], '; ') : 'none: it is deployed already'
}"""
"""A change set, in JSONata: what it does to each resource, and the same in a line."""


def plan(config: Config, stage: Stage, *, then: Step, fails: Failing) -> Step:
    """What the stage's stack would change comes to `$.<word>.ChangeSet`; nothing is changed yet.

    It has `Status` (CREATE_COMPLETE where there is something to change), `Changes`, each with what happens to
    a resource, and the same as a `Text`. `fails` makes the end of a release whose change set is not to stay.
    """
    word = stage.word
    unplanned = failed(
        f"{word}NotPlanned",
        error=f"{word}DeploymentFailed",
        cause=f"The {stage.name} stack could not be deployed: {{}}: {{}} {stage.untouched}",
        paths=("$.Failure.Error", "$.Failure.Cause"),
    )
    show = show_changes(config, stage, then=then, fails=fails)
    create = create_change_set(config, f"PlanNew{word}", stage, kind="CREATE")
    update = create_change_set(config, f"Plan{word}", stage, kind="UPDATE")
    for state in (create, update):
        state.add_catch(caught(unplanned))
        state.next(show)
    parameters = read_parameters(config, stage)
    parameters.add_catch(caught_in(unplanned))
    parameters.next(find_stack(config, stage, create=create, update=update, unchanged=unplanned))
    return parameters


def read_parameters(config: Config, stage: Stage) -> Task:
    """The stage's own parameters, from the bundle that the model was built with, and those of its account."""
    pairs = (
        "$each($parse($states.result.Body).Parameters, function($value, $name) "
        "{ {'ParameterKey': $name, 'ParameterValue': $string($value)} })"
    )
    return call_aws(
        f"{stage.word}Parameters",
        "aws-sdk:s3:getObject",
        {
            "Bucket": config.assets_bucket,
            "Key": f"{{% 'code/' & $states.input.Code & '/deploy/{stage.name}.json' %}}",
        },
        output=merged(
            "Parameters",
            f"$merge([$states.input.Parameters, {{'Stage': {{'List': [{pairs}]}}, "
            f"'Account': $states.input.Accounts.{stage.word}}}])",
        ),
    )


def find_stack(config: Config, stage: Stage, *, create: State, update: Step, unchanged: Fail) -> Task:
    """Is there a stack that can be updated? What it is made of now is kept, to bring it back."""
    word = stage.word
    find = describe_stack(
        config,
        f"Find{word}",
        stage,
        may_be_absent=True,
        result_selector={
            "Status.$": "$.Stacks[0].StackStatus",
            "Packages.$": "$.Stacks[0].Parameters[?(@.ParameterKey == 'ModelPackageName')].ParameterValue",
            "Codes.$": "$.Stacks[0].Parameters[?(@.ParameterKey == 'Code')].ParameterValue",
            "Parameters.$": "$.Stacks[0].Parameters",
        },
        result_path=f"$.{word}",
    )
    absent = ChoiceRule.StringMatches("$.Failure.Cause", "*does not exist*")
    nothing = Pass(f"No{word}Yet", result={"Packages": []}, result_path=f"$.{word}")
    nothing.next(create)
    wait = Wait(f"{word}Busy", seconds_path="$.PollSeconds")
    wait.next(find)
    asked_again = (is_throttled("$.Failure.Cause"), wait)
    find.add_catch(caught(chosen(f"{word}Absent", [(absent, nothing), asked_again], default=unchanged)))
    delete = aws_sdk(
        f"Delete{word}Remains",
        "cloudformation:deleteStack",
        {"StackName": stack_name(config, stage), "RoleARN": account_of(config, stage).stack_role},
        credentials=credentials(config, stage),
        result_path="$.Deleted",
    )
    delete.add_catch(caught(unchanged))
    delete.next(wait)
    find.next(
        chosen(
            f"{word}Found",
            [
                (is_any(f"$.{word}.Status", NEVER_WHOLE), delete),
                (is_any(f"$.{word}.Status", UNDER_WAY), wait),
            ],
            default=update,
        )
    )
    return find


def create_change_set(config: Config, name: str, stage: Stage, *, kind: str) -> Task:
    """The one template, the stage's parameters and the machine's own; a new stack that fails is deleted."""
    on_failure = {"OnStackFailure": "DELETE"} if kind == "CREATE" else {}
    return aws_sdk(
        name,
        "cloudformation:createChangeSet",
        {
            "StackName": stack_name(config, stage),
            # The same when it is asked again: an answer that got lost leaves no second change set.
            "ChangeSetName": concatenated("release-{}-{}", *THIS_ATTEMPT),
            "ClientToken": concatenated("release-{}-{}", *THIS_ATTEMPT),
            "ChangeSetType": kind,
            "TemplateURL": Expression("$.TemplateUrl"),
            "Parameters": Expression("$.Parameters[*].List[*]"),
            "RoleARN": account_of(config, stage).stack_role,
            **on_failure,
        },
        credentials=credentials(config, stage),
        result_selector={"Id.$": "$.Id", "StackId.$": "$.StackId", "Type": kind},
        result_path=f"$.{stage.word}.ChangeSet",
    )


def show_changes(config: Config, stage: Stage, *, then: Step, fails: Failing) -> Task:
    """Ask until the change set is there; that there is nothing to change is no failure."""
    word = stage.word
    given = f"$states.input.{word}"
    show = call_aws(
        f"Show{word}Changes",
        "aws-sdk:cloudformation:describeChangeSet",
        {
            "StackName": f"{{% {given}.ChangeSet.StackId %}}",
            "ChangeSetName": f"{{% {given}.ChangeSet.Id %}}",
        },
        output=merged(word, f"$merge([{given}, {{'ChangeSet': $merge([{given}.ChangeSet, ({SHOWN})])}}])"),
    )
    with_fields(show, credentials=credentials(config, stage))
    unseen = fails(
        f"{word}PlanUnseen",
        error=f"{word}DeploymentFailed",
        cause=f"What would change in the {stage.name} stack could not be read: {{}}: {{}} {stage.untouched}",
        paths=("$.Failure.Error", "$.Failure.Cause"),
    )
    show.add_catch(caught_in(unseen))
    wait = Wait(f"{word}Planning", seconds_path="$.PollSeconds")
    wait.next(show)
    refused = fails(
        f"{word}PlanRefused",
        error=f"{word}DeploymentFailed",
        cause=f"CloudFormation made no change set for the {stage.name} stack: {{}} {stage.untouched}",
        paths=(f"$.{word}.ChangeSet.Reason",),
    )
    # The change set of no changes is of no use, and neither is it a failure where it stays.
    drop = aws_sdk(
        f"Drop{word}ChangeSet",
        "cloudformation:deleteChangeSet",
        change_set_of(word),
        credentials=credentials(config, stage),
        result_path="$.Dropped",
    )
    drop.add_catch(caught(then))
    drop.next(then)
    status = f"$.{word}.ChangeSet.Status"
    show.next(
        chosen(
            f"Is{word}Planned",
            [
                (ChoiceRule.StringEquals(status, "CREATE_COMPLETE"), then),
                (is_any(status, ("CREATE_PENDING", "CREATE_IN_PROGRESS")), wait),
                (is_any(f"$.{word}.ChangeSet.Reason", NO_CHANGES), drop),
            ],
            default=refused,
        )
    )
    return show


def discarding(config: Config, stage: Stage) -> Failing:
    """Makes ends of a release like workflows.language.failed, which discard what was planned first."""
    return partial(_ends_discarding, discard=_discard(config, stage))


def _ends_discarding(
    name: str, *, error: str, cause: str, paths: tuple[str, ...] = (), discard: State
) -> State:
    keep = Pass(
        name, parameters={"Error": error, "Cause": concatenated(cause, *paths)}, result_path="$.Discarding"
    )
    keep.next(discard)
    return keep


def _discard(config: Config, stage: Stage) -> State:
    """Take away the change set that is not wanted, and the stack that was there only for it."""
    word = stage.word
    end = with_fields(
        Fail(f"{word}NotReleased"), error_path="$.Discarding.Error", cause_path="$.Discarding.Cause"
    )
    # By its id: never the stack that somebody else has made in the meantime.
    delete_stack = aws_sdk(
        f"DiscardNew{word}",
        "cloudformation:deleteStack",
        {
            "StackName": Expression(f"$.{word}.ChangeSet.StackId"),
            "RoleARN": account_of(config, stage).stack_role,
        },
        credentials=credentials(config, stage),
        result_path="$.Discarded",
    )
    delete_change_set = aws_sdk(
        f"Discard{word}ChangeSet",
        "cloudformation:deleteChangeSet",
        change_set_of(word),
        credentials=credentials(config, stage),
        result_path="$.Discarded",
    )
    for step in (delete_stack, delete_change_set):
        step.add_catch(caught(end, path="$.NotDiscarded"))  # a plan that stays changes nothing
        step.next(end)
    is_new = ChoiceRule.StringEquals(f"$.{word}.ChangeSet.Type", "CREATE")
    return chosen(f"What{word}Planned", [(is_new, delete_stack)], default=delete_change_set)
