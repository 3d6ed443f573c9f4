"""The platform's own stack is updated to a commit: a change set, what it would do, and what became of it."""

from stepfunctions.steps import ChoiceRule, Task, Wait
from stepfunctions.steps.states import State

from workflows.change_sets import NO_CHANGES, SHOWN
from workflows.config import Config
from workflows.language import Failing, call_aws, caught_in, chosen, is_any, merged, merged_all
from workflows.locks import THIS_RUN, WAIT_SECONDS
from workflows.stages import DEPLOYED, REASONS, UNDER_WAY, Step

GIVEN = "$states.input.Platform"
PLANNED = {
    "StackName": f"{{% {GIVEN}.ChangeSet.StackId %}}",
    "ChangeSetName": f"{{% {GIVEN}.ChangeSet.Id %}}",
}
"""The change set with its stack, which is what IAM is asked about."""
PARAMETERS = """(
  $given := $states.input.Release.Parameters;
  $kept := $states.input.Platform.Parameters;
  [$map($states.input.Release.Declared, function($name) {
    $exists($lookup($given, $name)) ? {'ParameterKey': $name, 'ParameterValue': $lookup($given, $name)} :
    $name in $kept ? {'ParameterKey': $name, 'UsePreviousValue': true}
  })]
)"""
"""What the commit says, and else what was so before; a parameter that is new takes its default."""


def update_platform(config: Config, *, then: Step, fails: Failing) -> Task:
    """Update the stack to `$.Release`, by a change set whose text comes to `$.Platform.ChangeSet`."""
    unknown = fails(
        "PlatformUnknown",
        error="PlatformUpdateFailed",
        cause="The platform could not be updated to commit {}: {}: {} Look at its stack.",
        paths=("$.Commit", "$.Failure.Error", "$.Failure.Cause"),
    )
    stack = f"{config.project}-platform"
    find = call_aws(
        "FindPlatform",
        "aws-sdk:cloudformation:describeStacks",
        {"StackName": stack},
        output=merged_all(
            Platform="{'Status': $states.result.Stacks[0].StackStatus, "
            "'Parameters': [$states.result.Stacks[0].Parameters.ParameterKey]}",
            WaitSeconds=WAIT_SECONDS,
        ),
    )
    plan = call_aws(
        "PlanPlatform",
        "aws-sdk:cloudformation:createChangeSet",
        {
            "StackName": stack,
            # The same when it is asked again: an answer that got lost leaves no second change set.
            "ChangeSetName": f"{{% {THIS_RUN} %}}",
            "ClientToken": f"{{% {THIS_RUN} %}}",
            "ChangeSetType": "UPDATE",
            "TemplateURL": "{% $states.input.Release.TemplateUrl %}",
            "Parameters": f"{{% {' '.join(PARAMETERS.split())} %}}",
            "Capabilities": ["CAPABILITY_NAMED_IAM"],
            "RoleARN": config.platform_role,
        },
        output=merged(
            "Platform",
            f"$merge([{GIVEN}, {{'ChangeSet': {{"
            "'Id': $states.result.Id, 'StackId': $states.result.StackId}}])",
        ),
    )
    for step in (find, plan):
        step.add_catch(caught_in(unknown))
    show = show_changes(
        unknown=unknown, then=then, execute=execute(unknown=unknown, then=then, fails=fails), fails=fails
    )
    plan.next(show)
    busy = Wait("PlatformBusy", seconds_path="$.WaitSeconds")
    busy.next(find)
    find.next(chosen("IsPlatformBusy", [(is_any("$.Platform.Status", UNDER_WAY), busy)], default=plan))
    return find


def show_changes(*, unknown: State, then: Step, execute: State, fails: Failing) -> Task:
    """Ask until the change set is there; that there is nothing to change is no failure."""
    show = call_aws(
        "ShowPlatformChanges",
        "aws-sdk:cloudformation:describeChangeSet",
        PLANNED,
        output=merged(
            "Platform", f"$merge([{GIVEN}, {{'ChangeSet': $merge([{GIVEN}.ChangeSet, ({SHOWN})])}}])"
        ),
    )
    show.add_catch(caught_in(unknown))
    wait = Wait("PlatformPlanning", seconds_path="$.PollSeconds")
    wait.next(show)
    drop = call_aws(
        "DropPlatformChangeSet",
        "aws-sdk:cloudformation:deleteChangeSet",
        PLANNED,
        output="{% $states.input %}",
    )
    drop.add_catch(caught_in(then))
    drop.next(then)
    refused = fails(
        "PlatformPlanRefused",
        error="PlatformUpdateFailed",
        cause="CloudFormation made no change set of commit {} for the platform: {} Nothing was changed.",
        paths=("$.Commit", "$.Platform.ChangeSet.Reason"),
    )
    status = "$.Platform.ChangeSet.Status"
    show.next(
        chosen(
            "IsPlatformPlanned",
            [
                (ChoiceRule.StringEquals(status, "CREATE_COMPLETE"), execute),
                (is_any(status, ("CREATE_PENDING", "CREATE_IN_PROGRESS")), wait),
                (is_any("$.Platform.ChangeSet.Reason", NO_CHANGES), drop),
            ],
            default=refused,
        )
    )
    return show


def execute(*, unknown: State, then: Step, fails: Failing) -> Task:
    """Carry the change set out, and follow the stack to where it ends."""
    start = call_aws(
        "UpdatePlatform",
        "aws-sdk:cloudformation:executeChangeSet",
        {
            **PLANNED,
            # The name in its ARN: by it the stack's events tell what belongs to it.
            "ClientRequestToken": f"{{% $split({GIVEN}.ChangeSet.Id, '/')[1] %}}",
        },
        output="{% $states.input %}",
    )
    look = call_aws(
        "WatchPlatform",
        "aws-sdk:cloudformation:describeStacks",
        {"StackName": f"{{% {GIVEN}.ChangeSet.StackId %}}"},
        output=merged_all(
            Platform=f"$merge([{GIVEN}, {{'Status': $states.result.Stacks[0].StackStatus}}])",
            WaitSeconds=WAIT_SECONDS,
        ),
    )
    explain = call_aws(
        "ExplainPlatform",
        "aws-sdk:cloudformation:describeStackEvents",
        {"StackName": f"{{% {GIVEN}.ChangeSet.StackId %}}"},
        output=merged("Reasons", REASONS % "Platform"),
    )
    for step in (start, look, explain):
        step.add_catch(caught_in(unknown))
    not_updated = fails(
        "PlatformNotUpdated",
        error="PlatformUpdateFailed",
        cause="The update of the platform to commit {} ended as {}: {} Nothing was started.",
        paths=("$.Commit", "$.Platform.Status", "$.Reasons"),
    )
    wait = Wait("PlatformUpdating", seconds_path="$.WaitSeconds")
    start.next(wait)
    wait.next(look)
    look.next(
        chosen(
            "IsPlatformUpdated",
            [(is_any("$.Platform.Status", DEPLOYED), then), (is_any("$.Platform.Status", UNDER_WAY), wait)],
            default=explain,
        )
    )
    explain.next(not_updated)
    return start
