"""Tuning jobs on the real runtime: their training jobs really run, and each way to end reads as on AWS."""

import json
import re
import time

import pytest
from botocore.exceptions import ClientError

from stagegate.local.sagemaker.tuning_search import Range, Trial, bayesian
from tests.local.sagemaker.fakes import archive

ROLE = "arn:aws:iam::111111111111:role/jobs"
BUCKET = "tuning"
PATIENCE = 60
QUADRATIC = """
import argparse
given = argparse.ArgumentParser()
given.add_argument("-x", type=float, default=0.0)
given.add_argument("--kind", default="none")
given = given.parse_args()
print(f"loss={(given.x - 0.3) ** 2}; kind={given.kind}")
"""
FAILING = "raise SystemExit('no luck')"
ENDLESS = """
import argparse, time
given = argparse.ArgumentParser()
given.add_argument("-x", type=float, default=0.0)
print("begun", flush=True)
time.sleep(600)
"""
EPOCHS = """
import argparse, time
given = argparse.ArgumentParser()
given.add_argument("-x", type=float)
x = given.parse_args().x
for epoch in range(3):
    print(f"loss={x / (epoch + 1)}", flush=True)
if x == 9:
    time.sleep(600)
"""


class Tuner:
    """The runtime with a bucket, and tuning jobs made from the text of their script."""

    def __init__(self, runtime):
        self.runtime, self.client = runtime, runtime.client("sagemaker")
        self.s3 = runtime.client("s3")
        self.s3.create_bucket(Bucket=BUCKET)

    def definition(self, text, *, static=None, **members):
        name = f"{abs(hash(text))}/sourcedir.tar.gz"
        self.s3.put_object(Bucket=BUCKET, Key=name, Body=archive({"train.py": text}))
        return {
            "AlgorithmSpecification": {
                "TrainingImage": "image",
                "TrainingInputMode": "File",
                "MetricDefinitions": [{"Name": "loss", "Regex": "loss=([0-9.e-]+)"}],
            },
            "RoleArn": ROLE,
            "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/models"},
            "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 1},
            "StoppingCondition": {"MaxRuntimeInSeconds": 600},
            "StaticHyperParameters": {
                "sagemaker_program": "train.py",
                "sagemaker_submit_directory": f"s3://{BUCKET}/{name}",
                **(static or {}),
            },
            **members,
        }

    def request(self, name, text=QUADRATIC, *, jobs=3, parallel=2, ranges=None, strategy="Random", **config):
        """What CreateHyperParameterTuningJob takes; `jobs` None leaves the number out."""
        limits = {"MaxParallelTrainingJobs": parallel}
        return {
            "HyperParameterTuningJobName": name,
            "HyperParameterTuningJobConfig": {
                "Strategy": strategy,
                "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "loss"},
                "ResourceLimits": limits if jobs is None else {**limits, "MaxNumberOfTrainingJobs": jobs},
                "ParameterRanges": ranges or between("x", 0, 1),
                "RandomSeed": 7,
                **config,
            },
            "TrainingJobDefinition": self.definition(text),
        }

    def tune(self, name, text=QUADRATIC, *, tags=(), **given):
        request = self.request(name, text, **given)
        return self.client.create_hyper_parameter_tuning_job(**request, Tags=list(tags))

    def ended(self, name):
        return self.until(
            name, lambda job: job["HyperParameterTuningJobStatus"] not in ("InProgress", "Stopping")
        )

    def until(self, name, condition):
        deadline = time.monotonic() + PATIENCE
        while not condition(job := self.describe(name)):
            assert time.monotonic() < deadline, (job, self.runtime.log.read_text()[-3000:])
            time.sleep(0.05)
        return job

    def describe(self, name):
        return self.client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)

    def trained(self, name, **given):
        return self.client.list_training_jobs_for_hyper_parameter_tuning_job(
            HyperParameterTuningJobName=name, **{"MaxResults": 100, **given}
        )["TrainingJobSummaries"]

    def refused(self, request):
        with pytest.raises(ClientError) as refused:
            self.client.create_hyper_parameter_tuning_job(**request)
        return refused.value.response["Error"]


@pytest.fixture
def tuner(shared_local):
    return Tuner(shared_local)


def between(name, low, high, *, kind="Continuous", scaling="Auto"):
    values = {"Name": name, "MinValue": str(low), "MaxValue": str(high), "ScalingType": scaling}
    return {f"{kind}ParameterRanges": [values]}


