"""Faults as clients, tasks of state machines, jobs, builds, endpoints and events meet them."""

import io
import json
import signal
import tomllib
from contextlib import asynccontextmanager

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from stagegate.local.fault_file import parse_faults
from stagegate.local.server import running
from tests.conftest import Local
from tests.local.build_runs import ROLE
from tests.local.sagemaker.test_job_processes import CLASSES, Runtime
from tests.local.sagemaker.test_spot import SPOT, statuses

FAULTS = """
[[fault]]
operation = "s3:PutObject"
where = { Bucket = "slow" }
error = "throttled"

[[fault]]
operation = "cloudformation:Describe*"
error = "throttled"
calls = [2]

[[fault]]
operation = "dynamodb:GetItem"
error = "InternalServerError"
message = "not today"
status = 503

[[fault]]
operation = "stepfunctions:CreateActivity"
where = { name = "request-*" }
lose = "request"

[[fault]]
operation = "stepfunctions:CreateActivity"
where = { name = "answer-*" }
lose = "answer"

[[fault]]
operation = "stepfunctions:SendTaskSuccess"
where = { output = '"lost"' }
lose = "request"

[[fault]]
operation = "stepfunctions:SendTaskSuccess"
where = { output = '"late"' }
delay = 1.5

[[fault]]
operation = "sqs:SendMessage"
where = { MessageBody = "throttled" }
error = "throttled"
calls = [1]

[[fault]]
operation = "sns:Publish"
by = "stepfunctions"
lose = "answer"
times = 1

[[fault]]
event = { source = ["twice"] }
duplicate = 1

[[fault]]
event = { source = ["gone"] }
lose = "event"

[[fault]]
event = { source = ["later"] }
delay = 0.5

[[fault]]
operation = "codebuild:StartBuild"
fail = "image"

[[fault]]
operation = "sagemaker:CreateEndpoint"
fail = "image"

[[fault]]
operation = "kms:*"
error = "throttled"
"""


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    (folder / "faults.toml").write_text(FAULTS)
    runtime = Local(folder / "data", faults=folder / "faults.toml")
    try:
        runtime.start()
        yield runtime
    finally:
        runtime.stop()


def counted(local):
    return {one["Fault"]: (one["Met"], one["Fired"]) for one in json.loads(local.get("/_stagegate/faults"))}


def error_of(call, **members):
    """What a client is told: code, message and HTTP status."""
    with pytest.raises(ClientError) as refused:
        call(**members)
    response = refused.value.response
    status = response["ResponseMetadata"]["HTTPStatusCode"]
    return response["Error"]["Code"], response["Error"]["Message"], status


def test_a_client_is_told_what_the_service_itself_would_say(local):
    s3, dynamodb = local.client("s3"), local.client("dynamodb")
    s3.create_bucket(Bucket="slow")
    s3.create_bucket(Bucket="fast")

    slow = error_of(s3.put_object, Bucket="slow", Key="x", Body=b"x")
    s3.put_object(Bucket="fast", Key="x", Body=b"x")

    assert slow == ("SlowDown", "Please reduce your request rate.", 503)
    assert s3.list_objects_v2(Bucket="slow")["KeyCount"] == 0
    own = error_of(dynamodb.get_item, TableName="table", Key={"Key": {"S": "x"}})
    assert own == ("InternalServerError", "not today", 503)


def test_a_fault_meets_the_calls_of_its_numbers(local):
    cloudformation = local.client("cloudformation")

    first = cloudformation.describe_stacks()["Stacks"]
    second = error_of(cloudformation.describe_stack_events, StackName="x")
    third = cloudformation.describe_stacks()["Stacks"]

    assert (first, third) == ([], [])
    assert second == ("Throttling", "Rate exceeded", 400)
    assert counted(local)[2] == (3, 1)


@pytest.mark.parametrize(("name", "is_made"), [("request-1", False), ("answer-1", True)])
def test_a_lost_request_was_never_made_and_a_lost_answer_was(local, name, is_made):
    states = local.client("stepfunctions")

    with pytest.raises(ConnectionClosedError):
        states.create_activity(name=name)

    made = [activity["name"] for activity in states.list_activities()["activities"]]
    assert (name in made) == is_made


