"""model-build: prepare, train, evaluate, gate on accuracy, register, ask a person."""

from stepfunctions.steps import Chain, Choice, ChoiceRule, Graph, Pass
from stepfunctions.steps.states import State

from workflows.approval import ask, is_approved, is_expired, rule_defaults
from workflows.cache import GIVEN, cached, read_hash, sorted_pairs
from workflows.config import ACCURACY_THRESHOLD, CACHE_DAYS, PREPROCESS, Config
from workflows.datasets import find_dataset
from workflows.jobs import evaluate, preprocess, train
from workflows.language import Expression, aws_sdk, caught, chosen, concatenated, failed
from workflows.locks import claim

ACCURACY = "$.Evaluation.multiclass_classification_metrics.accuracy.value"
CONTENT_TYPES = ["application/x-npy", "image/jpeg", "image/png"]


def model_build(config: Config) -> Graph:
    """A dataset and a commit become a model package that a person has approved or rejected."""
    hashes = "$states.input.Hashes"
    build = Chain(
        [
            read_code(),
            read_dataset(),
            cached(
                preprocess(config),
                step="Preprocess",
                result="Preprocessing",
                depends_on=[
                    f"'{config.processing_image}'",
                    *(f"{hashes}.Code", f"{hashes}.Dataset"),
                    sorted_pairs("Preprocess"),
                ],
                outputs={
                    "Folder": concatenated("{}/preprocessed", "$.Folder"),
                    "ProcessingJobName": Expression("$.Preprocessing.ProcessingJobName"),
                },
                then=read_manifest(),
                config=config,
            ),
            cached(
                train(config),
                step="Train",
                result="Training",
                depends_on=[
                    f"'{config.training_image}'",
                    *(f"{hashes}.Code", f"{hashes}.Manifest"),
                    sorted_pairs("Run.HyperParameters"),
                ],
                outputs={
                    "TrainingJobName": Expression("$.Training.TrainingJobName"),
                    "ModelArtifacts": Expression("$.Training.ModelArtifacts"),
                },
                then=read_model(),
                config=config,
            ),
            cached(
                evaluate(config),
                step="Evaluate",
                result="EvaluationJob",
                depends_on=[
                    f"'{config.processing_image}'",
                    *(f"{hashes}.Code", f"{hashes}.Manifest", f"{hashes}.Model"),
                ],
                outputs={
                    "Folder": concatenated("{}/evaluation", "$.Folder"),
                    "Prefix": concatenated("runs/{}/evaluation", "$.Run.RunId"),
                    "ProcessingJobName": Expression("$.EvaluationJob.ProcessingJobName"),
                },
                then=read_evaluation(config),
                config=config,
            ),
            accuracy_gate(passed=Chain([register(config), human_approval(config)])),
        ]
    )
    dataset = find_dataset(config, then=build)
    event = "($exists($states.input.Run.EventId) ? $states.input.Run.EventId : $states.input.Run.RunId)"
    return Graph(
        Chain([settings(config), claim(config, event=event, then=dataset)]),
        comment="Prepare, train, evaluate, gate on accuracy, register, ask a person.",
    )


def settings(config: Config) -> Chain:
    """The execution's input over the defaults, and where the run keeps what it makes."""
    defaults = Pass(
        "Defaults",
        result={
            "Run": {
                "Commit": "uncommitted",
                "AccuracyThreshold": ACCURACY_THRESHOLD,
                "StartedBy": "unknown",
                "Trigger": "unknown",
                "HyperParameters": {},
                "Preprocess": {},
                "UseCache": True,
                "CacheDays": CACHE_DAYS,
            },
            "Preprocess": PREPROCESS,
            "DataBucket": config.data_bucket,
        },
    )
    merged = Pass(
        "Settings",
        parameters={
            "Defaults": Expression("$"),
            "Run": Expression("States.JsonMerge($.Run, $$.Execution.Input, false)"),
            "Folder": concatenated("s3://{}/runs/{}", "$.DataBucket", "$$.Execution.Input.RunId"),
            "Script": {
                "sagemaker_program": "training/train.py",
                "sagemaker_submit_directory": concatenated(
                    "{}/sourcedir.tar.gz", "$$.Execution.Input.CodeUri"
                ),
            },
        },
    )
    options = Pass(
        "Options",
        parameters={
            "Run": Expression("$.Run"),
            "Folder": Expression("$.Folder"),
            "Script": Expression("$.Script"),
            "Preprocess": Expression("States.JsonMerge($.Defaults.Preprocess, $.Run.Preprocess, false)"),
            "RuleDefaults": rule_defaults(config),
            "Attempt": {"Number": 0},
            "Hashes": {},
        },
    )
    return Chain([defaults, merged, options])


