"""After `kill -9`: every execution goes on from the last thing that had happened, and nothing happens twice.

The killed server is what is on disk at that moment; `tests/local/test_restart.py` kills real processes.
"""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.local.states.conftest import Ended, Machines, copy_database, only
from tests.local.states.test_branches import branch, item_map
from tests.local.states.test_task import CALLBACK, FUNCTION, TRAIN, Training, asked, failing


def story(ended: Ended) -> list[tuple[int, int, str, str]]:
    """The history without its times."""
    return [
        (
            event["id"],
            event["previousEventId"],
            event["type"],
            json.dumps({name: value for name, value in event.items() if name.endswith("EventDetails")}),
        )
        for event in ended.events
    ]


async def test_a_wait_goes_on_with_what_is_left_of_it(machines: Machines, tmp_path: Path) -> None:
    definition = only({"Type": "Wait", "Seconds": 2})
    began = time.monotonic()
    undisturbed = await machines.run(definition)
    execution = machines.start(definition)
    await machines.reaches(execution, "WaitStateEntered")
    started = time.monotonic()
    await asyncio.sleep(1)

    again = await machines.killed(tmp_path / "again")
    ended = await again.end(execution)

    assert 1.5 < time.monotonic() - started < 3 < time.monotonic() - began
    assert story(ended) == story(undisturbed)
    await again.close()


async def test_a_wait_that_ended_while_nothing_ran_is_over(machines: Machines, tmp_path: Path) -> None:
    execution = machines.start(only({"Type": "Wait", "Seconds": 1}))
    await machines.reaches(execution, "WaitStateEntered")
    await asyncio.sleep(1.1)

    again = await machines.killed(tmp_path / "again")
    began = time.monotonic()
    ended = await again.end(execution)

    assert ended.status == "SUCCEEDED"
    assert time.monotonic() - began < 0.5
    await again.close()


async def test_a_token_that_was_handed_out_still_works(machines: Machines, tmp_path: Path) -> None:
    execution, token = await asked(machines, CALLBACK)

    again = await machines.killed(tmp_path / "again")
    again.api.send_task_success(taskToken=token, output='"yes"')
    ended = await again.end(execution)

    assert ended.output == "yes"
    assert ended.types.count("TaskSubmitted") == 1
    await again.close()


async def test_an_answer_that_was_accepted_counts(machines: Machines, tmp_path: Path) -> None:
    """Killed after SendTaskSuccess was answered, before the execution went on."""
    execution, token = await asked(machines, CALLBACK)
    machines.api.send_task_success(taskToken=token, output='"yes"')
    machines.store.commit()

    again = await machines.killed(tmp_path / "again")

    assert (await again.end(execution)).output == "yes"
    await again.close()


async def test_a_job_is_found_again_and_not_run_twice(machines: Machines, tmp_path: Path) -> None:
    training = Training(machines)
    execution = machines.start(only(TRAIN))
    await machines.reaches(execution, "TaskSubmitted")

    again = await machines.killed(tmp_path / "again")
    training.machines = again
    await asyncio.sleep(0.05)
    training.end("Completed")
    ended = await again.end(execution)

    assert ended.output["TrainingJobStatus"] == "Completed"
    assert training.calls.count("create") == 1
    await again.close()


async def test_a_job_that_ended_while_nothing_ran_is_noticed(machines: Machines, tmp_path: Path) -> None:
    training = Training(machines)
    execution = machines.start(only(TRAIN))
    await machines.reaches(execution, "TaskSubmitted")
    assert training.job is not None
    training.job["TrainingJobStatus"] = "Completed"

    again = await machines.killed(tmp_path / "again")

    assert (await again.end(execution)).output["TrainingJobStatus"] == "Completed"
    await again.close()


