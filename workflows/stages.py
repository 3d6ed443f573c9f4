"""A stage of model-deploy: its stack is deployed and watched, then the endpoint tests run against it.

`then` is the state to go on with: `deploy(config, STAGING, then=test(config, STAGING, then=…))`. What goes
wrong once production has changed goes to `unproven`: production is brought back (workflows/restore.py).
"""

from dataclasses import dataclass
from typing import TypeAlias

from stepfunctions.steps import Chain, ChoiceRule, Fail, Pass, Task, Wait
from stepfunctions.steps.states import State

from workflows.config import Config
from workflows.language import Expression, aws_sdk, caught, chosen, concatenated, failed, is_any, with_fields

Step: TypeAlias = State | Chain

DEPLOYED = ("CREATE_COMPLETE", "UPDATE_COMPLETE")
UNDER_WAY = ("*_IN_PROGRESS",)
NEVER_WHOLE = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED", "REVIEW_IN_PROGRESS")
"""A stack in such a state can only be deleted and made anew."""
RESOURCES = "$.StackResources[?(@.ResourceType == '%s')].PhysicalResourceId"
REASONS = "$.StackEvents[?(@.ResourceStatus == '%s')].ResourceStatusReason"


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


def deploy(config: Config, stage: Stage, *, then: Step, unproven: Step | None = None) -> Step:
    """Create the stack of deploy/endpoint.yaml or update it; nothing to update is a success too.

    Then the endpoint has to serve what the stack asks for.
    """
    word = stage.word
    unknown = unwatched(stage)
    then = verify(config, stage, then=then, unknown=unknown, unproven=unproven)
    unchanged = failed(
        f"{word}NotDeployed",
        error=f"{word}DeploymentFailed",
        cause=f"The {stage.name} stack could not be deployed: {{}}: {{}} {stage.untouched}",
        paths=("$.Failure.Error", "$.Failure.Cause"),
    )
    watch = watch_stack(config, stage, unknown=unknown, then=then)
    create = change_stack(config, stage, "Create")
    create.add_catch(caught(unchanged))
    create.next(watch)
    update = change_stack(config, stage, "Update")
    same = ChoiceRule.StringMatches("$.Failure.Cause", "*No updates are to be performed*")
    update.add_catch(caught(chosen(f"{word}UpdateRefused", [(same, then)], default=unchanged)))
    update.next(watch)
    parameters = read_parameters(config, stage)
    parameters.add_catch(caught(unchanged))
    if stage == PRODUCTION:
        update_or_stop: Step = check_alarms(config, stage, then=update, unchanged=unchanged)
    else:
        update_or_stop = update
    parameters.next(find_stack(config, stage, create=create, update=update_or_stop, unchanged=unchanged))
    return parameters


def read_parameters(config: Config, stage: Stage) -> Task:
    """The stage's own parameters, from the bundle that the model was built with."""
    return aws_sdk(
        f"{stage.word}Parameters",
        "s3:getObject",
        {
            "Bucket": config.assets_bucket,
            "Key": concatenated(f"code/{{}}/deploy/{stage.name}.json", "$.Code"),
        },
        result_selector={"List.$": "States.StringToJson($.Body)"},
        result_path="$.Parameters.Stage",
    )


