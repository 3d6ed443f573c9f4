"""model-deploy: the approved package goes to staging, is tested, and after a person's yes to production."""

from stepfunctions.steps import Chain, ChoiceRule, Graph, Pass, Succeed
from stepfunctions.steps.states import State

from workflows.approval import ask, check, is_approved, is_expired, rule_defaults
from workflows.config import Config
from workflows.language import Expression, aws_sdk, caught, chosen, concatenated, failed
from workflows.restore import restore
from workflows.stages import PRODUCTION, STAGING, Step, deploy, test


def model_deploy(config: Config) -> Graph:
    """An approved model package becomes what production serves."""
    unproven = restore(config)
    proven = test(config, PRODUCTION, then=Succeed("Released"), unproven=unproven)
    production = deploy(config, PRODUCTION, then=proven, unproven=unproven)
    staging = deploy(
        config, STAGING, then=test(config, STAGING, then=human_approval(config, then=production))
    )
    checked = Chain([settings(config), check_model(config, then=staging)])
    release = Chain([describe_package(config), approved_only(then=checked)])
    return Graph(
        release,
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
            "TemplateUri": Expression("$.TemplateUri"),
        },
        then=then,
        differs="Nothing was deployed.",
    )
    return chosen("IsApprovedByUs", [(ChoiceRule.IsPresent(approval, True), compare)], default=then)


def settings(config: Config) -> Chain:
    """The execution's input over the defaults, and where things are: the code is what built the package."""
    parts = "States.StringSplit($.Package.Properties.CodeUri, '/')"
    located = Pass(
        "Locate",
        parameters={
            "Package": Expression("$.Package"),
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
    given = {
        "Project": config.project,
        "ModelPackageName": Expression("$.Package.ModelPackageArn"),
        "ExecutionRoleArn": config.endpoint_role,
        "DataBucket": config.data_bucket,
        "Code": Expression("$.Code"),
    }
    kept = (
        *("Package", "Project", "DataBucket", "AssetsBucket", "AssetsUrl", "PollSeconds"),
        *("Code", "TestFolder", "RuleDefaults"),
    )
    set_up = Pass(
        "Settings",
        parameters={
            **{name: Expression(f"$.{name}") for name in kept},
            "Run": Expression("$$.Execution.Input"),
            "TemplateUrl": concatenated("{}/code/{}/deploy/endpoint.yaml", "$.AssetsUrl", "$.Code"),
            "TemplateUri": concatenated("s3://{}/code/{}/deploy/endpoint.yaml", "$.AssetsBucket", "$.Code"),
            "Parameters": {
                "Given": {
                    "List": [{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()]
                }
            },
            "Staging": {"Packages": []},
            "Production": {"Packages": []},
            "Builds": {},
            "Tests": {},
        },
    )
    return Chain([located, set_up])


def human_approval(config: Config, *, then: Step) -> Chain:
    """Ask a person whether what was tested in staging may go to production; write down what they said."""
    files = {
        "ModelPackageArn": Expression("$.Package.ModelPackageArn"),
        "TemplateUri": Expression("$.TemplateUri"),
        "ParametersUri": concatenated("s3://{}/code/{}/deploy/production.json", "$.AssetsBucket", "$.Code"),
        "TestReportUri": concatenated("s3://{}/{}/staging/summary.json", "$.DataBucket", "$.TestFolder"),
    }
    unanswered = failed(
        "ProductionApprovalTimedOut",
        error="ApprovalTimedOut",
        cause="Nobody decided within {} seconds. Production was not touched; staging serves {}.",
        paths=("$.Asking.Rules.TimeoutSeconds", "$.Package.ModelPackageArn"),
    )
    rejected = failed(
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
    )
    decision = chosen("Decision", [(is_approved(), same), (is_expired(), unanswered)], default=rejected)
    return ask(
        config,
        "RequestProductionApproval",
        kind="production",
        details=files,
        decided=Chain([record_decision(), decision]),
        unasked="Production was not touched.",
    )


def record_decision() -> State:
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
            failed(
                "DecisionNotRecorded",
                error="DecisionNotRecorded",
                cause="The decision could not be written into model package {}: {}: {} "
                "Production was not touched.",
                paths=("$.Package.ModelPackageArn", "$.Failure.Error", "$.Failure.Cause"),
            )
        )
    )
    return step
