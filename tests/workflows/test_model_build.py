"""model-build, every way through it, on the real engine."""

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from stagegate.local.service import AWSError
from tests.workflows.simulation import APPROVED, EVALUATION, PACKAGE, REJECTED, RUN, Cloud, Ended, execute

FAILURE = "AlgorithmError: the loss is no number"
TAKEN = AWSError("ResourceInUse", "the name is taken")


async def build(folder: Path, cloud: Cloud, **given: object) -> Ended:
    return await execute(folder, "model-build", cloud, RUN | given)


async def test_a_model_that_is_good_enough_is_registered_and_approved(tmp_path: Path) -> None:
    cloud = Cloud()

    ended = await build(tmp_path, cloud)

    assert (ended.status, ended.cause) == ("SUCCEEDED", "")
    assert ended.states == [
        *("Defaults", "Settings", "Options", "Claim", "IsDatasetGiven", "ReadCode", "ReadDataset"),
        *("PreprocessKey", "FindPreprocess", "IsPreprocessKept", "Preprocess", "PreprocessingCompleted"),
        *("PreprocessOutputs", "KeepPreprocess", "ReadManifest"),
        *("TrainKey", "FindTrain", "IsTrainKept", "Train", "TrainingCompleted"),
        *("TrainOutputs", "KeepTrain", "ReadModel"),
        *("EvaluateKey", "FindEvaluate", "IsEvaluateKept", "Evaluate", "EvaluationCompleted"),
        *("EvaluateOutputs", "KeepEvaluate", "ReadEvaluation", "Metrics"),
        *("AccuracyGate", "Register", "RequestApprovalRules", "RequestApprovalRound"),
        *("IsRequestApprovalOpen", "RequestApproval", "Decision", "Approve"),
    ]
    (update,) = cloud.of("UpdateModelPackage")
    assert update == {
        "ModelPackageArn": PACKAGE,
        "ModelApprovalStatus": "Approved",
        "ApprovalDescription": "Approved by anna@example.com: good",
        "CustomerMetadataProperties": {"ModelApprovalId": "5f0c"},
    }


async def test_the_jobs_get_the_input_over_the_defaults(tmp_path: Path) -> None:
    cloud = Cloud()

    await build(tmp_path, cloud)

    preprocess, evaluate = cloud.of("CreateProcessingJob")
    assert preprocess["ProcessingJobName"] == "r-20261123-071500-1a2b-preprocess-0-0-0"
    arguments = preprocess["AppSpecification"]["ContainerArguments"]
    assert arguments[4:] == [
        *("--image-size", "32", "--validation-fraction", "0.1", "--test-fraction", "0.2", "--seed", "0")
    ]
    (train,) = cloud.of("CreateTrainingJob")
    assert train["TrainingJobName"] == "r-20261123-071500-1a2b-train-0-0-0"
    assert train["HyperParameters"] == {
        "epochs": "1",
        "sagemaker_program": "training/train.py",
        "sagemaker_submit_directory": "s3://assets/code/0123456789abcdef/sourcedir.tar.gz",
    }
    assert train["EnableManagedSpotTraining"] is True
    assert train["CheckpointConfig"] == {
        "LocalPath": "/opt/ml/checkpoints",
        "S3Uri": "s3://data/runs/r-20261123-071500-1a2b/checkpoints",
    }
    assert evaluate["ProcessingInputs"][0]["S3Input"]["S3Uri"] == "s3://assets/code/0123456789abcdef/source/"


async def test_the_package_says_where_it_comes_from(tmp_path: Path) -> None:
    cloud = Cloud()

    await build(tmp_path, cloud)

    (package,) = cloud.of("CreateModelPackage")
    properties = dict(package["CustomerMetadataProperties"])
    assert properties.pop("ExecutionArn").startswith("arn:aws:states:us-east-1:111111111111:execution:")
    assert properties == {
        "RunId": RUN["RunId"],
        "CodeUri": RUN["CodeUri"],
        "Commit": "3f1c2d",
        "StartedBy": "ben@example.com",
        "Trigger": "unknown",
        "DatasetUri": RUN["DatasetUri"],
        "DatasetSha256": "ab" * 32,
        "TrainingJobName": "r-20261123-071500-1a2b-train-0-0-0",
        "Accuracy": "0.87",
        "AccuracyThreshold": "0.6",
        "PreprocessedUri": "s3://data/runs/r-20261123-071500-1a2b/preprocessed",
        "EvaluationPrefix": "runs/r-20261123-071500-1a2b/evaluation",
    }
    assert package["ModelApprovalStatus"] == "PendingManualApproval"


async def test_a_model_below_the_threshold_is_not_registered(tmp_path: Path) -> None:
    cloud = Cloud()

    ended = await build(tmp_path, cloud, AccuracyThreshold=0.999)

    assert (ended.status, ended.error) == ("FAILED", "AccuracyBelowThreshold")
    assert ended.cause == (
        "The accuracy 0.87 of training job r-20261123-071500-1a2b-train-0-0-0 is below the threshold 0.999. "
        "Nothing was registered."
    )
    assert cloud.of("CreateModelPackage") == []


