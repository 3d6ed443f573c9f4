"""A stage of model-deploy: its stack is deployed and watched, then the endpoint tests run against it.

`then` is the state to go on with: `deploy(config, STAGING, then=test(config, STAGING, then=…))`.
"""

from dataclasses import dataclass
from typing import TypeAlias

from stepfunctions.steps import Chain, ChoiceRule, Fail, Task, Wait
from stepfunctions.steps.states import State

from workflows.config import Config
from workflows.language import Expression, aws_sdk, caught, chosen, concatenated, failed, is_any, with_fields

Step: TypeAlias = State | Chain

DEPLOYED = ("CREATE_COMPLETE", "UPDATE_COMPLETE")
UNDER_WAY = ("*_IN_PROGRESS",)
NEVER_WHOLE = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED", "REVIEW_IN_PROGRESS")
"""A stack in such a state can only be deleted and made anew."""
REASONS = "$.StackEvents[?(@.ResourceStatus == '%s')].ResourceStatusReason"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One endpoint and its stack; both are called `<project>-<name>`."""

    name: str
    untouched: str
    """What production is while this stage's stack has not been changed."""

    @property
    def word(self) -> str:
        return self.name.capitalize()


STAGING = Stage(name="staging", untouched="Production was not touched.")
PRODUCTION = Stage(name="production", untouched="Production was not changed.")


def deploy(config: Config, stage: Stage, *, then: Step) -> Step:
    """Create the stack of deploy/endpoint.yaml or update it; nothing to update is a success too."""
    word = stage.word
    unchanged = failed(
        f"{word}NotDeployed",
        error=f"{word}DeploymentFailed",
        cause=f"The {stage.name} stack could not be deployed: {{}}: {{}} {stage.untouched}",
        paths=("$.Failure.Error", "$.Failure.Cause"),
    )
    watch = watch_stack(config, stage, unchanged=unchanged, then=then)
    create = change_stack(config, stage, "Create")
    create.add_catch(caught(unchanged))
    create.next(watch)
    update = change_stack(config, stage, "Update")
    same = ChoiceRule.StringMatches("$.Failure.Cause", "*No updates are to be performed*")
    update.add_catch(caught(chosen(f"{word}UpdateRefused", [(same, then)], default=unchanged)))
    update.next(watch)
    parameters = read_parameters(config, stage)
    parameters.add_catch(caught(unchanged))
    parameters.next(find_stack(config, stage, create=create, update=update, unchanged=unchanged))
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


def find_stack(config: Config, stage: Stage, *, create: State, update: State, unchanged: Fail) -> Task:
    """Is there a stack that can be updated? What it serves now is kept, for whoever has to repair it."""
    word = stage.word
    find = describe_stack(
        config,
        f"Find{word}",
        stage,
        result_selector={
            "Status.$": "$.Stacks[0].StackStatus",
            "Packages.$": "$.Stacks[0].Parameters[?(@.ParameterKey == 'ModelPackageName')].ParameterValue",
        },
        result_path=f"$.{word}",
    )
    absent = ChoiceRule.StringMatches("$.Failure.Cause", "*does not exist*")
    find.add_catch(caught(chosen(f"{word}Absent", [(absent, create)], default=unchanged)))
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


def watch_stack(config: Config, stage: Stage, *, unchanged: Fail, then: Step) -> Wait:
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
    look.add_catch(caught(unwatched(stage)))
    wait.next(look)
    look.next(
        chosen(
            f"{word}Deployed",
            [(is_any("$.Stack.Status", DEPLOYED), then), (is_any("$.Stack.Status", UNDER_WAY), wait)],
            default=explain(config, stage),
        )
    )
    return wait


def explain(config: Config, stage: Stage) -> Task:
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
    events.add_catch(caught(unwatched(stage)))
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


def test(config: Config, stage: Stage, *, then: Step) -> Step:
    """Run deploy/endpoint_tests against the stage's endpoint; their summary comes to `$.Tests.<stage>`."""
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
                "Name": stage.name,
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
    broken = failed(
        f"{word}TestsBroken",
        error=f"{word}TestsBroken",
        cause=f"The endpoint tests of {stage.name} left no report: {{}}: {{}} {served(stage)}",
        paths=("$.Failure.Error", "$.Failure.Cause", *served_paths(stage)),
    )
    failures = read_report(config, stage, f"Read{word}Failures")
    failures.add_catch(caught(broken, path="$.ReportFailure"))
    failures.next(
        failed(
            f"{word}TestsFailed",
            error=f"{word}TestsFailed",
            cause=f"The endpoint tests of {stage.name} failed: {{}} {served(stage)}",
            paths=(f"$.Tests.{word}.Report.text", *served_paths(stage)),
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
            "Key": concatenated(f"{{}}/{stage.name}/summary.json", "$.TestFolder"),
        },
        result_selector={"Report.$": "States.StringToJson($.Body)"},
        result_path=f"$.Tests.{stage.word}",
    )


def served(stage: Stage) -> str:
    """What production is when the tests of this stage have failed."""
    if stage == STAGING:
        return stage.untouched
    return "Production serves {}, which is not proven; before, it served {}."


def served_paths(stage: Stage) -> tuple[str, ...]:
    if stage == STAGING:
        return ()
    return ("$.Package.ModelPackageArn", "States.JsonToString($.Production.Packages)")


def describe_stack(config: Config, name: str, stage: Stage, **fields: object) -> Task:
    return aws_sdk(name, "cloudformation:describeStacks", {"StackName": stack_name(config, stage)}, **fields)


def stack_name(config: Config, stage: Stage) -> str:
    return f"{config.project}-{stage.name}"