def find_stack(config: Config, stage: Stage, *, create: State, update: Step, unchanged: Fail) -> Task:
    """Is there a stack that can be updated? What it is made of now is kept, to bring it back."""
    word = stage.word
    find = describe_stack(
        config,
        f"Find{word}",
        stage,
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
    find.add_catch(caught(chosen(f"{word}Absent", [(absent, nothing)], default=unchanged)))
    wait = Wait(f"{word}Busy", seconds_path="$.PollSeconds")
    wait.next(find)
    delete = aws_sdk(
        f"Delete{word}Remains",
        "cloudformation:deleteStack",
        {"StackName": stack_name(config, stage), "RoleARN": config.stack_role},
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


def change_stack(config: Config, stage: Stage, verb: str) -> Task:
    """CreateStack or UpdateStack with the one template, the stage's parameters and the machine's own."""
    return aws_sdk(
        f"{verb}{stage.word}",
        f"cloudformation:{verb.lower()}Stack",
        {
            "StackName": stack_name(config, stage),
            "TemplateURL": Expression("$.TemplateUrl"),
            "Parameters": Expression("$.Parameters[*].List[*]"),
            "RoleARN": config.stack_role,
        },
        result_path="$.Change",
    )


def check_alarms(config: Config, stage: Stage, *, then: State, unchanged: Fail) -> Step:
    """An update is watched by alarms: each of them has to be there, and not raised, before it begins."""
    word = stage.word
    resources = describe_resources(config, f"{word}Resources", stage)
    resources.add_catch(caught(unchanged))
    alarms = "$.Resources.Alarms"
    look = aws_sdk(
        f"{word}Alarms",
        "cloudwatch:describeAlarms",
        {"AlarmNames": Expression(alarms)},
        result_selector={
            "Found.$": "States.ArrayLength($.MetricAlarms)",
            "Raised.$": "$.MetricAlarms[?(@.StateValue == 'ALARM')].AlarmName",
        },
        result_path="$.Alarms",
    )
    look.add_catch(caught(unchanged))
    raised = failed(
        f"{word}AlarmsRaised",
        error=f"{word}AlarmsRaised",
        cause=f"The alarms {{}} are raised, and would roll back any update. {stage.untouched}",
        paths=("States.JsonToString($.Alarms.Raised)",),
    )
    missing = failed(
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
    look = describe_stack(
        config,
        f"Watch{word}",
        stage,
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
    events = aws_sdk(
        f"Explain{word}",
        "cloudformation:describeStackEvents",
        {"StackName": stack_name(config, stage)},
        result_selector={
            "NotCreated.$": REASONS % "CREATE_FAILED",
            "NotUpdated.$": REASONS % "UPDATE_FAILED",
        },
        result_path="$.Events",
    )
    events.add_catch(caught(unknown))
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
                (ChoiceRule.StringEquals("$.Stack.Status", "ROLLBACK_COMPLETE"), removed),
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
        paths=("$.Stack.Status", "States.JsonToString($.Events)"),
    )


def unwatched(stage: Stage) -> Fail:
    consequence = stage.untouched if stage == STAGING else "Look at the stack to see what production is."
    return failed(
        f"{stage.word}Unwatched",
        error=f"{stage.word}DeploymentUnknown",
        cause=f"It is not known what has become of the {stage.name} stack: {{}}: {{}} {consequence}",
        paths=("$.Failure.Error", "$.Failure.Cause"),
    )


def test(config: Config, stage: Stage, *, then: Step, unproven: Step | None = None) -> Step:
    """Run deploy/endpoint_tests against the stage's endpoint; their summary comes to `$.Tests.<word>`."""
    word = stage.word
    environment = {
        "STAGE": stage.name,
        "ENDPOINT_NAME": concatenated(f"{{}}-{stage.name}", "$.Project"),
        "MODEL_PACKAGE_ARN": Expression("$.Package.ModelPackageArn"),
        "TEST_DATA_URI": concatenated("{}/test", "$.Package.Properties.PreprocessedUri"),
        "REGISTERED_ACCURACY": Expression("$.Package.Properties.Accuracy"),
    }
    build = Task(
        f"Test{word}",
        resource="arn:aws:states:::codebuild:startBuild.sync",
        parameters={
            "ProjectName": config.endpoint_test_project,
            "SourceTypeOverride": "S3",
            "SourceLocationOverride": concatenated("{}/code/{}/deploy.zip", "$.AssetsBucket", "$.Code"),
            "ArtifactsOverride": {
                "Type": "S3",
                "Location": config.data_bucket,
                "Path": Expression("$.TestFolder"),
                "Name": stage.folder,
                "NamespaceType": "NONE",
                "Packaging": "NONE",
            },
            "EnvironmentVariablesOverride": [
                {"Name": name, "Value": value, "Type": "PLAINTEXT"} for name, value in environment.items()
            ],
        },
        result_path=f"$.Builds.{word}",
    )
    with_fields(build, result_selector={"Id.$": "$.Build.Id"})
    broken = ends(
        f"{word}TestsBroken",
        error=f"{word}TestsBroken",
        cause=f"The endpoint tests of {stage.name} left no report: {{}}: {{}}",
        paths=("$.Failure.Error", "$.Failure.Cause"),
        stage=stage,
        unproven=unproven,
    )
    failures = read_report(config, stage, f"Read{word}Failures")
    failures.add_catch(caught(broken, path="$.ReportFailure"))
    failures.next(
        ends(
            f"{word}TestsFailed",
            error=f"{word}TestsFailed",
            cause=f"The endpoint tests of {stage.name} failed: {{}}",
            paths=(f"$.Tests.{word}.Report.text",),
            stage=stage,
            unproven=unproven,
        )
    )
    report = read_report(config, stage, f"Read{word}Report")
    report.add_catch(caught(broken))
    report.next(then)
    build.add_catch(caught(failures))
    build.next(report)
    return build


def read_report(config: Config, stage: Stage, name: str) -> Task:
    """The summary that the endpoint tests leave, whether they passed or not."""
    return aws_sdk(
        name,
        "s3:getObject",
        {
            "Bucket": config.data_bucket,
            "Key": concatenated(f"{{}}/{stage.folder}/summary.json", "$.TestFolder"),
        },
        result_selector={"Report.$": "States.StringToJson($.Body)"},
        result_path=f"$.Tests.{stage.word}",
    )


def describe_stack(config: Config, name: str, stage: Stage, **fields: object) -> Task:
    return aws_sdk(name, "cloudformation:describeStacks", {"StackName": stack_name(config, stage)}, **fields)


def stack_name(config: Config, stage: Stage) -> str:
    return f"{config.project}-{stage.name}"
