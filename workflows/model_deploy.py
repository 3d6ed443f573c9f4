"""model-deploy: the approved package goes to staging, is tested, and after a person's yes to production."""

from stepfunctions.steps import Chain, ChoiceRule, Graph, Pass, Succeed
from stepfunctions.steps.states import State

from workflows.approval import ask, check, is_approved, is_expired, rule_defaults
from workflows.change_sets import discarding, plan
from workflows.config import Account, Config
from workflows.endpoint_tests import test
from workflows.language import (
    Expression,
    Failing,
    aws_sdk,
    caught,
    chosen,
    concatenated,
    failed,
    in_one_line,
    jsonata,
)
from workflows.locks import claim
from workflows.restore import remove_stack, restore
from workflows.stages import PRODUCTION, STAGING, Step, deploy

EVENT = "($exists($states.input.EventId) ? $states.input.EventId : $states.context.Execution.Name)"
GIVEN = """$merge([
  {
    'CodeUri': $states.input.Package.Properties.CodeUri,
    'StartedBy': $exists($states.input.Package.Properties.StartedBy) ?
      $states.input.Package.Properties.StartedBy : ''
  },
  $states.input
])"""
"""The code that deploys is what built the package, unless a commit that changed deploy/ is released."""


def model_deploy(config: Config) -> Graph:
    """An approved model package becomes what production serves."""
    unproven = restore(config)
    proven = test(config, PRODUCTION, then=remove_staging(config), unproven=unproven)
    unstaged, unreleased = discarding(config, STAGING), discarding(config, PRODUCTION)
    production = deploy(config, PRODUCTION, then=proven, fails=unreleased, unproven=unproven)
    asked = human_approval(config, then=production, fails=unreleased)
    planned = plan(config, PRODUCTION, then=asked, fails=unreleased)
    staging = deploy(config, STAGING, then=test(config, STAGING, then=planned), fails=unstaged)
    staged = plan(config, STAGING, then=staging, fails=unstaged)
    checked = Chain([settings(config), check_model(config, then=staged)])
    release = Chain([describe_package(config), approved_only(then=checked)])
    return Graph(
        claim(config, event=EVENT, then=release),
        comment="Deploy to staging, test, ask a person, deploy to production, test; bring back what fails.",
    )


def describe_package(config: Config) -> State:
    """The very package that the event or the caller names; all else is read from it."""
    step = aws_sdk(
        "DescribePackage",
        "sagemaker:describeModelPackage",
        {"ModelPackageName": Expression("$.ModelPackageArn")},
        result_selector={
            "ModelPackageArn.$": "$.ModelPackageArn",
            "Status.$": "$.ModelApprovalStatus",
            "Properties.$": "$.CustomerMetadataProperties",
        },
        result_path="$.Package",
    )
    step.add_catch(
        caught(
            failed(
                "PackageUnreadable",
                error="PackageUnreadable",
                cause="Model package {} could not be read: {}: {} Nothing was deployed.",
                paths=("$.ModelPackageArn", "$.Failure.Error", "$.Failure.Cause"),
            )
        )
    )
    return step


def approved_only(*, then: Step) -> State:
    return chosen(
        "ApprovedOnly",
        [(ChoiceRule.StringEquals("$.Package.Status", "Approved"), then)],
        default=failed(
            "PackageNotApproved",
            error="PackageNotApproved",
            cause="Model package {} is {}, and only an approved one is deployed. Nothing was deployed.",
            paths=("$.Package.ModelPackageArn", "$.Package.Status"),
        ),
    )


def check_model(config: Config, *, then: Step) -> State:
    """What was approved for registration is what is there now.

    A package that was approved elsewhere, as in SageMaker Studio, has no approval of ours to compare with.
    """
    approval = "$.Package.Properties.ModelApprovalId"
    compare = check(
        config,
        "CheckModel",
        parameters={
            "ApprovalId": Expression(approval),
            "ModelPackageArn": Expression("$.Package.ModelPackageArn"),
            "TemplateUri": concatenated("{}/deploy/endpoint.yaml", "$.Package.Properties.CodeUri"),
        },
        then=then,
        differs="Nothing was deployed.",
    )
    return chosen("IsApprovedByUs", [(ChoiceRule.IsPresent(approval, True), compare)], default=then)


