"""boto3 against services of a few lines, over the wire: each protocol that our services speak, both ways."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from stagegate.local.endpoint import Endpoint
from stagegate.local.server import running
from stagegate.local.service import AWSError, Service

CREATED = datetime(2026, 11, 23, 8, 30, 0, 123000, tzinfo=UTC)


class TinyEvents(Service):
    """JSON 1.1, and what goes wrong."""

    def put_rule(self, *, Name, ScheduleExpression=None, State="ENABLED", Tags=()):
        self.runtime.store.put("tiny/rule", Name, {"Name": Name, "State": State, "Tags": list(Tags)})
        return {"RuleArn": self.runtime.arn("events", f"rule/{Name}"), "Unknown": "left out"}

    async def describe_rule(self, *, Name):
        await asyncio.sleep(0)
        if Name == "broken":
            raise RuntimeError("a mistake of ours")
        if Name == "old":
            raise AWSError("ValidationException", "In old words.", Message="In old words.")
        if (rule := self.runtime.store.get("tiny/rule", Name)) is None:
            raise AWSError("ResourceNotFoundException", f"Rule {Name} does not exist on EventBus default.")
        return {"Name": Name, "State": rule["State"], "EventPattern": None}

    def describe_replay(self, *, ReplayName):
        return {"ReplayName": ReplayName, "ReplayStartTime": CREATED}


class TinyCodeBuild(Service):
    """CBOR, by default."""

    def start_build(self, *, projectName, environmentVariablesOverride=(), timeoutInMinutesOverride=60):
        self.last = (projectName, environmentVariablesOverride, timeoutInMinutesOverride)
        return {
            "build": {
                "id": f"{projectName}:1",
                "startTime": CREATED,
                "buildComplete": False,
                "phases": [{"phaseType": "BUILD", "durationInSeconds": 3}],
                "environment": {
                    "type": "LINUX_CONTAINER",
                    "image": "i",
                    "computeType": "BUILD_GENERAL1_SMALL",
                    "environmentVariables": list(environmentVariablesOverride),
                },
            }
        }

    def stop_build(self, *, id):
        raise AWSError("ResourceNotFoundException", f"Build {id} is not there")


class TinyCloudFormation(Service):
    """The query protocol."""

    def create_stack(self, *, StackName, TemplateBody, Parameters=(), Tags=()):
        self.given = {"Parameters": list(Parameters), "Tags": list(Tags)}
        return {"StackId": self.runtime.arn("cloudformation", f"stack/{StackName}/1")}

    def describe_stacks(self, *, StackName=None):
        if StackName == "nowhere":
            raise AWSError("ValidationError", "Stack with id nowhere does not exist <here>")
        stack = {
            "StackName": "s",
            "CreationTime": CREATED,
            "StackStatus": "CREATE_COMPLETE",
            "DisableRollback": False,
            **self.given,
        }
        return {"Stacks": [stack]}


class TinyLambda(Service):
    """REST-JSON with a stream, a status and headers."""

    def invoke(self, *, FunctionName, Payload=b"", InvocationType="RequestResponse", Qualifier=None):
        if FunctionName == "raises":
            return {"StatusCode": 200, "FunctionError": "Unhandled", "Payload": b'{"errorType": "E"}'}
        if InvocationType == "Event":
            return {"StatusCode": 202, "Payload": b""}
        return {"StatusCode": 200, "Payload": Payload.upper(), "ExecutedVersion": Qualifier or "$LATEST"}

    def get_function(self, *, FunctionName):
        raise AWSError(
            "ResourceNotFoundException", f"Function not found: {FunctionName}", status=404, Type="User"
        )

    def list_functions(self, *, MaxItems=50):
        return {"Functions": [{"FunctionName": str(MaxItems)}]}

    def delete_function(self, *, FunctionName):
        return None


class TinyRuntime(Service):
    def invoke_endpoint(self, *, EndpointName, Body, ContentType=None, Accept=None, TargetVariant=None):
        return {
            "Body": Body[::-1],
            "ContentType": ContentType,
            "InvokedProductionVariant": TargetVariant or "all",
        }


class TinySNS(Service):
    """Adds to what moto does."""

    async def publish(self, **members):
        published = await self.runtime.beneath("sns", "Publish", members)
        self.runtime.store.append("tiny/published", {**members, **published})
        return published


CLASSES = {
    "events": (TinyEvents,),
    "codebuild": (TinyCodeBuild,),
    "cloudformation": (TinyCloudFormation,),
    "lambda": (TinyLambda,),
    "sagemaker-runtime": (TinyRuntime,),
    "sns": (TinySNS,),
}


@pytest.fixture
async def endpoint(tmp_path) -> AsyncIterator[Endpoint]:
    async with running(data=tmp_path / "data", classes=CLASSES) as answering:
        yield answering


@pytest.fixture
def call(endpoint):
    """`await call("events", "put_rule", Name="r")`: what boto3 gives, over the wire."""

    def from_thread(service, operation, members):
        client = boto3.client(
            service,
            endpoint_url=endpoint.runtime.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
            config=Config(retries={"total_max_attempts": 1}),
        )
        answer = getattr(client, operation)(**members)
        for name, value in answer.items():
            if hasattr(value, "read"):
                answer[name] = value.read()
        client.close()
        return answer

    async def call(service, operation, **members):
        answer = await asyncio.to_thread(from_thread, service, operation, members)
        metadata = answer.pop("ResponseMetadata")
        assert metadata["RequestId"]
        return answer

    return call


async def error_of(calling):
    with pytest.raises(ClientError) as raised:
        await calling
    response = raised.value.response
    return (
        response["Error"]["Code"],
        response["Error"]["Message"],
        response["ResponseMetadata"]["HTTPStatusCode"],
    )


async def test_json(call):
    created = await call("events", "put_rule", Name="r", ScheduleExpression="rate(1 day)")

    assert created == {"RuleArn": "arn:aws:events:us-east-1:111111111111:rule/r"}
    assert await call("events", "describe_rule", Name="r") == {"Name": "r", "State": "ENABLED"}
    replay = await call("events", "describe_replay", ReplayName="p")
    assert replay["ReplayStartTime"] == CREATED


async def test_an_error_in_json(call):
    assert await error_of(call("events", "describe_rule", Name="x")) == (
        "ResourceNotFoundException",
        "Rule x does not exist on EventBus default.",
        400,
    )


async def test_an_error_s_words_may_be_in_a_member_with_a_capital_letter(call):
    with pytest.raises(ClientError) as raised:
        await call("events", "describe_rule", Name="old")

    assert raised.value.response["Error"] == {"Code": "ValidationException", "Message": "In old words."}
    assert "message" not in raised.value.response


async def test_a_mistake_of_ours_is_an_internal_failure_that_says_what(call, caplog):
    code, message, status = await error_of(call("events", "describe_rule", Name="broken"))

    assert (code, status) == ("InternalFailure", 500)
    assert message == "DescribeRule failed in Stagegate's local runtime: RuntimeError: a mistake of ours"
    assert "a mistake of ours" in caplog.text


async def test_cbor(call, endpoint):
    variables = [{"name": "A", "value": "ä", "type": "PLAINTEXT"}]

    started = await call(
        "codebuild",
        "start_build",
        projectName="p",
        environmentVariablesOverride=variables,
        timeoutInMinutesOverride=5,
    )

    assert endpoint.services["codebuild"][0].last == ("p", variables, 5)
    assert started["build"]["startTime"] == CREATED
    assert started["build"]["environment"]["environmentVariables"] == variables
    assert started["build"]["phases"] == [{"phaseType": "BUILD", "durationInSeconds": 3}]
    assert await error_of(call("codebuild", "stop_build", id="b:1")) == (
        "ResourceNotFoundException",
        "Build b:1 is not there",
        400,
    )


async def test_query(call):
    parameters = [
        {"ParameterKey": "k", "ParameterValue": "v & w"},
        {"ParameterKey": "l", "ParameterValue": "ü"},
    ]

    created = await call(
        "cloudformation", "create_stack", StackName="s", TemplateBody="{}", Parameters=parameters
    )
    described = await call("cloudformation", "describe_stacks")

    assert created == {"StackId": "arn:aws:cloudformation:us-east-1:111111111111:stack/s/1"}
    (stack,) = described["Stacks"]
    assert (stack["Parameters"], stack["DisableRollback"]) == (parameters, False)
    assert stack["CreationTime"] == CREATED
    assert await error_of(call("cloudformation", "describe_stacks", StackName="nowhere")) == (
        "ValidationError",
        "Stack with id nowhere does not exist <here>",
        400,
    )


async def test_rest_json(call):
    invoked = await call("lambda", "invoke", FunctionName="f", Payload=b'{"a":1}', Qualifier="2")
    assert invoked == {"StatusCode": 200, "Payload": b'{"A":1}', "ExecutedVersion": "2"}

    raised = await call("lambda", "invoke", FunctionName="raises")
    assert (raised["FunctionError"], json.loads(raised["Payload"])) == ("Unhandled", {"errorType": "E"})

    event = await call("lambda", "invoke", FunctionName="f", InvocationType="Event")
    assert event == {"StatusCode": 202, "Payload": b""}
    assert await call("lambda", "list_functions", MaxItems=7) == {"Functions": [{"FunctionName": "7"}]}
    assert "Functions" not in await call("lambda", "delete_function", FunctionName="f")
    assert await error_of(call("lambda", "get_function", FunctionName="g")) == (
        "ResourceNotFoundException",
        "Function not found: g",
        404,
    )


async def test_large_bodies_pass_unchanged(call):
    image = bytes(range(256)) * 40_000

    answer = await call(
        "sagemaker-runtime", "invoke_endpoint", EndpointName="e", Body=image, ContentType="application/x-npy"
    )

    assert answer == {
        "Body": image[::-1],
        "ContentType": "application/x-npy",
        "InvokedProductionVariant": "all",
    }


async def test_an_operation_of_ours_may_add_to_moto_s(call, endpoint):
    topic = (await call("sns", "create_topic", Name="t"))["TopicArn"]

    published = await call("sns", "publish", TopicArn=topic, Message="m")

    assert list(endpoint.store.read("tiny/published")) == [{"TopicArn": topic, "Message": "m", **published}]


async def test_moto_answers_cbor_too(call):
    await call("cloudwatch", "put_metric_data", Namespace="n", MetricData=[{"MetricName": "m", "Value": 1.5}])

    listed = await call("cloudwatch", "list_metrics", Namespace="n")

    assert listed["Metrics"] == [{"Namespace": "n", "MetricName": "m", "Dimensions": []}]
    code, _, status = await error_of(call("cloudwatch", "get_dashboard", DashboardName="d"))
    assert (code, status) in {("ResourceNotFound", 404), ("ResourceNotFound", 400)}


async def test_what_is_not_implemented_is_named(call):
    for service, operation, members, name in [
        (
            "events",
            "create_archive",
            {"ArchiveName": "a", "EventSourceArn": "arn:aws:events:x:y:z"},
            "CreateArchive",
        ),
        ("cloudformation", "list_stack_sets", {}, "ListStackSets"),
        ("codebuild", "list_fleets", {}, "ListFleets"),
        ("lambda", "list_layers", {}, "ListLayers"),
    ]:
        code, message, status = await error_of(call(service, operation, **members))

        assert code in {"UnknownOperationException", "InvalidAction"}
        assert message.startswith(f"{service}:{name} is not implemented by Stagegate's local runtime")
        assert status == 400


async def test_a_member_that_is_not_supported_is_named(call):
    code, message, _ = await error_of(call("events", "put_rule", Name="r", RoleArn="arn:aws:iam::0:role/r"))

    assert code == "ValidationException"
    assert message == "PutRule: the member RoleArn is not supported by Stagegate's local runtime."


async def test_members_are_validated(call):
    code, message, _ = await error_of(call("events", "put_rule", Name="a b"))

    assert code == "ValidationException"
    assert message.startswith(
        "1 validation error detected: Value 'a b' at 'name' failed to satisfy constraint"
    )


async def test_a_service_that_is_not_here_is_named(call):
    code, _, status = await error_of(call("kinesis", "list_streams"))

    assert (code, status) == ("UnknownServiceException", 501)


async def test_a_body_that_cannot_be_read(endpoint):
    request = urllib.request.Request(
        endpoint.runtime.endpoint_url, data=b"{", headers={"X-Amz-Target": "AWSEvents.PutRule"}
    )

    def send():
        with pytest.raises(urllib.error.HTTPError) as raised:
            urllib.request.urlopen(request)
        with raised.value as error:
            return error.code, json.loads(error.read())["__type"], error.headers["x-amzn-errortype"]

    assert await asyncio.to_thread(send) == (400, "SerializationException", "SerializationException")


async def test_our_services_call_each_other_without_the_wire(endpoint):
    await endpoint.aws("events", "PutRule", {"Name": "r", "EventPattern": None})
    await endpoint.aws("s3", "CreateBucket", {"Bucket": "bucket"})
    await endpoint.aws("s3", "PutObject", {"Bucket": "bucket", "Key": "k", "Body": b"\xff"})

    assert (await endpoint.aws("s3", "GetObject", {"Bucket": "bucket", "Key": "k"}))["Body"] == b"\xff"
    with pytest.raises(AWSError, match="ResourceNotFoundException: Rule x does not exist"):
        await endpoint.aws("events", "DescribeRule", {"Name": "x"})
    with pytest.raises(AWSError, match="Value null at 'name'"):
        await endpoint.aws("events", "DescribeRule", {})
    with pytest.raises(AWSError, match="stepfunctions:ListExecutions is not implemented"):
        await endpoint.aws("stepfunctions", "ListExecutions", {})
    with pytest.raises(AWSError, match="events:Dance is no operation of events"):
        await endpoint.aws("events", "Dance", {})