def one_of(**choices):
    values = [{"Name": name, "Values": list(given)} for name, given in choices.items()]
    return {"CategoricalParameterRanges": values}


def test_a_random_search_runs_training_jobs_and_names_the_best(tuner):
    tags = [{"Key": "team", "Value": "vision"}]
    arn = tuner.tune("random", tags=tags)["HyperParameterTuningJobArn"]

    job = tuner.ended("random")

    trained = tuner.trained("random")
    assert arn.endswith(":hyper-parameter-tuning-job/random")
    assert job["HyperParameterTuningJobStatus"] == "Completed", (
        job["FailureReason"],
        [one.get("FailureReason") for one in trained],
    )
    assert job["TrainingJobStatusCounters"] == {
        "Completed": 3,
        "InProgress": 0,
        "RetryableError": 0,
        "NonRetryableError": 0,
        "Stopped": 0,
    }
    assert job["ObjectiveStatusCounters"] == {"Succeeded": 3, "Pending": 0, "Failed": 0}
    assert [
        re.fullmatch(r"random-00[123]-[0-9a-f]{8}", one["TrainingJobName"]) is None for one in trained
    ] == [False] * 3
    for one in trained:
        x = float(one["TunedHyperParameters"]["x"])
        final = one["FinalHyperParameterTuningJobObjectiveMetric"]
        assert (final["Type"], final["MetricName"]) == ("Minimize", "loss")
        assert final["Value"] == pytest.approx((x - 0.3) ** 2, rel=1e-5)
    best = min(trained, key=lambda one: one["FinalHyperParameterTuningJobObjectiveMetric"]["Value"])
    assert job["BestTrainingJob"] == best

    training_job = tuner.client.describe_training_job(TrainingJobName=best["TrainingJobName"])
    assert training_job["TuningJobArn"] == arn
    assert training_job["HyperParameters"]["_tuning_objective_metric"] == "loss"
    assert training_job["HyperParameters"]["x"] == best["TunedHyperParameters"]["x"]
    for resource in (arn, training_job["TrainingJobArn"]):
        assert tuner.client.list_tags(ResourceArn=resource)["Tags"] == tags


def test_a_grid_search_tries_every_combination_once_with_at_most_so_many_at_a_time(tuner):
    tuner.tune("grid", strategy="Grid", jobs=None, ranges=one_of(x=["0.1", "0.2", "0.3"], kind=["a", "b"]))

    tuner.ended("grid")

    trained = tuner.trained("grid", SortBy="CreationTime")
    assert sorted(tuple(one["TunedHyperParameters"].values()) for one in trained) == [
        (x, kind) for x in ("0.1", "0.2", "0.3") for kind in ("a", "b")
    ]
    for one in trained:
        beside = [
            other
            for other in trained
            if other["CreationTime"] <= one["CreationTime"] <= other["TrainingEndTime"]
        ]
        assert len(beside) <= 2


def test_several_definitions_take_turns_and_the_best_is_the_best_of_all(tuner):
    config = tuner.request("several")["HyperParameterTuningJobConfig"]
    ranges, objective = config.pop("ParameterRanges"), config.pop("HyperParameterTuningJobObjective")
    config["ResourceLimits"] = {"MaxNumberOfTrainingJobs": 4, "MaxParallelTrainingJobs": 2}
    definitions = [
        tuner.definition(text, DefinitionName=name, TuningObjective=objective, HyperParameterRanges=ranges)
        for name, text in (("near", QUADRATIC), ("far", QUADRATIC.replace("0.3", "30")))
    ]

    tuner.client.create_hyper_parameter_tuning_job(
        HyperParameterTuningJobName="several",
        HyperParameterTuningJobConfig=config,
        TrainingJobDefinitions=definitions,
    )

    job = tuner.ended("several")
    names = [one["TrainingJobDefinitionName"] for one in tuner.trained("several")]
    assert names == ["near", "far", "near", "far"]
    assert job["BestTrainingJob"]["TrainingJobDefinitionName"] == "near"