def read_code() -> State:
    """What jobs run: not the whole bundle, so that a change of deploy/ runs no job again."""
    uri = f"{GIVEN}.Script.sagemaker_submit_directory"
    return read_hash("ReadCode", uri=uri, member="Code", what="The code bundle")


def read_dataset() -> State:
    return read_hash("ReadDataset", uri=f"{GIVEN}.Run.DatasetUri", member="Dataset", what="The dataset")


def read_manifest() -> State:
    """With the code it says all of the sets: the images' hash, and how they were split."""
    uri = f"{GIVEN}.Preprocessing.Folder & '/manifest/manifest.json'"
    return read_hash("ReadManifest", uri=uri, member="Manifest", what="The manifest of the preprocessed data")


def read_model() -> State:
    uri = f"{GIVEN}.Training.ModelArtifacts.S3ModelArtifacts"
    return read_hash("ReadModel", uri=uri, member="Model", what="The model")


def read_evaluation(config: Config) -> State:
    """The metrics of evaluation.json come to `$.Evaluation`."""
    step = aws_sdk(
        "ReadEvaluation",
        "s3:getObject",
        {
            "Bucket": config.data_bucket,
            "Key": concatenated("{}/evaluation.json", "$.EvaluationJob.Prefix"),
        },
        result_selector={"Content.$": "States.StringToJson($.Body)"},
        result_path="$.EvaluationFile",
    )
    step.add_catch(
        caught(
            failed(
                "EvaluationUnreadable",
                error="EvaluationUnreadable",
                cause="The evaluation job left no readable evaluation.json: {}: {}",
                paths=("$.Failure.Error", "$.Failure.Cause"),
            )
        )
    )
    select = Pass("Metrics", input_path="$.EvaluationFile.Content", result_path="$.Evaluation")
    return Chain([step, select])


def accuracy_gate(*, passed: Chain) -> Choice:
    """Only a model that is accurate enough goes on."""
    return chosen(
        "AccuracyGate",
        [(ChoiceRule.NumericGreaterThanEqualsPath(ACCURACY, "$.Run.AccuracyThreshold"), passed)],
        default=failed(
            "AccuracyBelowThreshold",
            error="AccuracyBelowThreshold",
            cause="The accuracy {} of training job {} is below the threshold {}. Nothing was registered.",
            paths=(ACCURACY, "$.Training.TrainingJobName", "$.Run.AccuracyThreshold"),
        ),
    )


