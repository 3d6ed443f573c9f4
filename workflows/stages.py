"""A stage of model-deploy: what was planned for its stack is deployed and watched.

`then` is the state to go on with: `deploy(config, STAGING, then=test(config, STAGING, then=…))`. What goes
wrong once production has changed goes to `unproven`: production is brought back (workflows/restore.py).
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

from stepfunctions.steps import Chain, ChoiceRule, Fail, Pass, Task, Wait
from stepfunctions.steps.states import State

from workflows.config import Account, Config
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
    merged,
    with_fields,
)

Step: TypeAlias = State | Chain

DEPLOYED = ("CREATE_COMPLETE", "UPDATE_COMPLETE")
UNDER_WAY = ("*_IN_PROGRESS",)
THIS_ATTEMPT = ("States.Hash($$.Execution.Id, 'SHA-256')", "$$.Execution.RedriveCount")
"""By what names tell executions and redrives apart, in characters that any service takes."""
RESOURCES = "$.StackResources[?(@.ResourceType == '%s')].PhysicalResourceId"
REASONS = """(
  $token := $split($states.input.%s.ChangeSet.Id, '/')[1];
  $failed := $states.result.StackEvents[
    ClientRequestToken = $token and $contains(ResourceStatus, 'FAILED') and
    $not($contains(ResourceStatusReason, 'cancelled'))
  ];
  $join([$map($failed, function($event) {
    $event.LogicalResourceId & ': ' & $event.ResourceStatusReason
  })], ' ')
)"""
"""Why a change set was not carried out, in JSONata: what failed by itself, in CloudFormation's words."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One endpoint and its stack; both are called `<project>-<name>`."""

    name: str
    untouched: str
    """What production is while this stage's stack has not been changed."""
    word: str
    """In the names of its states."""
    kept_at: str = "$.Unproven"
    """Where it is said what went wrong, while production is brought back."""

    @property
    def folder(self) -> str:
        """Where its test report is, below the run's folder of tests."""
        return self.word.lower()


STAGING = Stage(name="staging", word="Staging", untouched="Production was not touched.")
PRODUCTION = Stage(name="production", word="Production", untouched="Production was not changed.")
RESTORED = Stage(name="production", word="Restored", untouched="", kept_at="$.NotProven")
"""Production once more, with what it served before."""


def account_of(config: Config, stage: Stage) -> Account:
    return config.staging if stage == STAGING else config.production


def credentials(config: Config, stage: Stage) -> dict[str, str]:
    """For a task that calls the stage's account, wherever that is: the role that it takes on."""
    return {"RoleArn": account_of(config, stage).role}


def change_set_of(word: str) -> dict[str, object]:
    """The stage's change set with its stack, which is what IAM is asked about."""
    planned = f"$.{word}.ChangeSet"
    return {"StackName": Expression(f"{planned}.StackId"), "ChangeSetName": Expression(f"{planned}.Id")}


def token_of(change_set: str) -> Expression:
    """The name in the change set's ARN: by it the stack's events tell what belongs to it."""
    return Expression(f"States.ArrayGetItem(States.StringSplit({change_set}, '/'), 1)")


def deploy(config: Config, stage: Stage, *, then: Step, fails: Failing, unproven: Step | None = None) -> Step:
    """Make the very changes that were planned; that there are none is a success too.

    Then the endpoint has to serve what the stack asks for. `fails` makes the end of a release that has
    changed nothing.
    """
    word = stage.word
    unknown = unwatched(stage)
    then = verify(config, stage, then=then, unknown=unknown, unproven=unproven)
    unchanged = fails(
        f"{word}NotDeployed",
        error=f"{word}DeploymentFailed",
        cause=f"The {stage.name} stack could not be deployed: {{}}: {{}} {stage.untouched}",
        paths=("$.Failure.Error", "$.Failure.Cause"),
    )
    change = aws_sdk(
        f"Deploy{word}",
        "cloudformation:executeChangeSet",
        {
            **change_set_of(word),
            "ClientRequestToken": token_of(f"$.{word}.ChangeSet.Id"),
        },
        credentials=credentials(config, stage),
        result_path="$.Change",
    )
    change.add_catch(caught(unchanged))
    change.next(watch_stack(config, stage, unknown=unknown, then=then))
    is_planned = ChoiceRule.StringEquals(f"$.{word}.ChangeSet.Status", "CREATE_COMPLETE")
    if stage != PRODUCTION:
        return chosen(f"Has{word}Changes", [(is_planned, change)], default=then)
    is_update = ChoiceRule.StringEquals(f"$.{word}.ChangeSet.Type", "UPDATE")
    watched = check_alarms(config, stage, then=change, unchanged=unchanged, fails=fails)
    return chosen(
        f"Has{word}Changes",
        [(ChoiceRule.And([is_planned, is_update]), watched), (is_planned, change)],
        default=then,
    )