async def test_a_rejected_model_ends_the_run(tmp_path: Path) -> None:
    cloud = Cloud(decisions=[REJECTED])

    ended = await build(tmp_path, cloud)

    assert (ended.error, ended.cause) == (
        "ModelRejected",
        f"Model package {PACKAGE} was rejected by anna@example.com: too many streets in the sea",
    )
    assert cloud.of("UpdateModelPackage")[0]["ModelApprovalStatus"] == "Rejected"


async def test_the_rules_are_those_of_the_input_over_the_platforms(tmp_path: Path) -> None:
    cloud = Cloud()

    await build(tmp_path, cloud, Approval={"Required": 2, "TimeoutSeconds": 600, "ReminderSeconds": 60})

    (request,) = cloud.of("Invoke")
    asked = json.loads(request["Payload"])
    assert asked["Rules"] == {
        "Approvers": ["anna@example.com", "carl@example.com"],
        "Required": 2,
        "FourEyes": True,
        "TimeoutSeconds": 600,
        "ReminderSeconds": 60,
    }
    assert 590 < asked["ExpiresAt"] - time.time() <= 601
    assert asked["StartedBy"] == "ben@example.com"
    assert asked["TemplateUri"] == "s3://assets/code/0123456789abcdef/deploy/endpoint.yaml"
    assert (asked["Action"], asked["Kind"], asked["ModelPackageArn"]) == ("ask", "model", PACKAGE)


@pytest.mark.parametrize("rule", [{"TimeoutSeconds": "soon"}, {"ReminderSeconds": 0}])
async def test_a_time_that_is_none_ends_the_run_and_says_what_would_be_one(
    tmp_path: Path, rule: dict[str, object]
) -> None:
    ended = await build(tmp_path, Cloud(), Approval=rule)

    ((name, value),) = rule.items()
    assert ended.error == "States.QueryEvaluationError"
    assert f"{name} of Approval is {value}; it should be a number of seconds, 1 or more" in ended.cause


async def test_a_reminder_is_a_round_of_its_own_with_a_new_token(tmp_path: Path) -> None:
    cloud = Cloud(decisions=[None, APPROVED])

    ended = await build(tmp_path, cloud, Approval={"TimeoutSeconds": 60, "ReminderSeconds": 1})

    first, second = (json.loads(request["Payload"]) for request in cloud.of("Invoke"))
    assert ended.status == "SUCCEEDED"
    assert first["TaskToken"] != second["TaskToken"]
    assert first["AskedAt"] < second["AskedAt"]
    assert first["ExpiresAt"] == second["ExpiresAt"]
    asked_again = datetime.fromisoformat(second["AskedAt"].split()[0]).timestamp()
    assert first["RemindAt"] == second["RemindAt"] <= asked_again
    assert ended.states.count("RequestApproval") == 2


async def test_a_decision_of_the_last_moment_counts_though_the_time_is_over(tmp_path: Path) -> None:
    def invoke(request: dict[str, Any]) -> dict[str, Any]:
        is_end = json.loads(request["Payload"])["Action"] == "expire"
        return {"Payload": json.dumps(APPROVED if is_end else {}).encode()}

    cloud = Cloud(answers={"Invoke": invoke}, decisions=[None])

    ended = await build(tmp_path, cloud, Approval={"TimeoutSeconds": 1})

    assert ended.status == "SUCCEEDED"
    assert ended.states[-3:] == ["EndRequestApproval", "Decision", "Approve"]


async def test_silence_rejects(tmp_path: Path) -> None:
    cloud = Cloud(decisions=[None])

    ended = await build(tmp_path, cloud, Approval={"TimeoutSeconds": 1})

    assert (ended.error, ended.cause) == (
        "ApprovalTimedOut",
        f"Nobody decided about model package {PACKAGE} within 1 seconds. It is rejected.",
    )
    assert cloud.of("UpdateModelPackage")[0]["ModelApprovalStatus"] == "Rejected"