def register(config: Config) -> State:
    """A new version in the model package group, with its metrics and where it comes from."""
    evaluation = concatenated("{}/evaluation.json", "$.EvaluationJob.Folder")
    step = aws_sdk(
        "Register",
        "sagemaker:createModelPackage",
        {
            "ModelPackageGroupName": config.model_package_group,
            "ModelPackageDescription": concatenated("Run {} of commit {}", "$.Run.RunId", "$.Run.Commit"),
            "ModelApprovalStatus": "PendingManualApproval",
            # Of the run, whose id may be longer than the 36 characters of a token.
            "ClientToken": Expression("States.Hash($.Run.RunId, 'MD5')"),
            "InferenceSpecification": {
                "Containers": [
                    {
                        "Image": config.inference_image,
                        "ModelDataUrl": Expression("$.Training.ModelArtifacts.S3ModelArtifacts"),
                        "Environment": {
                            "SAGEMAKER_PROGRAM": "inference.py",
                            "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
                        },
                    }
                ],
                "SupportedContentTypes": CONTENT_TYPES,
                "SupportedResponseMIMETypes": ["application/json"],
            },
            "ModelMetrics": {
                "ModelQuality": {"Statistics": {"ContentType": "application/json", "S3Uri": evaluation}}
            },
            "CustomerMetadataProperties": {
                "RunId": Expression("$.Run.RunId"),
                "CodeUri": Expression("$.Run.CodeUri"),
                "Commit": Expression("$.Run.Commit"),
                "StartedBy": Expression("$.Run.StartedBy"),
                "Trigger": Expression("$.Run.Trigger"),
                "DatasetUri": Expression("$.Run.DatasetUri"),
                "DatasetSha256": Expression("$.Evaluation.dataset.sha256"),
                "TrainingJobName": Expression("$.Training.TrainingJobName"),
                "ExecutionArn": Expression("$$.Execution.Id"),
                "Accuracy": concatenated("{}", ACCURACY),
                "AccuracyThreshold": concatenated("{}", "$.Run.AccuracyThreshold"),
                "PreprocessedUri": Expression("$.Preprocessing.Folder"),
                "EvaluationPrefix": Expression("$.EvaluationJob.Prefix"),
            },
        },
        result_path="$.Registration",
    )
    step.add_catch(
        caught(
            failed(
                "RegistrationFailed",
                error="RegistrationFailed",
                cause="The model could not be registered: {}: {}",
                paths=("$.Failure.Error", "$.Failure.Cause"),
            )
        )
    )
    return step


def human_approval(config: Config) -> Chain:
    """Ask a person, and write the decision, who made it and why into the model package."""
    package = "$.Registration.ModelPackageArn"
    approve = update_package("Approve", "Approved")
    reject = Chain(
        [
            update_package("Reject", "Rejected"),
            failed(
                "ModelRejected",
                error="ModelRejected",
                cause="Model package {} was rejected by {}: {}",
                paths=(package, "$.Approval.decided_by", "$.Approval.comment"),
            ),
        ]
    )
    expire = Chain(
        [
            update_package("RejectUnanswered", "Rejected"),
            failed(
                "ApprovalTimedOut",
                error="ApprovalTimedOut",
                cause="Nobody decided about model package {} within {} seconds. It is rejected.",
                paths=(package, "$.Asking.Rules.TimeoutSeconds"),
            ),
        ]
    )
    return ask(
        config,
        "RequestApproval",
        kind="model",
        details={
            "ModelPackageArn": Expression(package),
            "StartedBy": Expression("$.Run.StartedBy"),
            "TemplateUri": concatenated("{}/deploy/endpoint.yaml", "$.Run.CodeUri"),
        },
        decided=chosen("Decision", [(is_approved(), approve), (is_expired(), expire)], default=reject),
        unasked="The model package stays PendingManualApproval.",
    )


def update_package(name: str, status: str) -> State:
    """Write the decision into the model package; EventBridge tells the world about it."""
    step = aws_sdk(
        name,
        "sagemaker:updateModelPackage",
        {
            "ModelPackageArn": Expression("$.Registration.ModelPackageArn"),
            "ModelApprovalStatus": status,
            "ApprovalDescription": Expression("$.Approval.description"),
            "CustomerMetadataProperties": Expression("$.Approval.properties"),
        },
        result_path="$.Decided",
    )
    step.add_catch(
        caught(
            failed(
                f"{name}Failed",
                error="DecisionNotRecorded",
                cause=f"Model package {{}} could not be set to {status}: {{}}: {{}}",
                paths=("$.Registration.ModelPackageArn", "$.Failure.Error", "$.Failure.Cause"),
            )
        )
    )
    return step
