"""Production is brought back to what it served before this release, and tested; then the release fails.

What a first release has deployed is taken away instead. So the state of production is always one that was
tested.
"""

from stepfunctions.steps import ChoiceRule, Fail, Pass, Wait
from stepfunctions.steps.states import State

from workflows.config import Config
from workflows.endpoint_tests import test
from workflows.language import (
    Expression,
    aws_sdk,
    caught,
    chosen,
    concatenated,
    is_any,
    is_throttled,
    jsonata,
    merged,
    with_fields,
)
from workflows.stages import (
    DEPLOYED,
    PRODUCTION,
    RESTORED,
    THIS_ATTEMPT,
    UNDER_WAY,
    Stage,
    Step,
    account_of,
    credentials,
    describe_stack,
    stack_name,
    verify,
)

LAST_PACKAGE = "$.Production.Packages[0]"
LAST_CODE = "$.Production.Codes[0]"
AT_ONCE = """[$map($states.input.Production.Parameters, function($parameter) {
  $parameter.ParameterKey in ['CanaryPercent', 'BakingSeconds'] ?
    $merge([$parameter, {'ParameterValue': '0'}]) : $parameter
})]"""
"""The parameters that production had, in JSONata, without a canary: while it waits it serves what failed."""


def restore(config: Config) -> State:
    """What follows when production was changed and is not proven; `$.Unproven` says why."""
    has_last = ChoiceRule.IsPresent(LAST_PACKAGE, True)
    is_same = ChoiceRule.StringEqualsPath(LAST_PACKAGE, "$.Package.ModelPackageArn")
    as_before = ends_as_unproven(
        "ProductionAsBefore", "Production serves {}, which it served before this release.", LAST_PACKAGE
    )
    lost = ends_as_unproven(
        "ProductionNotRestored",
        "It could not be brought back: {}: {} Production may be broken: look at its stack.",
        *("$.Failure.Error", "$.Failure.Cause"),
    )
    return chosen(
        "WhatWasProduction",
        [
            (ChoiceRule.And([has_last, is_same]), as_before),
            (has_last, bring_back(config, lost=lost)),
        ],
        default=take_away(config, lost=lost),
    )


def bring_back(config: Config, *, lost: Fail) -> State:
    """Update the stack to the template, the package and the parameters that it had, and run its tests."""
    update = aws_sdk(
        "RestoreProduction",
        "cloudformation:updateStack",
        {
            "StackName": stack_name(config, PRODUCTION),
            "TemplateURL": Expression("$.LastTemplate.Url"),
            "Parameters": Expression("$.LastParameters"),
            "RoleARN": account_of(config, PRODUCTION).stack_role,
            # The same when it is asked again, since an update that is under way refuses another.
            "ClientRequestToken": concatenated("restore-{}-{}", *THIS_ATTEMPT),
        },
        credentials=credentials(config, PRODUCTION),
        result_path="$.Change",
    )
    update.add_catch(caught(lost))
    wait, look = watch(config, "Restoring", PRODUCTION, then=prove(config, lost=lost), lost=lost)
    look.add_catch(caught(lost))
    update.next(wait)
    template = Pass(
        "LastTemplate",
        parameters={"Url": concatenated("{}/code/{}/deploy/endpoint.yaml", "$.AssetsUrl", "$.Code")},
        result_path="$.LastTemplate",
    )
    at_once = jsonata(Pass("LastParameters"), output=merged("LastParameters", AT_ONCE))
    at_once.next(update)
    template.next(at_once)
    code = Pass("LastCode", input_path=LAST_CODE, result_path="$.Code")
    code.next(template)
    # A stack that names no code is from before its template had that parameter: this release's has to do.
    return chosen("HasLastCode", [(ChoiceRule.IsPresent(LAST_CODE, True), code)], default=template)