class Callbacks:
    """A state machine that waits a second for somebody to answer for its token, which comes by a queue."""

    def __init__(self, local):
        self.states, self.sqs = local.client("stepfunctions"), local.client("sqs")
        self.queue = self.sqs.create_queue(QueueName="tokens")["QueueUrl"]
        wait = {
            "Type": "Task",
            "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken",
            "Parameters": {"QueueUrl": self.queue, "MessageBody.$": "$$.Task.Token"},
            "TimeoutSeconds": 1,
            "End": True,
        }
        self.arn = self.states.create_state_machine(
            name="callbacks",
            definition=json.dumps({"StartAt": "Wait", "States": {"Wait": wait}}),
            roleArn=ROLE,
        )["stateMachineArn"]

    def start(self):
        execution = self.states.start_execution(stateMachineArn=self.arn)["executionArn"]
        message = self.sqs.receive_message(QueueUrl=self.queue, WaitTimeSeconds=10)["Messages"][0]
        self.sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
        return execution, message["Body"]


@pytest.fixture(scope="module")
def callbacks(local):
    return Callbacks(local)


def test_a_lost_callback_leaves_its_task_to_its_timeout(callbacks, until_ended):
    execution, token = callbacks.start()

    with pytest.raises(ConnectionClosedError):
        callbacks.states.send_task_success(taskToken=token, output='"lost"')

    ended = until_ended(execution)
    assert (ended["status"], ended["error"]) == ("FAILED", "States.Timeout")


def test_a_late_callback_is_told_that_its_task_has_timed_out(callbacks, until_ended):
    execution, token = callbacks.start()

    told = error_of(callbacks.states.send_task_success, taskToken=token, output='"late"')

    assert told[0] == "TaskTimedOut"
    assert until_ended(execution)["error"] == "States.Timeout"


def test_a_callback_that_no_fault_meets_arrives(callbacks, until_ended):
    execution, token = callbacks.start()

    callbacks.states.send_task_success(taskToken=token, output='"here"')

    assert until_ended(execution)["output"] == '"here"'


def run(local, name, state):
    """An execution of a state machine of one state; gives its ARN."""
    states = local.client("stepfunctions")
    definition = json.dumps({"StartAt": "Do", "States": {"Do": {**state, "End": True}}})
    machine = states.create_state_machine(name=name, definition=definition, roleArn=ROLE)["stateMachineArn"]
    return states.start_execution(stateMachineArn=machine)["executionArn"]


@pytest.fixture(scope="module")
def until_ended(local):
    """The execution once it has ended."""
    import time

    states = local.client("stepfunctions")

    def look(execution):
        deadline = time.monotonic() + 30
        while (found := states.describe_execution(executionArn=execution))["status"] == "RUNNING":
            assert time.monotonic() < deadline, found
            time.sleep(0.02)
        return found

    return look


def test_a_task_fails_with_the_name_that_step_functions_has_for_it(local, until_ended):
    queue = local.client("sqs").create_queue(QueueName="throttled")["QueueUrl"]
    send = {
        "Type": "Task",
        "Resource": "arn:aws:states:::sqs:sendMessage",
        "Parameters": {"QueueUrl": queue, "MessageBody": "throttled"},
    }

    first = until_ended(run(local, "throttled-1", send))
    second = until_ended(run(local, "throttled-2", send))

    assert (first["status"], first["error"]) == ("FAILED", "SQS.RequestThrottledException")
    assert first["cause"].startswith("Request is throttled. (Service: AmazonSQS; Status Code: 400; ")
    assert second["status"] == "SUCCEEDED"