def check_alarms(config: Config, stage: Stage, *, then: State, unchanged: State, fails: Failing) -> Step:
    """An update is watched by alarms: each of them has to be there, and not raised, before it begins."""
    word = stage.word
    resources = describe_resources(config, f"{word}Resources", stage)
    resources.add_catch(caught(unchanged))
    alarms = "$.Resources.Alarms"
    look = aws_sdk(
        f"{word}Alarms",
        "cloudwatch:describeAlarms",
        {"AlarmNames": Expression(alarms)},
        credentials=credentials(config, stage),
        result_selector={
            "Found.$": "States.ArrayLength($.MetricAlarms)",
            "Raised.$": "$.MetricAlarms[?(@.StateValue == 'ALARM')].AlarmName",
        },
        result_path="$.Alarms",
    )
    look.add_catch(caught(unchanged))
    raised = fails(
        f"{word}AlarmsRaised",
        error=f"{word}AlarmsRaised",
        cause=f"The alarms {{}} are raised, and would roll back any update. {stage.untouched}",
        paths=("States.JsonToString($.Alarms.Raised)",),
    )
    missing = fails(
        f"{word}AlarmsMissing",
        error=f"{word}AlarmsMissing",
        cause=f"Of the alarms {{}} only {{}} are there: an update would not be watched. {stage.untouched}",
        paths=(f"States.JsonToString({alarms})", "$.Alarms.Found"),
    )
    count = Pass(
        f"Count{word}Alarms",
        parameters={
            "Expected": Expression(f"States.ArrayLength({alarms})"),
            "Found": Expression("$.Alarms.Found"),
            "Raised": Expression("$.Alarms.Raised"),
        },
        result_path="$.Alarms",
    )
    all_there = ChoiceRule.NumericEqualsPath("$.Alarms.Found", "$.Alarms.Expected")
    ready = chosen(
        f"Are{word}AlarmsReady",
        [(ChoiceRule.IsPresent("$.Alarms.Raised[0]", True), raised), (all_there, then)],
        default=missing,
    )
    has_alarms = ChoiceRule.IsPresent(f"{alarms}[0]", True)
    watched = chosen(f"Is{word}Watched", [(has_alarms, Chain([look, count, ready]))], default=then)
    return Chain([resources, watched])


def verify(config: Config, stage: Stage, *, then: Step, unknown: State, unproven: Step | None = None) -> Step:
    """An endpoint that was rolled back is InService too: is it what the stack asks for that it serves?

    Where that cannot be read it goes to `unknown`.
    """
    word = stage.word
    resources = describe_resources(config, f"{word}Deployment", stage)
    serving = aws_sdk(
        f"{word}Serving",
        "sagemaker:describeEndpoint",
        {"EndpointName": concatenated(f"{{}}-{stage.name}", "$.Project")},
        credentials=credentials(config, stage),
        result_selector={"Status.$": "$.EndpointStatus", "Config.$": "$.EndpointConfigName"},
        result_path="$.Serving",
    )
    asked = Pass(
        f"{word}Asked",
        parameters={
            "Status": Expression("$.Serving.Status"),
            "Config": Expression("$.Serving.Config"),
            # Of the ARN, which is the resource's id.
            "Asked": Expression("States.ArrayGetItem(States.StringSplit($.Resources.Configs[0], '/'), 1)"),
        },
        result_path="$.Serving",
    )
    for state in (resources, serving):
        state.add_catch(caught(unknown))
    other = ends(
        f"{word}NotServing",
        error=f"{word}NotServing",
        cause=f"The {stage.name} endpoint is {{}} and serves {{}}, where its stack asks for {{}}: SageMaker "
        "rolled the update back.",
        paths=("$.Serving.Status", "$.Serving.Config", "$.Serving.Asked"),
        stage=stage,
        unproven=unproven,
    )
    is_served = ChoiceRule.And(
        [
            ChoiceRule.StringEquals("$.Serving.Status", "InService"),
            ChoiceRule.StringEqualsPath("$.Serving.Config", "$.Serving.Asked"),
        ]
    )
    return Chain([resources, serving, asked, chosen(f"Is{word}Served", [(is_served, then)], default=other)])