def test_training_jobs_are_listed_by_status_objective_and_page(tuner):
    tuner.tune("listed", jobs=4, parallel=4)
    tuner.ended("listed")

    def value(one):
        return one["FinalHyperParameterTuningJobObjectiveMetric"]["Value"]

    how = [(one["TrainingJobStatus"], one.get("FailureReason")) for one in tuner.trained("listed")]
    assert how == [("Completed", None)] * 4
    by_value = tuner.trained("listed", SortBy="FinalObjectiveMetricValue", SortOrder="Descending")
    paginator = tuner.client.get_paginator("list_training_jobs_for_hyper_parameter_tuning_job")
    pages = list(paginator.paginate(HyperParameterTuningJobName="listed", PaginationConfig={"PageSize": 3}))

    assert [value(one) for one in by_value] == sorted((value(one) for one in by_value), reverse=True)
    assert [len(page["TrainingJobSummaries"]) for page in pages] == [3, 1]
    assert [one for page in pages for one in page["TrainingJobSummaries"]] == tuner.trained("listed")
    assert len(tuner.trained("listed", StatusEquals="Completed")) == 4
    assert tuner.trained("listed", StatusEquals="Failed") == []


def test_tuning_jobs_are_listed_filtered_and_deleted(tuner):
    for name in ("list-b", "list-a", "list-c"):
        tuner.tune(name, jobs=1)
    for name in ("list-a", "list-b", "list-c"):
        tuner.ended(name)

    def listed(**given):
        answer = tuner.client.list_hyper_parameter_tuning_jobs(NameContains="list-", **given)
        return [one["HyperParameterTuningJobName"] for one in answer["HyperParameterTuningJobSummaries"]]

    summary = tuner.client.list_hyper_parameter_tuning_jobs(NameContains="list-a")
    (summary,) = summary["HyperParameterTuningJobSummaries"]
    trained = tuner.trained("list-b")[0]["TrainingJobName"]

    assert listed() == ["list-a", "list-b", "list-c"]
    assert listed(SortBy="CreationTime", SortOrder="Descending") == ["list-c", "list-a", "list-b"]
    assert listed(StatusEquals="InProgress") == []
    assert listed(MaxResults=2) == ["list-a", "list-b"]
    assert summary["Strategy"] == "Random"
    assert summary["ResourceLimits"] == {"MaxNumberOfTrainingJobs": 1, "MaxParallelTrainingJobs": 2}
    assert summary["ObjectiveStatusCounters"]["Succeeded"] == 1

    tuner.client.delete_hyper_parameter_tuning_job(HyperParameterTuningJobName="list-b")
    assert listed() == ["list-a", "list-c"]
    assert tuner.client.describe_training_job(TrainingJobName=trained)["TrainingJobStatus"] == "Completed"
    with pytest.raises(ClientError, match="ResourceNotFound"):
        tuner.describe("list-b")


def test_a_tuning_job_gives_up_when_no_training_job_succeeds(tuner):
    tuner.tune("hopeless", FAILING, jobs=20, parallel=1)

    job = tuner.ended("hopeless")

    assert job["HyperParameterTuningJobStatus"] == "Failed"
    assert job["FailureReason"] == (
        "No training job succeeded after 5 attempts. Please take a look at the training job failures to get "
        "more details."
    )
    assert job["TrainingJobStatusCounters"]["NonRetryableError"] == 5
    assert {one["ObjectiveStatus"] for one in tuner.trained("hopeless")} == {"Failed"}
    assert all("no luck" in one["FailureReason"] for one in tuner.trained("hopeless"))