def test_a_lost_answer_is_a_failure_of_the_client_that_step_functions_is(local, until_ended):
    topic = local.client("sns").create_topic(Name="lost-answers")["TopicArn"]
    publish = {
        "Type": "Task",
        "Resource": "arn:aws:states:::sns:publish",
        "Parameters": {"TopicArn": topic, "Message": "x"},
        "Retry": [{"ErrorEquals": ["SNS.SdkClientException"], "IntervalSeconds": 1, "MaxAttempts": 1}],
    }

    ended = until_ended(run(local, "lost-answer", publish))
    local.client("sns").publish(TopicArn=topic, Message="by a client, whom the fault does not meet")

    assert ended["status"] == "SUCCEEDED"
    assert counted(local)[9] == (2, 1)


@pytest.fixture(scope="module")
def heard(local):
    """Send an event by its source; gives what came of it to a queue, and starts a state machine."""
    events, sqs, states = local.client("events"), local.client("sqs"), local.client("stepfunctions")
    queue = sqs.create_queue(QueueName="heard")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    definition = json.dumps({"StartAt": "Do", "States": {"Do": {"Type": "Succeed"}}})
    machine = states.create_state_machine(name="heard", definition=definition, roleArn=ROLE)[
        "stateMachineArn"
    ]
    events.put_rule(Name="heard", EventPattern=json.dumps({"detail-type": ["a test"]}))
    targets = [{"Id": "queue", "Arn": arn}, {"Id": "machine", "Arn": machine, "RoleArn": ROLE}]
    events.put_targets(Rule="heard", Targets=targets)

    def send(source, *, messages):
        entry = {"Source": source, "DetailType": "a test", "Detail": "{}"}
        [sent] = events.put_events(Entries=[entry])["Entries"]
        came = []
        while len(came) < messages:
            found = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=10)["Messages"]
            for message in found:
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            came += [json.loads(message["Body"])["id"] for message in found]
        executions = states.list_executions(stateMachineArn=machine)["executions"]
        return sent["EventId"], came, [one["name"] for one in executions]

    return send


def test_an_event_that_comes_twice_is_two_messages_and_one_execution(heard):
    event, came, _ = heard("twice", messages=2)
    *_, executions = heard("other", messages=1)  # what comes after it has come after both

    assert came == [event, event]
    assert len([name for name in executions if name.startswith(event)]) == 1


def test_a_lost_event_never_comes_and_a_late_one_does(heard):
    gone, *_ = heard("gone", messages=0)
    late, came, _ = heard("later", messages=1)

    assert came == [late]
    assert gone != late


def test_a_build_whose_image_cannot_be_pulled_fails_while_it_is_provisioned(local):
    codebuild = local.client("codebuild")
    codebuild.create_project(
        name="project",
        source={"type": "NO_SOURCE", "buildspec": "version: 0.2\nphases: {build: {commands: [true]}}"},
        artifacts={"type": "NO_ARTIFACTS"},
        environment={"type": "LINUX_CONTAINER", "image": "x", "computeType": "BUILD_GENERAL1_SMALL"},
        serviceRole=ROLE,
    )

    build = codebuild.start_build(projectName="project")["build"]["id"]
    while not (ended := codebuild.batch_get_builds(ids=[build])["builds"][0])["buildComplete"]:
        pass

    assert ended["buildStatus"] == "FAILED"
    phases = {phase["phaseType"]: phase for phase in ended["phases"]}
    assert list(phases) == ["SUBMITTED", "QUEUED", "PROVISIONING", "FINALIZING", "COMPLETED"]
    [context] = phases["PROVISIONING"]["contexts"]
    assert context["statusCode"] == "BUILD_CONTAINER_UNABLE_TO_PULL_IMAGE"
    assert context["message"].startswith("Unable to pull customer's container image.")


