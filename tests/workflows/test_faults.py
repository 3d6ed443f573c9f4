"""How each state machine recovers from what goes wrong: injected as `stagegate local --faults` does it.

A machine has its ways through (`WAYS`), each with how it ends; whatever passes must not change that. Another
machine joins by its ways; what is read from definitions holds for all of statemachines/ anyway.
"""

import json
import tomllib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws

from stagegate.local import fault_errors
from stagegate.local.fault_file import parse_faults
from stagegate.local.faults import Faults
from stagegate.local.service import AnswerLost
from stagegate.local.states.conversion import as_state_failed
from stagegate.local.states.integrations import parse_resource
from tests.workflows.account import BEFORE, COMMIT, RELEASE, Account, Integrated, both_serving
from tests.workflows.conftest import MACHINES, ROOT, read_machine
from tests.workflows.simulation import PACKAGE, REJECTED, RUN, Ended, execute

BUILD, CI, DEPLOY = "model-build", "ci", "model-deploy"
STARTED = {BUILD: RUN, CI: {"EventId": "1", "Commit": COMMIT}, DEPLOY: {"ModelPackageArn": PACKAGE}}


def faults(text: str) -> Faults:
    return parse_faults(tomllib.loads(text), name="faults.toml")


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way through a machine: the account that it begins with, and what is so at its end."""

    machine: str
    account: Callable[[], Account]
    given: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    serving: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, str] = field(default_factory=dict)
    started: tuple[str, ...] = ()
    """The state machines of the runs that it starts."""

    async def go(self, folder: Path, account: Account) -> Ended:
        given = STARTED[self.machine] | self.given
        with mock_aws() if self.machine == CI else nullcontext():
            return await execute(folder, self.machine, account, given, ExecutionMode="SUPERSEDED")

    def check(self, ended: Ended, account: Account) -> None:
        """It ended as it should, and nothing half-done is left."""
        assert (ended.status, ended.error) == ("FAILED" if self.error else "SUCCEEDED", self.error), (
            ended.cause
        )
        assert account.serving == self.serving
        assert account.statuses == self.statuses
        assert account.planned == {}
        if isinstance(account, Integrated):
            assert tuple(account.started.values()) == self.started
            # A topic takes a message twice whose first answer was lost.
            assert set(account.told) == ({f"stagegate ci: {self.error}"} if self.error else set())
        assert len(account.packages) == len(self.statuses)
        folders = [build_id.rpartition("-")[2] for build_id in account.builds]
        assert len(folders) == len(set(folders))
        assert {job.get(f"{kind}JobStatus") for job in account.jobs.values() for kind in KINDS} <= ENDED


KINDS, ENDED = ("Training", "Processing"), {"Completed", "Failed", None}
PLATFORM = "stagegate-platform"
SERVED = {"stagegate-staging": PACKAGE, "stagegate-production": PACKAGE}
WAYS = {
    "a model is built and approved": Way(machine=BUILD, account=Account, statuses={PACKAGE: "Approved"}),
    "a model is built and rejected": Way(
        machine=BUILD,
        account=lambda: Account(decision=REJECTED),
        error="ModelRejected",
        statuses={PACKAGE: "Rejected"},
    ),
    "a first release": Way(machine=DEPLOY, account=Account, serving=SERVED),
    "an update": Way(machine=DEPLOY, account=lambda: Account(serving=both_serving()), serving=SERVED),
    "an update after which staging goes": Way(
        machine=DEPLOY,
        account=lambda: Account(serving=both_serving()),
        given={"RemoveStaging": True},
        serving={"stagegate-production": PACKAGE},
    ),
    "a release that is rejected": Way(
        machine=DEPLOY,
        account=lambda: Account(serving=both_serving(), decision=REJECTED),
        error="ProductionRejected",
        serving={"stagegate-staging": PACKAGE, "stagegate-production": BEFORE},
    ),
    "an update that is brought back": Way(
        machine=DEPLOY,
        account=lambda: Account(serving=both_serving(), failing=("production",)),
        error="ProductionTestsFailed",
        serving={"stagegate-staging": PACKAGE, "stagegate-production": BEFORE},
    ),
    "a first release that is taken away": Way(
        machine=DEPLOY,
        account=lambda: Account(failing=("production",)),
        error="ProductionTestsFailed",
        serving={"stagegate-staging": PACKAGE},
    ),
    "a commit": Way(
        machine=CI,
        account=lambda: Integrated(serving={PLATFORM: BEFORE}),
        serving={PLATFORM: PACKAGE},
        started=("the-ModelBuildArn",),
    ),
    "a commit that deploys the champion": Way(
        machine=CI,
        account=lambda: Integrated(
            serving={PLATFORM: BEFORE, "stagegate-production": BEFORE},
            release=RELEASE | {"Start": "model-deploy"},
        ),
        serving={PLATFORM: PACKAGE, "stagegate-production": BEFORE},
        started=("the-ModelDeployArn",),
    ),
    "a commit that does not pass": Way(
        machine=CI,
        account=lambda: Integrated(serving={PLATFORM: BEFORE}, failing=("build",)),
        error="BuildFailed",
        serving={PLATFORM: BEFORE},
    ),
}
TWICE_OF_THREE = [number for number in range(1, 500) if number % 3]
EVERY_OTHER = list(range(1, 500, 2))
INTERNAL = {
    "cloudformation": "InternalFailure",
    "cloudwatch": "InternalServiceError",
    "codebuild": "InternalFailure",
    "codecommit": "InternalFailure",
    "dynamodb": "InternalServerError",
    "lambda": "ServiceException",
    "s3": "InternalError",
    "sagemaker": "InternalFailure",
    "sns": "InternalFailure",
    "stepfunctions": "InternalFailure",
}
ANY_TASK = "[[fault]]\noperation = '*:*'\nby = 'stepfunctions'\n"
PASSING = {
    "throttling, twice before each call": f"{ANY_TASK}error = 'throttled'\ncalls = {TWICE_OF_THREE}",
    "a lost request before each": f"{ANY_TASK}lose = 'request'\ncalls = {EVERY_OTHER}",
    "a lost answer before each": f"{ANY_TASK}lose = 'answer'\ncalls = {EVERY_OTHER}",
    "an internal error before each": "\n".join(
        f"[[fault]]\noperation = '{service}:*'\nby = 'stepfunctions'\nerror = '{code}'\ncalls = {EVERY_OTHER}"
        for service, code in INTERNAL.items()
    ),
}


def test_each_machine_has_a_way_that_succeeds_and_one_that_does_not() -> None:
    for machine in MACHINES:
        assert {bool(way.error) for way in WAYS.values() if way.machine == machine} == {True, False}


@pytest.mark.parametrize("what", PASSING)
@pytest.mark.parametrize("name", WAYS)
async def test_what_passes_changes_nothing(tmp_path: Path, delays: list[float], name: str, what: str) -> None:
    way = WAYS[name]
    account = way.account()
    account.faults = faults(PASSING[what])

    ended = await way.go(tmp_path, account)

    way.check(ended, account)
    assert sum(tally.fired for tally in account.faults.tallies) > 5
    assert len(delays) > 5
    if "twice" in what:
        assert all(first < second for first, second in zip(delays[::2], delays[1::2], strict=True))


def _tasks() -> list[Any]:
    names = sorted(path.name.partition(".")[0] for path in (ROOT / "statemachines").glob("*.asl.json"))
    return [
        pytest.param(machine["States"], name, id=f"{file}-{name}")
        for file in names
        for machine in [read_machine(file)]
        for name, state in machine["States"].items()
        if state["Type"] == "Task"
    ]


@pytest.mark.parametrize(("states", "name"), _tasks())
def test_each_task_is_tried_again_when_its_service_was_asked_too_often_or_is_not_there(
    states: dict[str, Any], name: str
) -> None:
    resource = parse_resource(states[name]["Resource"])
    throttle = fault_errors.error_of(resource.botocore, resource.operation, fault_errors.THROTTLED)
    retried = {error for retrier in states[name]["Retry"] for error in retrier["ErrorEquals"]}

    assert as_state_failed(resource, AnswerLost()).error in retried
    throttled = as_state_failed(resource, throttle)
    assert throttled.error in retried or _asks_again(states, name, throttled.cause or "")


def _asks_again(states: dict[str, Any], name: str, cause: str) -> bool:
    """Whether Catch leads to a Choice that knows a throttle by its cause, and waits, and comes back."""
    [catch] = [catch for catch in states[name]["Catch"] if catch["ErrorEquals"] == ["States.ALL"]]
    rules = [rule for choice in states[catch["Next"]]["Choices"] for rule in choice.get("Or", [choice])]
    is_known = any(
        cause.startswith(rule["StringMatches"].removesuffix("*")) for rule in rules if "StringMatches" in rule
    )
    targets = [choice["Next"] for choice in states[catch["Next"]]["Choices"]]
    waits = [states[target] for target in targets if states[target]["Type"] == "Wait"]
    return is_known and any(wait["Next"] == name for wait in waits)


JOBS = {
    "preprocess": ("CreateProcessingJob", "ProcessingJobName", "Preprocessing"),
    "train": ("CreateTrainingJob", "TrainingJobName", "Training"),
    "evaluate": ("CreateProcessingJob", "ProcessingJobName", "Evaluation"),
}


def job_fault(step: str, what: str) -> Faults:
    operation, member, _ = JOBS[step]
    where = f"where = {{ {member} = '*-{step}-*' }}"
    return faults(f"[[fault]]\noperation = 'sagemaker:{operation}'\n{where}\n{what}")


@pytest.mark.parametrize("step", JOBS)
async def test_a_job_waits_for_machines_that_others_have(
    tmp_path: Path, delays: list[float], step: str
) -> None:
    account = Account(faults=job_fault(step, "error = 'ResourceLimitExceeded'\ncalls = [1, 2]"))
    way = WAYS["a model is built and approved"]

    ended = await way.go(tmp_path, account)

    way.check(ended, account)
    assert delays == [30, 45]


@pytest.mark.parametrize("step", JOBS)
async def test_a_job_whose_image_fails_ends_the_run_and_says_why(tmp_path: Path, step: str) -> None:
    operation, _, job = JOBS[step]
    account = Account(faults=job_fault(step, "fail = 'image'"))

    ended = await WAYS["a model is built and approved"].go(tmp_path, account)

    assert (ended.error, ended.cause) == (
        f"{job}Failed",
        f"{job} job {RUN['RunId']}-{step}-0-0-0 failed: ClientError: Cannot pull algorithm container. Either "
        "the image does not exist or its permissions are incorrect.",
    )
    assert (account.packages, account.of("Invoke")) == ({}, [])
    assert len([name for name in account.jobs if f"-{step}-" in name]) == 1
    assert operation in [name for name, _ in account.calls]


@pytest.mark.parametrize("reason", ["capacity", "internal"])
@pytest.mark.parametrize("step", JOBS)
async def test_a_job_that_failed_by_no_fault_of_ours_runs_again_under_a_fresh_name(
    tmp_path: Path, step: str, reason: str
) -> None:
    account = Account(faults=job_fault(step, f"fail = '{reason}'\ncalls = [1, 2]"))
    way = WAYS["a model is built and approved"]

    ended = await way.go(tmp_path, account)

    way.check(ended, account)
    names = [name.partition(f"-{step}-")[2] for name in account.jobs if f"-{step}-" in name]
    assert names == ["0-0-0", "1-0-0", "2-0-0"]


@pytest.mark.parametrize("step", JOBS)
async def test_machines_that_are_never_there_end_the_run(tmp_path: Path, step: str) -> None:
    account = Account(faults=job_fault(step, "fail = 'capacity'"))

    ended = await WAYS["a model is built and approved"].go(tmp_path, account)

    assert ended.error == f"{JOBS[step][2]}Failed"
    assert "CapacityError: Unable to provision requested ML compute capacity." in ended.cause
    assert len([name for name in account.jobs if f"-{step}-" in name]) == 3


@pytest.mark.parametrize(
    ("call", "error", "cause", "serving"),
    [
        (1, "StagingTestsBroken", "Production was not touched.", SERVED | {"stagegate-production": BEFORE}),
        (
            2,
            "ProductionTestsBroken",
            "Production serves before again, which passed its tests.",
            SERVED | {"stagegate-production": BEFORE},
        ),
    ],
)
async def test_tests_whose_build_cannot_be_provisioned_leave_production_as_it_was(
    tmp_path: Path, call: int, error: str, cause: str, serving: dict[str, str]
) -> None:
    build = f"[[fault]]\noperation = 'codebuild:StartBuild'\nfail = 'image'\ncalls = [{call}]"
    account = Account(serving=both_serving(), faults=faults(build))

    ended = await WAYS["an update"].go(tmp_path, account)

    assert (ended.status, ended.error) == ("FAILED", error)
    assert "left no report" in ended.cause
    assert ended.cause.endswith(cause)
    assert (account.serving, account.planned) == (serving, {})


async def test_a_build_waits_for_room(tmp_path: Path, delays: list[float]) -> None:
    full = "[[fault]]\noperation = 'codebuild:StartBuild'\nerror = 'AccountLimitExceededException'\ntimes = 3"
    way = WAYS["an update"]
    account = way.account()
    account.faults = faults(full)

    ended = await way.go(tmp_path, account)

    way.check(ended, account)
    assert delays == [2, 4, 8]


CALLBACK = "[[fault]]\noperation = 'stepfunctions:SendTaskSuccess'\n"
ASKED = {
    BUILD: ("a model is built and approved", "RequestApproval"),
    DEPLOY: ("an update", "RequestProductionApproval"),
}


@pytest.mark.parametrize("machine", ASKED)
async def test_a_decision_that_was_lost_on_its_way_is_sent_again_in_the_next_round(
    tmp_path: Path, machine: str
) -> None:
    name, state = ASKED[machine]
    account = WAYS[name].account()
    account.faults = faults(f"{CALLBACK}lose = 'request'\ncalls = [1]")

    ended = await execute(
        tmp_path,
        machine,
        account,
        STARTED[machine] | {"Approval": {"TimeoutSeconds": 60, "ReminderSeconds": 1}},
    )

    WAYS[name].check(ended, account)
    assert ended.states.count(state) == 2
    assert [name for name, _ in account.calls if name == "Lost"] == ["Lost"]


@pytest.mark.parametrize("machine", ASKED)
async def test_a_decision_whose_callback_comes_too_late_counts(tmp_path: Path, machine: str) -> None:
    name, state = ASKED[machine]
    account = WAYS[name].account()
    account.faults = faults(f"{CALLBACK}delay = 2.5")

    ended = await execute(tmp_path, machine, account, STARTED[machine] | {"Approval": {"TimeoutSeconds": 1}})

    WAYS[name].check(ended, account)
    assert f"End{state}" in ended.states


@pytest.mark.parametrize(
    ("machine", "cause", "serving", "statuses"),
    [
        (
            BUILD,
            f"Nobody decided about model package {PACKAGE} within 1 seconds. It is rejected.",
            {},
            {PACKAGE: "Rejected"},
        ),
        (
            DEPLOY,
            f"Nobody decided within 1 seconds. Production was not touched; staging serves {PACKAGE}.",
            SERVED | {"stagegate-production": BEFORE},
            {},
        ),
    ],
)
async def test_an_answer_that_was_lost_before_it_was_written_down_is_silence(
    tmp_path: Path, machine: str, cause: str, serving: dict[str, str], statuses: dict[str, str]
) -> None:
    account = WAYS[ASKED[machine][0]].account()
    account.is_recorded = False
    account.faults = faults(f"{CALLBACK}lose = 'request'")

    ended = await execute(tmp_path, machine, account, STARTED[machine] | {"Approval": {"TimeoutSeconds": 1}})

    assert (ended.status, ended.error, ended.cause) == ("FAILED", "ApprovalTimedOut", cause)
    assert (account.serving, account.statuses, account.planned) == (serving, statuses, {})


@pytest.mark.parametrize(
    ("machine", "operation", "code", "error", "said"),
    [
        (BUILD, "s3:GetObject", "AccessDenied", "EvaluationUnreadable", "no readable evaluation.json"),
        (BUILD, "s3:HeadObject", "SlowDown", "CodeUnreadable", "The code bundle cannot be read"),
        (BUILD, "dynamodb:GetItem", "InternalServerError", "", ""),
        (BUILD, "dynamodb:PutItem", "InternalServerError", "ClaimFailed", "Nothing was deployed."),
        (BUILD, "lambda:Invoke", "ServiceException", "RequestApprovalFailed", "stays PendingManualApproval"),
        (DEPLOY, "s3:GetObject", "SlowDown", "StagingDeploymentFailed", "Production was not touched."),
        (DEPLOY, "lambda:Invoke", "TooManyRequestsException", "CheckModelFailed", "Nothing was deployed."),
        (DEPLOY, "codebuild:StartBuild", "throttled", "StagingTestsBroken", "Production was not touched."),
    ],
)
async def test_what_does_not_pass_ends_the_run_by_its_own_name_and_says_what_is_so(
    tmp_path: Path, machine: str, operation: str, code: str, error: str, said: str
) -> None:
    way = WAYS[ASKED[machine][0]]
    account = way.account()
    account.faults = faults(f"[[fault]]\noperation = '{operation}'\nerror = '{code}'")

    ended = await way.go(tmp_path, account)

    assert (ended.status, ended.error) == ("FAILED" if error else "SUCCEEDED", error)
    assert said in ended.cause
    assert account.serving.get("stagegate-production") != PACKAGE
    assert account.planned == {}


def test_the_cause_of_a_throttle_is_what_the_machines_look_for() -> None:
    error = fault_errors.error_of("cloudformation", "DescribeStacks", fault_errors.THROTTLED)
    resource = parse_resource("arn:aws:states:::aws-sdk:cloudformation:describeStacks")

    failed = as_state_failed(resource, error)

    assert failed.error == "CloudFormation.CloudFormationException"
    assert (failed.cause or "").startswith("Rate exceeded (Service: CloudFormation, Status Code: 400, ")
    assert json.dumps(read_machine(DEPLOY)).count("Rate exceeded*") == 4
