"""Names that collide, and names that grow too long."""

from typing import Any

import pytest

from stagegate.doctor import Finding
from tests.doctor.examples import COUNTED, JOB, call, machine, named, task, training, wrong


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ({"TrainingJobName": "train"}, "is 'train' each time"),
        ({"TrainingJobName.$": "$.JobName"}, "is the same for a retry or a redrive"),
        ({"TrainingJobName.$": "$$.Execution.Name"}, "is the same for a retry or a redrive"),
        (
            {"TrainingJobName.$": "States.Format('{}-{}', $.RunId, $$.State.RetryCount)"},
            "is the same for a retry or a redrive",
        ),
        (
            {"TrainingJobName.$": "States.Format('{}-{}', $$.Execution.RedriveCount, $$.State.RetryCount)"},
            "is the same in each execution",
        ),
    ],
)
def test_a_name_that_is_taken_already_is_found(name: dict[str, Any], said: str) -> None:
    (found,) = named("job-name-collides", training(name))

    assert (found.file, found.where) == ("0.json", "First")
    assert said in found.wrong


@pytest.mark.parametrize(
    "name",
    [{"TrainingJobName.$": COUNTED}, {"TrainingJobName.$": "States.Format('train-{}', States.UUID())"}, {}],
)
def test_a_name_of_its_own_for_each_attempt_is_none(name: dict[str, Any]) -> None:
    assert named("job-name-collides", training(name)) == []


def test_names_in_jsonata_are_understood() -> None:
    def found(name: str) -> list[Finding]:
        first = call("states:startExecution.sync:2", QueryLanguage="JSONata", Arguments={"Name": name})
        return named("job-name-collides", machine(first))

    counted = "$states.input.id & $states.context.State.RetryCount & $states.context.Execution.RedriveCount"
    assert found("child") and found("{% $states.input.id %}")
    assert found("{% $uuid() %}") == found(f"{{% {counted} %}}") == []


@pytest.mark.parametrize(
    ("api", "member"),
    [
        ("sagemaker:createHyperParameterTuningJob.sync", "HyperParameterTuningJobName"),
        ("aws-sdk:sagemaker:createModelPackage", "ModelPackageName"),
        ("aws-sdk:sfn:startExecution", "Name"),
        ("aws-sdk:cloudformation:createChangeSet", "ChangeSetName"),
    ],
)
def test_other_things_are_named_once_too(api: str, member: str) -> None:
    assert named("job-name-collides", machine(call(api, Parameters={member: "release"})))


def test_a_retry_with_the_same_token_is_the_same_request_and_a_redrive_is_not() -> None:
    def found(name: str) -> list[Finding]:
        parameters = {"ChangeSetName.$": name, "ClientToken.$": name}
        return named(
            "job-name-collides",
            machine(call("aws-sdk:cloudformation:createChangeSet", Parameters=parameters)),
        )

    assert found("States.Format('release-{}-{}', $.RunId, $$.Execution.RedriveCount)") == []
    assert found("$.RunId")


def test_names_in_branches_and_in_maps_are_found() -> None:
    inner = machine(task(JOB, Parameters={"TrainingJobName": "train"}))
    parallel = {"Type": "Parallel", "Branches": [inner], "End": True}
    mapped = {"Type": "Map", "ItemProcessor": inner, "End": True}

    assert named("job-name-collides", machine(parallel)) and named("job-name-collides", machine(mapped))


def test_a_name_that_is_the_same_for_each_item_of_a_map_is_found() -> None:
    def found(value: str, **processor: Any) -> list[str]:
        name = f"States.Format('{{}}-{{}}-{{}}', {value}, $$.Execution.RedriveCount, $$.State.RetryCount)"
        inner = training({"TrainingJobName.$": name}) | processor
        return wrong("job-name-collides", machine({"Type": "Map", "ItemProcessor": inner, "End": True}))

    assert "is the same for each item" in found("$$.Execution.Name")[0]
    assert found("$.RunId") == []
    assert found("$$.Execution.Name", ProcessorConfig={"Mode": "DISTRIBUTED"}) == []


@pytest.mark.parametrize(
    ("name", "length"),
    [
        ({"TrainingJobName.$": "States.Format('{}-{}', $$.Execution.Name, $$.State.RetryCount)"}, 82),
        ({"TrainingJobName.$": "States.Format('scene-classifier-training-job-{}', States.UUID())"}, 66),
        ({"TrainingJobName": "a" * 64}, 64),
    ],
)
def test_a_name_that_grows_beyond_the_limit_is_found(name: dict[str, Any], length: int) -> None:
    (said,) = wrong("job-name-too-long", training(name))

    assert said.startswith(
        f"TrainingJobName of sagemaker:createTrainingJob.sync may have {length} characters, "
    )


def test_a_tuning_job_has_the_shorter_name() -> None:
    name = {"HyperParameterTuningJobName.$": "States.Format('{}', States.UUID())"}
    tuning = machine(call("sagemaker:createHyperParameterTuningJob.sync", Parameters=name))

    assert "36 characters, and the API takes 32" in wrong("job-name-too-long", tuning)[0]


def test_a_long_name_in_jsonata_is_found() -> None:
    arguments = {"TrainingJobName": "{% 'train-' & $states.context.Execution.Name %}"}

    assert named("job-name-too-long", machine(task(JOB, QueryLanguage="JSONata", Arguments=arguments)))


@pytest.mark.parametrize(
    "name",
    [
        {"TrainingJobName.$": COUNTED},
        {"TrainingJobName.$": "States.Format('train-{}', States.UUID())"},
        {"TrainingJobName": "${Project}-train"},
    ],
)
def test_a_name_that_fits_is_none(name: dict[str, Any]) -> None:
    assert named("job-name-too-long", training(name)) == []
