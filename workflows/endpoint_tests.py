"""The endpoint tests of a stage, run in CodeBuild from deploy/endpoint_tests, and what they found."""

from stepfunctions.steps import Task

from workflows.config import Config
from workflows.language import Expression, aws_sdk, caught, concatenated, throttled, with_fields
from workflows.stages import THIS_ATTEMPT, Stage, Step, credentials, ends


def test(config: Config, stage: Stage, *, then: Step, unproven: Step | None = None) -> Step:
    """Run deploy/endpoint_tests against the stage's endpoint; their summary comes to `$.Tests.<word>`."""
    word = stage.word
    environment = {
        "STAGE": stage.name,
        "ENDPOINT_NAME": concatenated(f"{{}}-{stage.name}", "$.Project"),
        "MODEL_PACKAGE_ARN": Expression("$.Package.ModelPackageArn"),
        "TEST_DATA_URI": concatenated("{}/test", "$.Package.Properties.PreprocessedUri"),
        "PREDICTIONS_URI": concatenated(
            "s3://{}/{}/predictions.npz", "$.DataBucket", "$.Package.Properties.EvaluationPrefix"
        ),
        "REGISTERED_ACCURACY": Expression("$.Package.Properties.Accuracy"),
    }
    build = Task(
        f"Test{word}",
        resource="arn:aws:states:::codebuild:startBuild.sync",
        parameters={
            "ProjectName": config.endpoint_test_project,
            # The same when it is asked again: two builds would load the endpoint twice over.
            "IdempotencyToken": concatenated(f"{stage.folder}-{{}}-{{}}", *THIS_ATTEMPT),
            "SourceTypeOverride": "S3",
            "SourceLocationOverride": concatenated("{}/code/{}/deploy.zip", "$.AssetsBucket", "$.Code"),
            "ArtifactsOverride": {
                "Type": "S3",
                "Location": config.data_bucket,
                "Path": Expression("$.TestFolder"),
                "Name": stage.folder,
                "NamespaceType": "NONE",
                "Packaging": "NONE",
                # But by the bucket: what CodeBuild's own key has encrypted, no other account could read.
                "EncryptionDisabled": True,
            },
            "EnvironmentVariablesOverride": [
                {"Name": name, "Value": value, "Type": "PLAINTEXT"} for name, value in environment.items()
            ],
        },
        result_path=f"$.Builds.{word}",
    )
    with_fields(build, credentials=credentials(config, stage), result_selector={"Id.$": "$.Build.Id"})
    build.add_retry(throttled("codebuild"))
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