def test_an_endpoint_whose_image_fails_says_why(local):
    sagemaker = local.client("sagemaker")
    local.client("s3").create_bucket(Bucket="models")
    local.client("s3").upload_fileobj(io.BytesIO(b"x"), "models", "model.tar.gz")
    container = {"Image": "x", "ModelDataUrl": "s3://models/model.tar.gz"}
    sagemaker.create_model(ModelName="m", ExecutionRoleArn=ROLE, PrimaryContainer=container)
    variant = {"VariantName": "AllTraffic", "ModelName": "m", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(
        EndpointConfigName="c", ProductionVariants=[variant | {"InstanceType": "ml.m5.large"}]
    )

    sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="c")
    while (ended := sagemaker.describe_endpoint(EndpointName="e"))["EndpointStatus"] == "Creating":
        pass

    assert ended["EndpointStatus"] == "Failed"
    assert "did not pass the ping health check" in ended["FailureReason"]


def test_the_runtime_logs_each_fault_and_says_at_its_end_how_often_each_fired(tmp_path):
    (tmp_path / "faults.toml").write_text(FAULTS)
    local = Local(tmp_path / "data", faults=tmp_path / "faults.toml")
    local.start()
    process = local.process
    try:
        error_of(local.client("kms").list_keys)
        error_of(local.client("kms").list_keys)
    finally:
        process.send_signal(signal.SIGTERM)
        said = process.stdout.read().decode()
        local.stop()

    assert "  15. kms:* error throttled: fired 2 of 2 times\n" in said
    assert "  1. s3:PutObject error throttled: met nothing\n" in said
    assert "fault 15: kms:ListKeys by client, number 2: error throttled" in local.log.read_text()


@asynccontextmanager
async def with_jobs(data, text):
    faults = parse_faults(tomllib.loads(text), name="faults.toml")
    async with running(data=data, classes=CLASSES, faults=faults) as endpoint:
        yield Runtime(endpoint)


FAILING = """
[[fault]]
operation = "sagemaker:CreateTrainingJob"
fail = "image"
calls = [1]
"""


async def test_a_job_whose_image_cannot_be_pulled_fails_and_the_next_one_runs(tmp_path):
    async with with_jobs(tmp_path / "data", FAILING) as runtime:
        await runtime.train("first", "print('runs')")
        first = await runtime.ended("first")
        await runtime.train("second", "print('runs')")
        second = await runtime.ended("second")

    assert first["TrainingJobStatus"] == "Failed"
    assert first["FailureReason"] == (
        "ClientError: Cannot pull algorithm container. Either the image does not exist or its permissions "
        "are incorrect."
    )
    assert statuses(first) == ["Starting", "Failed"]
    assert second["TrainingJobStatus"] == "Completed"


INTERRUPTED = """
[[fault]]
operation = "sagemaker:CreateTrainingJob"
interrupt = { after = 0.2, for = 0.5 }
"""


async def test_a_spot_job_loses_its_instances_and_goes_on_and_no_other_job_does(tmp_path):
    async with with_jobs(tmp_path / "data", INTERRUPTED) as runtime:
        await runtime.train("on-demand", "import time\ntime.sleep(1)")
        await runtime.train("spot", "import time\ntime.sleep(600)", **SPOT)
        await runtime.until("spot", "Interrupted", member="SecondaryStatus")
        await runtime.until("spot", "Training", member="SecondaryStatus")
        await runtime.aws("sagemaker", "StopTrainingJob", {"TrainingJobName": "spot"})
        spot, on_demand = await runtime.ended("spot"), await runtime.ended("on-demand")

    assert statuses(spot) == [
        *("Starting", "Downloading", "Training", "Interrupted"),
        *("Starting", "Downloading", "Training", "Stopping", "Uploading", "Stopped"),
    ]
    assert on_demand["TrainingJobStatus"] == "Completed"


@pytest.mark.parametrize("seed", [1, 2])
def test_a_rate_meets_the_same_calls_for_the_same_seed(seed):
    text = f"seed = {seed}\n[[fault]]\noperation = 's3:*'\nerror = 'throttled'\nrate = 0.3\ntimes = 20"

    def fired():
        (tally,) = parse_faults(tomllib.loads(text), name="faults.toml").tallies
        return [tally.fires("s3:GetObject") for _ in range(200)]

    first = fired()
    assert first == fired()
    assert sum(first) == 20
    assert first != [True] * 20 + [False] * 180