def ends(
    name: str, *, error: str, cause: str, paths: tuple[str, ...], stage: Stage, unproven: Step | None
) -> State:
    """The release fails: at once, or once production is brought back, where `unproven` does that."""
    if unproven is None:
        return failed(name, error=error, cause=f"{cause} {stage.untouched}", paths=paths)
    keep = Pass(
        name, parameters={"Error": error, "Cause": concatenated(cause, *paths)}, result_path=stage.kept_at
    )
    keep.next(unproven)
    return keep


def describe_resources(config: Config, name: str, stage: Stage) -> Task:
    return aws_sdk(
        name,
        "cloudformation:describeStackResources",
        {"StackName": stack_name(config, stage)},
        credentials=credentials(config, stage),
        result_selector={
            "Alarms.$": RESOURCES % "AWS::CloudWatch::Alarm",
            "Configs.$": RESOURCES % "AWS::SageMaker::EndpointConfig",
        },
        result_path="$.Resources",
    )


def watch_stack(config: Config, stage: Stage, *, unknown: Fail, then: Step) -> Wait:
    """Ask every few seconds what has become of the stack."""
    word = stage.word
    wait = Wait(f"{word}Deploying", seconds_path="$.PollSeconds")
    stack_id = Expression(f"$.{word}.ChangeSet.StackId")  # a new stack that failed is gone by its name
    look = aws_sdk(
        f"Watch{word}",
        "cloudformation:describeStacks",
        {"StackName": stack_id},
        credentials=credentials(config, stage),
        result_selector={"Status.$": "$.Stacks[0].StackStatus"},
        result_path="$.Stack",
    )
    look.add_catch(caught(unknown))
    wait.next(look)
    look.next(
        chosen(
            f"{word}Deployed",
            [(is_any("$.Stack.Status", DEPLOYED), then), (is_any("$.Stack.Status", UNDER_WAY), wait)],
            default=explain(config, stage, unknown=unknown),
        )
    )
    return wait


def explain(config: Config, stage: Stage, *, unknown: Fail) -> Task:
    """Why the stack was not deployed, in CloudFormation's words, and what production is now."""
    word = stage.word
    events = call_aws(
        f"Explain{word}",
        "aws-sdk:cloudformation:describeStackEvents",
        {"StackName": f"{{% $states.input.{word}.ChangeSet.StackId %}}"},
        output=merged("Reasons", REASONS % word),
    )
    with_fields(events, credentials=credentials(config, stage))
    events.add_catch(caught_in(unknown))
    if stage == STAGING:
        events.next(not_deployed(stage, "Stack", stage.untouched))
        return events
    rolled_back = not_deployed(stage, "RolledBack", "CloudFormation put back what production served before.")
    removed = not_deployed(
        stage, "RolledBackToNothing", "There was no production endpoint, and there is none."
    )
    broken = not_deployed(stage, "RollbackIncomplete", "Production may be broken: look at its stack.")
    events.next(
        chosen(
            f"{word}State",
            [
                (ChoiceRule.StringEquals("$.Stack.Status", "UPDATE_ROLLBACK_COMPLETE"), rolled_back),
                (ChoiceRule.StringEquals("$.Stack.Status", "DELETE_COMPLETE"), removed),
            ],
            default=broken,
        )
    )
    return events


def not_deployed(stage: Stage, name: str, consequence: str) -> Fail:
    return failed(
        f"{stage.word}{name}Failed" if name == "Stack" else f"{stage.word}{name}",
        error=f"{stage.word}DeploymentFailed",
        cause=f"The {stage.name} stack ended as {{}}: {{}} {consequence}",
        paths=("$.Stack.Status", "$.Reasons"),
    )


def unwatched(stage: Stage) -> Fail:
    consequence = stage.untouched if stage == STAGING else "Look at the stack to see what production is."
    return failed(
        f"{stage.word}Unwatched",
        error=f"{stage.word}DeploymentUnknown",
        cause=f"It is not known what has become of the {stage.name} stack: {{}}: {{}} {consequence}",
        paths=("$.Failure.Error", "$.Failure.Cause"),
    )


def describe_stack(config: Config, name: str, stage: Stage, *, may_be_absent: bool, **fields: Any) -> Task:
    """That there is none comes as a refusal."""
    stack = {"StackName": stack_name(config, stage)}
    return aws_sdk(
        name,
        "cloudformation:describeStacks",
        stack,
        may_refuse=may_be_absent,
        credentials=credentials(config, stage),
        **fields,
    )


def stack_name(config: Config, stage: Stage) -> str:
    return f"{config.project}-{stage.name}"