def settings(config: Config) -> Chain:
    """The execution's input over the defaults, and where things are."""
    given = jsonata(Pass("Given"), output=in_one_line(GIVEN))
    parts = "States.StringSplit($.CodeUri, '/')"
    located = Pass(
        "Locate",
        parameters={
            "Package": Expression("$.Package"),
            "StartedBy": Expression("$.StartedBy"),
            "RuleDefaults": rule_defaults(config),
            "Project": config.project,
            "DataBucket": config.data_bucket,
            "AssetsBucket": config.assets_bucket,
            "AssetsUrl": config.assets_url,
            "PollSeconds": Expression(f"States.StringToJson('{config.poll_seconds}')"),
            "Code": Expression(
                f"States.ArrayGetItem({parts}, States.MathAdd(States.ArrayLength({parts}), -1))"
            ),
            "TestFolder": concatenated("runs/{}/tests/{}", "$.Package.Properties.RunId", "$$.Execution.Name"),
        },
    )
    parameters: dict[str, object] = {
        "Project": config.project,
        "ModelPackageName": Expression("$.Package.ModelPackageArn"),
        "DataBucket": config.data_bucket,
        "Code": Expression("$.Code"),
        "KmsKeyArn": config.kms_key,
    }
    kept = (
        *("Package", "Project", "DataBucket", "AssetsBucket", "AssetsUrl", "PollSeconds"),
        *("Code", "TestFolder", "RuleDefaults", "StartedBy"),
    )
    set_up = Pass(
        "Settings",
        parameters={
            **{name: Expression(f"$.{name}") for name in kept},
            "Run": Expression("$$.Execution.Input"),
            "TemplateUrl": concatenated("{}/code/{}/deploy/endpoint.yaml", "$.AssetsUrl", "$.Code"),
            "TemplateUri": concatenated("s3://{}/code/{}/deploy/endpoint.yaml", "$.AssetsBucket", "$.Code"),
            "Parameters": {"Given": listed(parameters)},
            "Accounts": {
                STAGING.word: account_parameters(config.staging),
                PRODUCTION.word: account_parameters(config.production),
            },
            "Builds": {},
            "Tests": {},
        },
    )
    return Chain([given, located, set_up])


def account_parameters(account: Account) -> dict[str, list[dict[str, object]]]:
    """What a stage's template takes from the stage's account."""
    return listed(
        {
            "ExecutionRoleArn": account.endpoint_role,
            "VpcSubnetIds": account.vpc_subnets,
            "VpcSecurityGroupIds": account.vpc_security_groups,
        }
    )


def listed(parameters: dict[str, object]) -> dict[str, list[dict[str, object]]]:
    return {"List": [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]}


def human_approval(config: Config, *, then: Step, fails: Failing) -> Chain:
    """Ask a person whether what was tested in staging may go to production; write down what they said."""
    files = {
        "ModelPackageArn": Expression("$.Package.ModelPackageArn"),
        "TemplateUri": Expression("$.TemplateUri"),
        "ParametersUri": concatenated("s3://{}/code/{}/deploy/production.json", "$.AssetsBucket", "$.Code"),
        "TestReportUri": concatenated("s3://{}/{}/staging/summary.json", "$.DataBucket", "$.TestFolder"),
    }
    unanswered = fails(
        "ProductionApprovalTimedOut",
        error="ApprovalTimedOut",
        cause="Nobody decided within {} seconds. Production was not touched; staging serves {}.",
        paths=("$.Asking.Rules.TimeoutSeconds", "$.Package.ModelPackageArn"),
    )
    rejected = fails(
        "ProductionRejected",
        error="ProductionRejected",
        cause="{} rejected the release to production ({}). Production was not touched; staging serves {}.",
        paths=("$.Approval.decided_by", "$.Approval.comment", "$.Package.ModelPackageArn"),
    )
    same = check(
        config,
        "CheckRelease",
        parameters={"ApprovalId": Expression("$.Approval.approval_id"), **files},
        then=then,
        differs="Production was not touched.",
        fails=fails,
    )
    decision = chosen("Decision", [(is_approved(), same), (is_expired(), unanswered)], default=rejected)
    return ask(
        config,
        "RequestProductionApproval",
        kind="production",
        details={
            **files,
            "StartedBy": Expression("$.StartedBy"),
            "Changes": Expression("$.Production.ChangeSet.Text"),
        },
        decided=Chain([record_decision(fails), decision]),
        unasked="Production was not touched.",
        fails=fails,
    )


def remove_staging(config: Config) -> State:
    """The end of a release; where the input says `"RemoveStaging": true`, without the staging stack."""
    released = Succeed("Released")
    remains = failed(
        "StagingNotRemoved",
        error="StagingNotRemoved",
        cause="Production serves {}, which passed its tests; the staging stack could not be removed: {}: {}",
        paths=("$.Package.ModelPackageArn", "$.Failure.Error", "$.Failure.Cause"),
    )
    delete = remove_stack(config, STAGING, name="Staging", gone=released, remains=remains)
    is_asked = ChoiceRule.And(
        [
            ChoiceRule.IsPresent("$.Run.RemoveStaging", True),
            ChoiceRule.BooleanEquals("$.Run.RemoveStaging", True),
        ]
    )
    return chosen("IsStagingKept", [(is_asked, delete)], default=released)


def record_decision(fails: Failing) -> State:
    """Who decided about production, in the model package; its approval status stays."""
    step = aws_sdk(
        "RecordDecision",
        "sagemaker:updateModelPackage",
        {
            "ModelPackageArn": Expression("$.Package.ModelPackageArn"),
            "CustomerMetadataProperties": Expression("$.Approval.properties"),
        },
        result_path="$.Decided",
    )
    step.add_catch(
        caught(
            fails(
                "DecisionNotRecorded",
                error="DecisionNotRecorded",
                cause="The decision could not be written into model package {}: {}: {} "
                "Production was not touched.",
                paths=("$.Package.ModelPackageArn", "$.Failure.Error", "$.Failure.Cause"),
            )
        )
    )
    return step