@pytest.mark.parametrize(
    ("answers", "error", "cause"),
    [
        (
            {"ProcessingJob": [{"ProcessingJobStatus": "Failed", "FailureReason": FAILURE}]},
            "PreprocessingFailed",
            f"Preprocessing job r-20261123-071500-1a2b-preprocess-0-0-0 failed: {FAILURE}",
        ),
        (
            {"TrainingJob": [{"TrainingJobStatus": "Failed", "FailureReason": FAILURE}]},
            "TrainingFailed",
            f"Training job r-20261123-071500-1a2b-train-0-0-0 failed: {FAILURE}",
        ),
        (
            {"ProcessingJob": [{}, {"ProcessingJobStatus": "Failed", "FailureReason": FAILURE}]},
            "EvaluationFailed",
            f"Evaluation job r-20261123-071500-1a2b-evaluate-0-0-0 failed: {FAILURE}",
        ),
        (
            {"TrainingJob": [{"TrainingJobStatus": "Stopped"}]},
            "TrainingStopped",
            "Training job r-20261123-071500-1a2b-train-0-0-0 ended as Stopped before it was done.",
        ),
        (
            {"ProcessingJob": [{}, {"ProcessingJobStatus": "Stopped"}]},
            "EvaluationStopped",
            "Evaluation job r-20261123-071500-1a2b-evaluate-0-0-0 ended as Stopped before it was done.",
        ),
        (
            {"ProcessingJob": [{"ProcessingJobStatus": "Stopped"}]},
            "PreprocessingStopped",
            "Preprocessing job r-20261123-071500-1a2b-preprocess-0-0-0 ended as Stopped before it was done.",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
async def test_a_job_that_does_not_complete_ends_the_run(
    tmp_path: Path, answers: dict[str, object], error: str, cause: str
) -> None:
    ended = await build(tmp_path, Cloud(answers=answers))

    assert (ended.status, ended.error, ended.cause) == ("FAILED", error, cause)


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ({"CreateProcessingJob": [TAKEN]}, "PreprocessingNotStarted"),
        ({"CreateTrainingJob": [TAKEN]}, "TrainingNotStarted"),
        ({"CreateProcessingJob": [{}, TAKEN]}, "EvaluationNotStarted"),
    ],
)
async def test_a_job_that_cannot_be_started_ends_the_run(
    tmp_path: Path, answers: dict[str, object], error: str
) -> None:
    ended = await build(tmp_path, Cloud(answers=answers))

    assert (ended.status, ended.error) == ("FAILED", error)
    assert "could not be run: SageMaker.ResourceInUseException: the name is taken" in ended.cause


async def test_an_internal_error_is_tried_again_under_a_fresh_name(tmp_path: Path) -> None:
    failed = {"TrainingJobStatus": "Failed", "FailureReason": "InternalServerError: please try again"}
    cloud = Cloud(answers={"TrainingJob": [failed, failed]})

    ended = await build(tmp_path, cloud)

    assert ended.status == "SUCCEEDED"
    names = [request["TrainingJobName"].partition("-train-")[2] for request in cloud.of("CreateTrainingJob")]
    assert names == ["0-0-0", "1-0-0", "2-0-0"]


async def test_internal_errors_without_end_end_the_run(tmp_path: Path) -> None:
    failed = {"TrainingJobStatus": "Failed", "FailureReason": "InternalServerError: please try again"}
    cloud = Cloud(answers={"TrainingJob": [failed] * 5})

    ended = await build(tmp_path, cloud)

    assert ended.error == "TrainingFailed"
    assert len(cloud.of("CreateTrainingJob")) == 3


async def test_a_throttled_job_is_tried_again_under_a_fresh_name(tmp_path: Path) -> None:
    throttled = AWSError("ThrottlingException", "Rate exceeded")
    cloud = Cloud(answers={"CreateTrainingJob": [throttled]})

    ended = await build(tmp_path, cloud)

    assert ended.status == "SUCCEEDED"
    names = [request["TrainingJobName"].partition("-train-")[2] for request in cloud.of("CreateTrainingJob")]
    assert names == ["0-0-0", "0-0-1"]


async def test_an_evaluation_that_cannot_be_read_ends_the_run(tmp_path: Path) -> None:
    missing = AWSError("NoSuchKey", "The specified key does not exist.", status=404)

    ended = await build(tmp_path, Cloud(answers={"GetObject": [missing]}))

    assert ended.error == "EvaluationUnreadable"
    assert "The evaluation job left no readable evaluation.json: S3.NoSuchKeyException" in ended.cause


async def test_a_registry_that_refuses_ends_the_run(tmp_path: Path) -> None:
    refused = AWSError("ValidationException", "no such group")

    registering = await build(tmp_path / "1", Cloud(answers={"CreateModelPackage": refused}))
    deciding = await build(tmp_path / "2", Cloud(answers={"UpdateModelPackage": refused}))

    assert (registering.error, deciding.error) == ("RegistrationFailed", "DecisionNotRecorded")
    assert "no such group" in registering.cause
    assert f"Model package {PACKAGE} could not be set to Approved" in deciding.cause


async def test_a_function_that_fails_asks_nobody(tmp_path: Path) -> None:
    failed = {
        "FunctionError": "Unhandled",
        "Payload": b'{"errorType": "KeyError", "errorMessage": "APPROVAL_TABLE"}',
    }

    ended = await build(tmp_path, Cloud(answers={"Invoke": [failed]}, decisions=[None]))

    assert ended.error == "RequestApprovalFailed"
    assert ended.cause.startswith("Nobody could be asked for approval: KeyError: ")
    assert ended.cause.endswith("The model package stays PendingManualApproval.")


def test_the_simulated_evaluation_is_shaped_like_ours() -> None:
    import numpy as np

    from evaluation.metrics import evaluation

    real = evaluation(np.array([[9, 1], [0, 10]]), ("sea", "street"))

    assert set(EVALUATION) - {"dataset"} <= set(real)
    metrics = real["multiclass_classification_metrics"]
    assert metrics["accuracy"]["value"] == 0.95
    assert metrics["confusion_matrix"] == EVALUATION["multiclass_classification_metrics"]["confusion_matrix"]