def test_a_tuning_job_fails_when_no_training_job_prints_the_objective(tuner):
    tuner.tune("silent", "print('nothing')", jobs=2)

    job = tuner.ended("silent")

    assert job["HyperParameterTuningJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("No objective metrics found after running 2 training jobs.")


def test_a_training_job_that_cannot_be_created_ends_the_tuning_job_with_its_reason(tuner):
    request = tuner.request("no-source")
    static = request["TrainingJobDefinition"]["StaticHyperParameters"]
    static["sagemaker_submit_directory"] = f"s3://{BUCKET}/none.tar.gz"

    tuner.client.create_hyper_parameter_tuning_job(**request)

    job = tuner.ended("no-source")
    assert job["HyperParameterTuningJobStatus"] == "Failed"
    assert "none.tar.gz" in job["FailureReason"]
    assert tuner.trained("no-source") == []


def test_a_tuning_job_is_complete_once_the_objective_has_reached_its_target(tuner):
    criteria = {"TargetObjectiveMetricValue": 0.5}

    tuner.tune("target", jobs=50, parallel=1, TuningJobCompletionCriteria=criteria)

    job = tuner.ended("target")
    assert job["HyperParameterTuningJobStatus"] == "Completed"
    assert job["TrainingJobStatusCounters"]["Completed"] == 1


def test_a_tuning_job_is_complete_once_the_objective_does_not_improve(tuner):
    criteria = {"BestObjectiveNotImproving": {"MaxNumberOfTrainingJobsNotImproving": 3}}

    tuner.tune("still", "print('loss=1.0')", jobs=50, parallel=1, TuningJobCompletionCriteria=criteria)

    job = tuner.ended("still")
    assert job["TrainingJobStatusCounters"]["Completed"] == 4
    assert job["TuningJobCompletionDetails"] == {"NumberOfTrainingJobsObjectiveNotImproving": 3}


def test_a_training_job_that_promises_nothing_is_stopped_early(tuner):
    tuner.tune(
        "early",
        EPOCHS,
        jobs=None,
        parallel=1,
        strategy="Grid",
        ranges=one_of(x=["1", "9"]),
        TrainingJobEarlyStoppingType="Auto",
    )

    job = tuner.ended("early")

    assert job["HyperParameterTuningJobStatus"] == "Completed"
    assert job["BestTrainingJob"]["TunedHyperParameters"] == {"x": "1"}
    assert [(one["TrainingJobStatus"], one["ObjectiveStatus"]) for one in tuner.trained("early")] == [
        ("Completed", "Succeeded"),
        ("Stopped", "Succeeded"),
    ]


def test_stopping_a_tuning_job_stops_its_training_jobs(tuner):
    tuner.tune("stopped", ENDLESS, jobs=9, parallel=2)
    tuner.until("stopped", lambda job: job["TrainingJobStatusCounters"]["InProgress"] == 2)

    tuner.client.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName="stopped")

    job = tuner.ended("stopped")
    assert job["HyperParameterTuningJobStatus"] == "Stopped"
    assert job["TrainingJobStatusCounters"]["Stopped"] == 2
    assert [one["TrainingJobStatus"] for one in tuner.trained("stopped")] == ["Stopped", "Stopped"]
    with pytest.raises(ClientError, match="is in status Stopped"):
        tuner.client.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName="stopped")


X = between("x", 0, 1)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"strategy": "Grid", "jobs": None}, "Grid supports categorical"),
        ({"strategy": "Grid", "jobs": 5, "ranges": one_of(x=["1", "2"])}, "number of combinations"),
        ({"strategy": "Hyperband"}, "Strategy Hyperband is not supported by the local runtime"),
        ({"jobs": 10, "ranges": one_of(x=["1", "2", "3"])}, r"ranges \[3.0\] must be equal or greater"),
        ({"ranges": {"ContinuousParameterRanges": []}}, "At least one hyperparameter range"),
        ({"ranges": between("sagemaker_program", 0, 1)}, "both static and tuned"),
        ({"ranges": between("x", 0, 1, scaling="Logarithmic")}, "values above 0"),
        ({"ranges": between("x", 0, 1, scaling="ReverseLogarithmic")}, "within 0 <= x < 1.0"),
        ({"ranges": between("x", 2, 1)}, "must not be above its MaxValue"),
        ({"ranges": between("x", 0.5, 1, kind="Integer")}, "must have integer values"),
        ({"ranges": {**X, **one_of(x=["1"])}}, "more than one range"),
        ({"ranges": {**X, "AutoParameters": [{"Name": "y", "ValueHint": "1"}]}}, "AutoParameters is not"),
        ({"jobs": None}, "MaxNumberOfTrainingJobs is required"),
        ({"jobs": 10_001}, "ResourceLimitExceeded.*10000"),
        (
            {"HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "error"}},
            "A metric is required for this hyperparameter tuning job objective",
        ),
    ],
)
def test_what_sagemaker_or_we_cannot_tune_is_refused(tuner, given, said):
    error = tuner.refused(tuner.request("refused", **given))

    assert re.search(said, f"{error['Code']}: {error['Message']}"), error


