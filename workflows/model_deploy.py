"""model-deploy: the approved package goes to staging, is tested, and after a person's yes to production."""

from stepfunctions.steps import Chain, ChoiceRule, Graph, Pass, Succeed
from stepfunctions.steps.states import State

from workflows.approval import ask, is_approved
from workflows.config import APPROVAL_TIMEOUT_SECONDS, Config
from workflows.language import Expression, aws_sdk, caught, chosen, concatenated, failed
from workflows.stages import PRODUCTION, STAGING, Step, deploy, test


def model_deploy(config: Config) -> Graph:
    """An approved model package becomes what production serves."""
    released = Succeed("Released")
    production = deploy(config, PRODUCTION, then=test(config, PRODUCTION, then=released))
    staging = deploy(
        config, STAGING, then=test(config, STAGING, then=human_approval(config, then=production))
    )
    release = Chain([describe_package(config), approved_only(then=Chain([settings(config), staging]))])
    return Graph(release, comment="Deploy to staging, test, ask a person, deploy to production, test.")


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


def settings(config: Config) -> Chain:
    """The execution's input over the defaults, and where things are: the code is what built the package."""
    parts = "States.StringSplit($.Package.Properties.CodeUri, '/')"
    located = Pass(
        "Locate",
        parameters={
            "Package": Expression("$.Package"),
            "Defaults": {"ApprovalTimeoutSeconds": APPROVAL_TIMEOUT_SECONDS},
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
    }
    kept = ("Package", "Project", "DataBucket", "AssetsBucket", "PollSeconds", "Code", "TestFolder")
    set_up = Pass(
        "Settings",
        parameters={
            **{name: Expression(f"$.{name}") for name in kept},
            "Run": Expression("States.JsonMerge($.Defaults, $$.Execution.Input, false)"),
            "TemplateUrl": concatenated("{}/code/{}/deploy/endpoint.yaml", "$.AssetsUrl", "$.Code"),
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
    evaluation = aws_sdk(
        "ReadEvaluation",
        "s3:getObject",
        {
            "Bucket": config.data_bucket,
            "Key": concatenated("{}/evaluation.json", "$.Package.Properties.EvaluationPrefix"),
        },
        result_selector={"Content.$": "States.StringToJson($.Body)"},
        result_path="$.Evaluation",
    )
    evaluation.add_catch(
        caught(
            failed(
                "EvaluationUnreadable",
                error="EvaluationUnreadable",
                cause="The evaluation of model package {} could not be read: {}: {} Nothing was deployed.",
                paths=("$.Package.ModelPackageArn", "$.Failure.Error", "$.Failure.Cause"),
            )
        )
    )
    return Chain([located, set_up, evaluation])


def human_approval(config: Config, *, then: Step) -> Chain:
    """Ask a person whether what was tested in staging may go to production."""
    properties = "$.Package.Properties"
    metrics = "$.Evaluation.Content.multiclass_classification_metrics"
    unanswered = failed(
        "ProductionApprovalTimedOut",
        error="ApprovalTimedOut",
        cause="Nobody decided within {} seconds. Production was not touched; staging serves {}.",
        paths=("$.Run.ApprovalTimeoutSeconds", "$.Package.ModelPackageArn"),
    )
    request = ask(
        config,
        "RequestProductionApproval",
        details={
            "Kind": "production",
            "Subject": concatenated("Release the model of run {} to production", f"{properties}.RunId"),
            "RunId": Expression(f"{properties}.RunId"),
            "ModelPackageArn": Expression("$.Package.ModelPackageArn"),
            "Accuracy": Expression(f"{metrics}.accuracy.value"),
            "AccuracyThreshold": Expression(f"States.StringToJson({properties}.AccuracyThreshold)"),
            "ConfusionMatrix": Expression(f"{metrics}.confusion_matrix"),
            "Commit": Expression(f"{properties}.Commit"),
            "DatasetUri": Expression(f"{properties}.DatasetUri"),
            "DatasetSha256": Expression(f"{properties}.DatasetSha256"),
            "TrainingJobName": Expression(f"{properties}.TrainingJobName"),
            "Report": concatenated(
                "s3://{}/{}/report.html", "$.DataBucket", f"{properties}.EvaluationPrefix"
            ),
            "TestReport": Expression("$.Tests.Staging.Report"),
        },
        timeout_path="$.Run.ApprovalTimeoutSeconds",
        unanswered=unanswered,
        unasked="Production was not touched.",
    )
    rejected = failed(
        "ProductionRejected",
        error="ProductionRejected",
        cause="{} rejected the release to production ({}). Production was not touched; staging serves {}.",
        paths=("$.Approval.decided_by", "$.Approval.comment", "$.Package.ModelPackageArn"),
    )
    return Chain([request, chosen("Decision", [(is_approved(), then)], default=rejected)])