async def test_a_job_whose_start_was_not_yet_on_record_is_not_started_again(
    machines: Machines, tmp_path: Path
) -> None:
    """Killed between the service's answer and the engine's record of it."""
    training = Training(machines)
    created = asyncio.Event()

    async def create(**request: Any) -> dict[str, Any]:
        training.create(**request)
        created.set()
        await asyncio.sleep(60)
        return {}

    machines.operations["sagemaker", "CreateTrainingJob"] = create
    execution = machines.start(only(TRAIN))
    await created.wait()

    again = await machines.killed(tmp_path / "again")
    training.machines = again
    again.operations["sagemaker", "CreateTrainingJob"] = training.create
    await again.reaches(execution, "TaskSubmitted")
    training.end("Completed")
    ended = await again.end(execution)

    assert ended.output["TrainingJobStatus"] == "Completed"
    assert training.calls.count("create") == 1
    await again.close()


async def test_random_values_stay_what_they_were(machines: Machines, tmp_path: Path) -> None:
    definition = {
        "StartAt": "Draw",
        "States": {
            "Draw": {"Type": "Pass", "Parameters": {"id.$": "States.UUID()"}, "Next": "Wait"},
            "Wait": {"Type": "Wait", "Seconds": 1, "End": True},
        },
    }
    execution = machines.start(definition)
    await machines.reaches(execution, "WaitStateEntered")
    drawn = json.loads(machines.history(execution)[2]["stateExitedEventDetails"]["output"])

    again = await machines.killed(tmp_path / "again")

    assert (await again.end(execution)).output == drawn
    await again.close()


async def test_retries_that_were_made_count(machines: Machines, tmp_path: Path) -> None:
    machines.operations["lambda", "Invoke"] = failing("Busy")
    retry = [{"ErrorEquals": ["Busy"], "MaxAttempts": 2, "IntervalSeconds": 1, "BackoffRate": 1.0}]
    definition = only({"Type": "Task", "Resource": FUNCTION, "Retry": retry})
    undisturbed = await machines.run(definition)
    execution = machines.start(definition)
    await machines.reaches(execution, "LambdaFunctionFailed", 2)

    again = await machines.killed(tmp_path / "again")
    ended = await again.end(execution)

    assert story(ended) == story(undisturbed)
    await again.close()


SIDE_BY_SIDE = {
    "Type": "Parallel",
    "Branches": [
        branch(
            {"Type": "Pass", "Assign": {"n": 1}},
            {"Type": "Wait", "Seconds": 1},
            {"Type": "Pass", "Parameters": {"n.$": "$n"}},
        ),
        branch(
            item_map({"Type": "Pass"}, {"Type": "Wait", "Seconds": 2}, {"Type": "Pass"}, MaxConcurrency=1)
        ),
        branch({"Type": "Pass"}),
    ],
}


@pytest.mark.parametrize(
    ("event", "count"), [("PassStateExited", 2), ("WaitStateExited", 1), ("WaitStateExited", 2)]
)
async def test_branches_and_iterations_go_on_where_each_was(
    machines: Machines, tmp_path: Path, event: str, count: int
) -> None:
    undisturbed = machines.start(only(SIDE_BY_SIDE), [1, 2], name="undisturbed")
    execution = machines.start(only(SIDE_BY_SIDE), [1, 2])
    await machines.reaches(execution, event, count)

    again = await machines.killed(tmp_path / "again")
    expected, ended = await again.end(undisturbed), await again.end(execution)

    assert ended.output == expected.output == [{"n": 1}, [1, 2], [1, 2]]
    assert sorted(ended.types) == sorted(expected.types)
    assert [event["id"] for event in ended.events] == list(range(1, len(ended.events) + 1))
    await again.close()


async def test_a_failure_in_a_branch_that_was_retried_is_not_lived_through_again(
    machines: Machines, tmp_path: Path
) -> None:
    state = {
        "Type": "Parallel",
        "Branches": [branch({"Type": "Fail", "Error": "Bad"}), branch({"Type": "Pass"})],
        "Retry": [{"ErrorEquals": ["Bad"], "MaxAttempts": 2, "IntervalSeconds": 1, "BackoffRate": 1.0}],
    }
    execution = machines.start(only(state))
    await machines.reaches(execution, "FailStateEntered", 2)

    again = await machines.killed(tmp_path / "again")
    ended = await again.end(execution)

    assert (ended.status, ended.error) == ("FAILED", "Bad")
    assert ended.types.count("ParallelStateStarted") == 3
    assert ended.types.count("ParallelStateFailed") == 1
    await again.close()


