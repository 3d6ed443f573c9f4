"""A job that has run with the same code, data, parameters and image is not run again."""

from pathlib import Path
from typing import Any

import pytest

from stagegate.local.service import AWSError
from tests.workflows.simulation import RUN, Cloud, Ended, execute

SECOND = RUN | {"RunId": "r-20261124-071500-2b3c"}
DOWN = AWSError("InternalServerError", "the table is away")


async def build(folder: Path, cloud: Cloud, run: dict[str, Any]) -> Ended:
    (folder / run["RunId"]).mkdir()
    return await execute(folder / run["RunId"], "model-build", cloud, run)


def jobs(cloud: Cloud) -> list[str]:
    """The names of the jobs that were started."""
    return [
        request.get("TrainingJobName") or request["ProcessingJobName"]
        for name, request in cloud.calls
        if name in ("CreateTrainingJob", "CreateProcessingJob")
    ]


def steps(cloud: Cloud, run: dict[str, Any]) -> list[str]:
    """The steps of the run whose jobs were started."""
    given = [name.removeprefix(f"{run['RunId']}-") for name in jobs(cloud) if name.startswith(run["RunId"])]
    return [name.partition("-")[0] for name in given]


async def test_an_unchanged_release_runs_no_job_again(tmp_path: Path) -> None:
    cloud = Cloud()
    await build(tmp_path, cloud, RUN)

    ended = await build(tmp_path, cloud, SECOND)

    assert ended.status == "SUCCEEDED"
    assert steps(cloud, SECOND) == []
    assert [state for state in ended.states if state.startswith("Reuse")] == [
        *("ReusePreprocess", "ReuseTrain", "ReuseEvaluate")
    ]
    first, second = cloud.of("CreateModelPackage")
    assert second["InferenceSpecification"] == first["InferenceSpecification"]
    assert second["ModelMetrics"] == first["ModelMetrics"]
    before, after = first["CustomerMetadataProperties"], second["CustomerMetadataProperties"]
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"RunId", "ExecutionArn"}


@pytest.mark.parametrize(
    ("etags", "given", "again"),
    [
        ({"sourcedir.tar.gz": '"4567"'}, {}, ["preprocess", "train", "evaluate"]),
        ({"x.zip": '"4567"'}, {}, ["preprocess"]),  # and where the sets are the same, that was all
        ({"x.zip": '"4567"', "manifest.json": '"89ab"'}, {}, ["preprocess", "train", "evaluate"]),
        ({}, {"Preprocess": {"image-size": "64"}}, ["preprocess"]),
        ({}, {"HyperParameters": {"epochs": "2"}}, ["train"]),
        ({"model.tar.gz": '"cdef"'}, {"HyperParameters": {"epochs": "2"}}, ["train", "evaluate"]),
        ({}, {"CodeUri": "s3://assets/code/fedcba9876543210"}, []),
        ({}, {"DatasetUri": "s3://data/datasets/again.zip"}, []),
        ({}, {"AccuracyThreshold": 0.5}, []),
    ],
)  # fmt: skip
async def test_what_has_changed_runs_and_what_depends_on_it(
    tmp_path: Path, etags: dict[str, str], given: dict[str, Any], again: list[str]
) -> None:
    cloud = Cloud()
    await build(tmp_path, cloud, RUN)
    cloud.etags |= etags

    await build(tmp_path, cloud, SECOND | given)

    assert steps(cloud, SECOND) == again


async def test_the_order_of_parameters_is_nothing(tmp_path: Path) -> None:
    cloud = Cloud()
    await build(tmp_path, cloud, RUN | {"HyperParameters": {"epochs": "1", "batch-size": "8"}})

    await build(tmp_path, cloud, SECOND | {"HyperParameters": {"batch-size": "8", "epochs": "1"}})

    assert steps(cloud, SECOND) == []


async def test_a_run_that_failed_in_evaluate_does_not_train_again(tmp_path: Path) -> None:
    cloud = Cloud(answers={"ProcessingJob": [{}, {"ProcessingJobStatus": "Failed", "FailureReason": "x"}]})
    failed = await build(tmp_path, cloud, RUN)

    ended = await build(tmp_path, cloud, SECOND)

    assert (failed.error, ended.status) == ("EvaluationFailed", "SUCCEEDED")
    assert steps(cloud, SECOND) == ["evaluate"]


@pytest.mark.parametrize("code", ["ThrottlingException", "ProvisionedThroughputExceededException"])
async def test_a_table_that_was_asked_too_often_is_asked_again(tmp_path: Path, code: str) -> None:
    cloud = Cloud()
    await build(tmp_path, cloud, RUN)
    cloud.answers["GetItem"] = [AWSError(code, "Rate exceeded")]

    await build(tmp_path, cloud, SECOND)

    assert steps(cloud, SECOND) == []


async def test_without_the_cache_each_job_runs_and_is_kept_anew(tmp_path: Path) -> None:
    cloud = Cloud()
    await build(tmp_path, cloud, RUN)

    await build(tmp_path, cloud, SECOND | {"UseCache": False})

    assert steps(cloud, SECOND) == ["preprocess", "train", "evaluate"]
    assert {item["RunId"]["S"] for item in cloud.kept.values()} == {SECOND["RunId"]}


async def test_what_has_expired_is_not_taken(tmp_path: Path) -> None:
    cloud = Cloud()
    await build(tmp_path, cloud, RUN | {"CacheDays": 0})

    await build(tmp_path, cloud, SECOND)

    assert steps(cloud, SECOND) == ["preprocess", "train", "evaluate"]


async def test_a_table_that_cannot_be_read_costs_jobs_and_not_the_run(tmp_path: Path) -> None:
    cloud = Cloud()
    await build(tmp_path, cloud, RUN)
    cloud.answers["GetItem"] = DOWN

    ended = await build(tmp_path, cloud, SECOND)

    assert ended.status == "SUCCEEDED"
    assert steps(cloud, SECOND) == ["preprocess", "train", "evaluate"]


async def test_a_table_that_cannot_be_written_keeps_nothing_and_the_run_goes_on(tmp_path: Path) -> None:
    cloud = Cloud(answers={"PutItem": lambda request: {} if "LockId" in request["Item"] else DOWN})

    ended = await build(tmp_path, cloud, RUN)

    assert (ended.status, len(jobs(cloud)), cloud.kept) == ("SUCCEEDED", 3, {})


async def test_a_job_that_did_not_complete_is_not_kept(tmp_path: Path) -> None:
    cloud = Cloud(answers={"TrainingJob": [{"TrainingJobStatus": "Stopped"}]})

    await build(tmp_path, cloud, RUN)

    assert [item["Step"]["S"] for item in cloud.kept.values()] == ["Preprocess"]


async def test_a_dataset_that_is_not_there_ends_the_run_before_a_job_begins(tmp_path: Path) -> None:
    cloud = Cloud(answers={"HeadObject": [{}, AWSError("404", "Not Found", status=404)]})

    ended = await build(tmp_path, cloud, RUN)

    assert (ended.error, jobs(cloud)) == ("DatasetUnreadable", [])
    assert ended.cause.startswith("The dataset cannot be read: S3.NoSuchKeyException: ")
