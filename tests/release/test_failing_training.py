"""A training script that raises, that exits with 1, that is stopped: what job and execution say of it."""

import io
import json
import tarfile
import time

import pytest

ROLE = "arn:aws:iam::111111111111:role/jobs"
PATIENCE = 60
MACHINE = {
    "StartAt": "Train",
    "States": {
        "Train": {
            "Type": "Task",
            "Resource": "arn:aws:states:::sagemaker:createTrainingJob.sync",
            "Parameters": {
                "TrainingJobName.$": "$.Name",
                "RoleArn": ROLE,
                "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
                "OutputDataConfig": {"S3OutputPath": "s3://training/models"},
                "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
                "StoppingCondition": {"MaxRuntimeInSeconds": 600},
                "HyperParameters": {
                    "sagemaker_program": "train.py",
                    "sagemaker_submit_directory.$": "$.Source",
                },
            },
            "End": True,
        }
    },
}


class Training:
    """A state machine of one training job, run with the text of a script."""

    def __init__(self, runtime):
        self.runtime = runtime
        self.states, self.sagemaker = runtime.client("stepfunctions"), runtime.client("sagemaker")
        runtime.client("s3").create_bucket(Bucket="training")
        self.machine = self.states.create_state_machine(
            name="training", definition=json.dumps(MACHINE), roleArn=ROLE
        )["stateMachineArn"]

    def start(self, name, script):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            member = tarfile.TarInfo("train.py")
            member.size = len(script)
            archive.addfile(member, io.BytesIO(script.encode()))
        key = f"{name}/sourcedir.tar.gz"
        self.runtime.client("s3").put_object(Bucket="training", Key=key, Body=buffer.getvalue())
        execution = self.states.start_execution(
            stateMachineArn=self.machine,
            name=name,
            input=json.dumps({"Name": name, "Source": f"s3://training/{key}"}),
        )
        return execution["executionArn"]

    def ended(self, execution):
        return self.until(
            lambda: self.states.describe_execution(executionArn=execution),
            lambda found: found["status"] != "RUNNING",
        )

    def job(self, name):
        return self.sagemaker.describe_training_job(TrainingJobName=name)

    def log(self, name):
        logs = self.runtime.client("logs")
        try:
            events = logs.filter_log_events(
                logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=f"{name}/"
            )["events"]
        except logs.exceptions.ResourceNotFoundException:
            return []
        return [event["message"] for event in events]

    def until(self, look, enough):
        deadline = time.monotonic() + PATIENCE
        while not enough(found := look()):
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        return found


@pytest.fixture(scope="module")
def training(shared_local):
    return Training(shared_local)


@pytest.mark.parametrize(
    ("name", "script", "message", "last"),
    [
        ("raises", "raise ValueError('no labels')", "ValueError: no labels", "ValueError: no labels"),
        ("exits", "import sys\nprint('disk full')\nsys.exit(1)", "disk full", "disk full"),
    ],
)
def test_a_script_that_fails_is_the_cause_of_the_execution(training, name, script, message, last):
    execution = training.ended(training.start(name, script))

    job = training.job(name)
    reason = (
        f'AlgorithmError: ExecuteUserScriptError:\nExitCode 1\nErrorMessage "{message}"\n'
        'Command "python3 train.py", exit code: 1'
    )
    assert (job["TrainingJobStatus"], job["FailureReason"]) == ("Failed", reason)
    assert training.log(name)[-1] == last
    assert (execution["status"], execution["error"]) == ("FAILED", "States.TaskFailed")
    cause = json.loads(execution["cause"])
    assert cause["TrainingJobName"] == name
    assert (cause["TrainingJobStatus"], cause["FailureReason"]) == ("Failed", reason)
    assert isinstance(cause["CreationTime"], int | float)


def test_a_stopped_job_is_the_result_of_its_state(training):
    execution = training.start("stopped", "import time\nprint('begun')\ntime.sleep(600)")
    training.until(lambda: training.log("stopped"), lambda lines: "begun" in lines)

    training.sagemaker.stop_training_job(TrainingJobName="stopped")

    ended = training.ended(execution)
    assert ended["status"] == "SUCCEEDED"
    output = json.loads(ended["output"])
    assert (output["TrainingJobStatus"], output["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert "FailureReason" not in output


def test_a_stopped_execution_stops_its_job(training):
    execution = training.start("aborted", "import time\nprint('begun')\ntime.sleep(600)")
    training.until(lambda: training.log("aborted"), lambda lines: "begun" in lines)

    training.states.stop_execution(executionArn=execution, error="Enough", cause="seen enough")

    ended = training.ended(execution)
    assert (ended["status"], ended["error"], ended["cause"]) == ("ABORTED", "Enough", "seen enough")
    job = training.until(
        lambda: training.job("aborted"), lambda found: found["TrainingJobStatus"] == "Stopped"
    )
    assert job["SecondaryStatus"] == "Stopped"