def test_the_first_of_the_instances_to_choose_from_is_taken(tuner):
    request = tuner.request("instances", jobs=1)
    definition = request["TrainingJobDefinition"]
    twice = {**definition, "HyperParameterTuningResourceConfig": {}}
    both = tuner.refused({**request, "TrainingJobDefinition": twice})
    del definition["ResourceConfig"]
    definition["HyperParameterTuningResourceConfig"] = {
        "AllocationStrategy": "Prioritized",
        "InstanceConfigs": [
            {"InstanceType": kind, "InstanceCount": 1, "VolumeSizeInGB": 2}
            for kind in ("ml.m5.large", "ml.m4.xlarge")
        ],
    }

    tuner.client.create_hyper_parameter_tuning_job(**request)

    assert tuner.ended("instances")["HyperParameterTuningJobStatus"] == "Completed"
    (one,) = tuner.trained("instances")
    job = tuner.client.describe_training_job(TrainingJobName=one["TrainingJobName"])
    assert job["ResourceConfig"] == {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 2}
    assert "and not both" in both["Message"]


def test_names_are_unique_and_short_and_parents_are_refused(tuner):
    tuner.tune("unique", jobs=1)
    parents = {"ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": "unique"}]}

    assert tuner.refused(tuner.request("unique"))["Code"] == "ResourceInUse"
    assert tuner.refused(tuner.request("under_score"))["Code"] == "ValidationException"
    warm = {**parents, "WarmStartType": "TransferLearning"}
    assert "WarmStartConfig" in tuner.refused({**tuner.request("w"), "WarmStartConfig": warm})["Message"]


def test_step_functions_waits_for_a_tuning_job_and_stops_it(tuner):
    states = tuner.runtime.client("stepfunctions")

    def machine(name, text):
        task = {
            "Type": "Task",
            "Resource": "arn:aws:states:::sagemaker:createHyperParameterTuningJob.sync",
            "Parameters": tuner.request(name, text, jobs=2),
            "End": True,
        }
        definition = {"StartAt": "Tune", "States": {"Tune": task}}
        arn = states.create_state_machine(name=name, definition=json.dumps(definition), roleArn=ROLE)
        return states.start_execution(stateMachineArn=arn["stateMachineArn"])["executionArn"]

    waits = machine("sync", QUADRATIC)
    deadline = time.monotonic() + PATIENCE
    while (execution := states.describe_execution(executionArn=waits))["status"] == "RUNNING":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    output = json.loads(execution["output"])
    stops = machine("sync-stop", ENDLESS)
    while not tuner.client.list_hyper_parameter_tuning_jobs(NameContains="sync-stop")[
        "HyperParameterTuningJobSummaries"
    ]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    tuner.until("sync-stop", lambda job: job["TrainingJobStatusCounters"]["InProgress"] > 0)
    states.stop_execution(executionArn=stops)

    assert execution["status"] == "SUCCEEDED"
    assert output["HyperParameterTuningJobStatus"] == "Completed"
    assert output["BestTrainingJob"]["TrainingJobName"] in {
        one["TrainingJobName"] for one in tuner.trained("sync")
    }
    assert tuner.ended("sync-stop")["HyperParameterTuningJobStatus"] == "Stopped"


def test_a_tuning_job_goes_on_after_kill_as_if_nothing_had_been(stopped_local):
    stopped_local.start()
    tuner = Tuner(stopped_local)
    tuner.tune("killed", jobs=9, parallel=1, strategy="Bayesian")
    tuner.until("killed", lambda job: job["TrainingJobStatusCounters"]["Completed"] >= 3)

    stopped_local.restart()

    job, trained = tuner.ended("killed"), tuner.trained("killed")
    listed = tuner.client.list_training_jobs(NameContains="killed-", MaxResults=100)["TrainingJobSummaries"]
    assert job["HyperParameterTuningJobStatus"] == "Completed"
    assert job["TrainingJobStatusCounters"]["Completed"] == 9
    assert [one["TrainingJobName"][:10] for one in trained] == [
        f"killed-{number:03d}" for number in range(1, 10)
    ]
    assert {one["TrainingJobName"] for one in listed} == {one["TrainingJobName"] for one in trained}
    trials = []
    for number, one in enumerate(trained):
        space = [Range(name="x", low=0.0, high=1.0)]
        expected = bayesian(space, trials, seed=7, number=number, maximize=False)
        assert one["TunedHyperParameters"] == expected
        value = (float(expected["x"]) - 0.3) ** 2
        trials.append(Trial(values=expected, objective=value))