def prove(config: Config, *, lost: Fail) -> Step:
    """The endpoint serves what it served before, and passes the tests that came with that."""
    proven = ends_as_unproven(
        "ProductionRestored", "Production serves {} again, which passed its tests.", LAST_PACKAGE
    )
    not_proven = ends_as_unproven(
        "RestoredNotProven",
        "Production was brought back to {}, which is not proven: {} Look at its stack.",
        *(LAST_PACKAGE, "$.NotProven.Cause"),
    )
    describe = aws_sdk(
        "DescribeLastPackage",
        "sagemaker:describeModelPackage",
        {"ModelPackageName": Expression(LAST_PACKAGE)},
        result_selector={
            "ModelPackageArn.$": "$.ModelPackageArn",
            "Properties.$": "$.CustomerMetadataProperties",
        },
        result_path="$.Package",
    )
    untested = Pass(
        "RestoredUntested",
        parameters={
            "Cause": concatenated("its tests could not run: {}: {}", "$.Failure.Error", "$.Failure.Cause")
        },
        result_path="$.NotProven",
    )
    untested.next(not_proven)
    describe.add_catch(caught(untested))
    describe.next(test(config, RESTORED, then=proven, unproven=not_proven))
    return verify(config, RESTORED, then=describe, unknown=lost, unproven=not_proven)


def take_away(config: Config, *, lost: Fail) -> State:
    """Delete the stack of a first release."""
    gone = ends_as_unproven(
        "ProductionRemoved", "There was no production endpoint before this release, and there is none."
    )
    return remove_stack(config, PRODUCTION, name="Production", gone=gone, remains=lost)


def remove_stack(config: Config, stage: Stage, *, name: str, gone: State, remains: Fail) -> State:
    """Delete the stage's stack, and wait until it is gone."""
    delete = aws_sdk(
        f"Remove{name}",
        "cloudformation:deleteStack",
        {"StackName": stack_name(config, stage), "RoleARN": account_of(config, stage).stack_role},
        credentials=credentials(config, stage),
        result_path="$.Deleted",
    )
    delete.add_catch(caught(remains))
    wait, look = watch(config, "Removing", stage, then=None, lost=remains)
    absent = ChoiceRule.StringMatches("$.Failure.Cause", "*does not exist*")
    asked_again = (is_throttled("$.Failure.Cause"), wait)
    look.add_catch(caught(chosen(f"Is{name}Removed", [(absent, gone), asked_again], default=remains)))
    delete.next(wait)
    return delete


def watch(config: Config, name: str, stage: Stage, *, then: Step | None, lost: Fail) -> tuple[Wait, State]:
    """Ask every few seconds what has become of the stack: the wait, and the asking, whose failure is to be
    caught."""
    wait = Wait(f"{name}{stage.word}", seconds_path="$.PollSeconds")
    look = describe_stack(
        config,
        f"Watch{name}{stage.word}",
        stage,
        may_be_absent=then is None,
        result_selector={"Status.$": "$.Stacks[0].StackStatus"},
        result_path="$.Stack",
    )
    wait.next(look)
    ended = Pass(
        f"{name}{stage.word}Ended",
        parameters={
            "Error": "CloudFormation",
            "Cause": concatenated(f"The {stage.name} stack ended as {{}}.", "$.Stack.Status"),
        },
        result_path="$.Failure",
    )
    ended.next(lost)
    under_way = (is_any("$.Stack.Status", UNDER_WAY), wait)
    done = [(is_any("$.Stack.Status", DEPLOYED), then)] if then is not None else []
    look.next(chosen(f"Is{name}{stage.word}Done", [*done, under_way], default=ended))
    return wait, look


def ends_as_unproven(name: str, consequence: str, *paths: str) -> Fail:
    """The end of the release, with what had gone wrong first, and what production is now."""
    cause = concatenated(f"{{}} {consequence}", "$.Unproven.Cause", *paths)
    return with_fields(Fail(name), error_path="$.Unproven.Error", cause_path=cause.text)