async def test_a_stopped_server_leaves_executions_as_they_are(machines: Machines, tmp_path: Path) -> None:
    """A clean stop, as on SIGTERM, is no end of what runs: tokens stay, jobs are not stopped."""
    execution, token = await asked(machines, CALLBACK)
    training = Training(machines)
    training_execution = machines.start(only(TRAIN))
    await machines.reaches(training_execution, "TaskSubmitted")
    await machines.close()

    again = Machines(machines.path, machines.operations)
    await again.api.start()
    training.machines = again
    again.api.send_task_success(taskToken=token, output="1")
    training.end("Completed")

    assert (await again.end(execution)).output == 1
    assert (await again.end(training_execution)).status == "SUCCEEDED"
    assert "stop" not in training.calls
    await again.close()


async def test_what_has_ended_stays_as_it_was(machines: Machines, tmp_path: Path) -> None:
    before = await machines.run(only({"Type": "Pass"}), 1)

    again = await machines.killed(tmp_path / "again")

    assert again.api.engine.running == {}
    assert await again.end(before.arn) == before
    await again.close()


async def test_a_running_execution_keeps_its_definition(machines: Machines, tmp_path: Path) -> None:
    definition = {
        "StartAt": "Wait",
        "States": {
            "Wait": {"Type": "Wait", "Seconds": 1, "Next": "Old"},
            "Old": {"Type": "Pass", "Result": "old", "End": True},
        },
    }
    execution = machines.start(definition)
    await machines.reaches(execution, "WaitStateEntered")
    machine = execution.replace(":execution:", ":stateMachine:").rpartition(":")[0]
    machines.api.update_state_machine(
        stateMachineArn=machine, definition=json.dumps(only({"Type": "Succeed"}))
    )
    machines.store.commit()

    again = await machines.killed(tmp_path / "again")

    assert (await again.end(execution)).output == "old"
    await again.close()


async def test_an_answer_is_on_disk_with_what_came_of_it(machines: Machines, tmp_path: Path) -> None:
    """Killed at each commit: a token is not gone before the journal has its answer."""
    tokens = list[str]()

    def ask(*, Payload: bytes, **_: Any) -> dict[str, Any]:
        tokens.append(json.loads(Payload)["token"])
        return {"StatusCode": 200, "Payload": b"null"}

    machines.operations["lambda", "Invoke"] = ask
    definition = branch(CALLBACK, {"Type": "Wait", "Seconds": 600})
    executions = [machines.start(definition, name=f"run-{number}") for number in range(3)]
    for execution in executions:
        await machines.reaches(execution, "TaskSubmitted")
    commit = machines.store.commit
    moments: list[Path] = []

    def watched() -> None:
        commit()
        moments.append(tmp_path / f"moment-{len(moments)}")
        copy_database(machines.path, moments[-1])

    machines.store.commit = watched  # type: ignore[method-assign]
    for token in tokens:
        machines.api.send_task_success(taskToken=token, output='"yes"')
    for execution in executions:
        await machines.reaches(execution, "WaitStateEntered")
    await machines.close()

    for moment in moments:
        again = Machines(moment, machines.operations)
        await again.api.start()
        for execution in executions:
            await again.reaches(execution, "WaitStateEntered")
        await again.close()


async def test_a_job_that_nobody_waits_for_is_not_started_again_either(
    machines: Machines, tmp_path: Path
) -> None:
    training = Training(machines)
    created = asyncio.Event()

    async def create(**request: Any) -> dict[str, Any]:
        training.create(**request)
        created.set()
        await asyncio.sleep(60)
        return {}

    machines.operations["sagemaker", "CreateTrainingJob"] = create
    resource = "arn:aws:states:::aws-sdk:sagemaker:createTrainingJob"
    execution = machines.start(only({**TRAIN, "Resource": resource}))
    await created.wait()

    again = await machines.killed(tmp_path / "again")
    training.machines = again
    again.operations["sagemaker", "CreateTrainingJob"] = training.create
    ended = await again.end(execution)

    assert ended.status == "SUCCEEDED"
    assert list(ended.output) == ["TrainingJobArn"]
    assert training.calls.count("create") == 1
    await again.close()
