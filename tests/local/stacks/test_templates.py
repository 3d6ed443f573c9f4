"""The project's own templates: the platform, and an endpoint that serves."""

import json
from pathlib import Path

from stagegate.local.sagemaker.registry import Registry
from stagegate.local.services import SERVICES
from tests.local.sagemaker.fakes import ECHO, archive

DEPLOY = Path(__file__).parents[3] / "deploy"
MACHINES = DEPLOY.parent / "statemachines"


async def test_the_platform_is_made_changed_and_taken_away(open_stacks):
    ours = {name: SERVICES[name] for name in ("lambda", "events", "stepfunctions", "codebuild")}
    parameters = {
        "AssetsBucket": "assets",
        "DataBucketName": "stagegate-data-111111111111-us-east-1",
        "FunctionsKey": "functions.zip",
        "CodeUri": "s3://assets/code/0123456789abcdef",
        "CiDefinitionKey": "ci.asl.json",
        "StateMachineDeployment": "ALL_AT_ONCE",
        "ModelBuildDefinitionKey": "model-build.asl.json",
        "ModelDeployDefinitionKey": "model-deploy.asl.json",
    }
    named = {"Capabilities": ["CAPABILITY_NAMED_IAM"]}
    text = (DEPLOY / "platform.yaml").read_text()
    async with open_stacks(sagemaker=(Registry,), **ours) as stacks:
        await stacks.call("CreateBucket", "s3", Bucket="assets")
        for machine in MACHINES.glob("*.asl.json"):
            await stacks.call("PutObject", "s3", Bucket="assets", Key=machine.name, Body=machine.read_bytes())
        await stacks.call("PutObject", "s3", Bucket="assets", Key="functions.zip", Body=functions())

        created = await stacks.create("platform", text, Parameters=parameters, **named)
        names = ["stagegate-endpoint-tests"]
        (project,) = (await stacks.call("BatchGetProjects", "codebuild", names=names))["projects"]
        more = {
            **parameters,
            "TopicSubscriber": "somebody@example.com",
            "SenderEmail": "releases@example.com",
        }
        count = len(await stacks.events("platform"))
        updated = await stacks.update("platform", text, Parameters=more, **named)
        changed = {event[0] for event in (await stacks.events("platform"))[count:]} - {"platform"}
        deleted = await stacks.delete("platform")
        failures = [it for it in await stacks.events(created["StackId"]) if it[1].endswith("FAILED")]

    outputs = {it["OutputKey"]: it["OutputValue"] for it in created["Outputs"]}
    decision_url = outputs.pop("DecisionUrl")
    signing_key = outputs.pop("SigningKeyArn")
    assert failures == []
    assert [it["StackStatus"] for it in (created, updated, deleted)] == [
        "CREATE_COMPLETE",
        "UPDATE_COMPLETE",
        "DELETE_COMPLETE",
    ]
    assert outputs == {
        "DataBucket": "stagegate-data-111111111111-us-east-1",
        "ModelBuildArn": "arn:aws:states:us-east-1:111111111111:stateMachine:stagegate-model-build",
        "ModelDeployArn": "arn:aws:states:us-east-1:111111111111:stateMachine:stagegate-model-deploy",
        "ModelPackageGroupName": "stagegate-models",
        "ApprovalTable": "stagegate-approvals",
        "ApprovalRecord": "stagegate-approval-record",
        "ApprovalTopicArn": "arn:aws:sns:us-east-1:111111111111:stagegate-approvals",
        "EndpointTestProject": "stagegate-endpoint-tests",
        "LocksTable": "stagegate-locks",
        "NotificationTopicArn": "arn:aws:sns:us-east-1:111111111111:stagegate-notifications",
        "LostEventsQueue": "http://127.0.0.1:4566/111111111111/stagegate-lost-events",
    }
    assert ":secret:stagegate/approval-signing-key-" in signing_key
    assert decision_url.startswith("http://127.0.0.1:4566/_aws/lambda-url/")
    assert project["source"]["buildspec"] == "deploy/buildspec-test.yml"
    assert changed == {
        "ApprovalSubscription",
        "NotificationSubscription",
        "ApprovalRequestFunction",
        "ApprovalRequestRole",
    }


def functions():
    import io
    import zipfile

    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as package:
        for path in sorted((DEPLOY / "functions").glob("*.py")):
            package.write(path, path.name)
    return content.getvalue()


def test_an_endpoint_is_deployed_moved_and_kept_where_the_next_model_is_broken(local):
    s3, sagemaker, stacks = (local.client(name) for name in ("s3", "sagemaker", "cloudformation"))
    s3.create_bucket(Bucket="data")
    sagemaker.create_model_package_group(ModelPackageGroupName="models")
    codes = (ECHO.format(version="one"), ECHO.format(version="two"), "raise RuntimeError('no model here')")
    packages = [package(s3, sagemaker, number, code) for number, code in enumerate(codes)]
    text = (DEPLOY / "endpoint.yaml").read_text()

    def request(number):
        stage = json.loads((DEPLOY / "staging.json").read_text())["Parameters"]
        given = {
            "Project": "demo",
            "ModelPackageName": packages[number],
            "ExecutionRoleArn": "arn:aws:iam::111111111111:role/endpoints",
            "DataBucket": "data",
        }
        entries = [{"ParameterKey": key, "ParameterValue": value} for key, value in (stage | given).items()]
        return {"StackName": "demo-staging", "TemplateBody": text, "Parameters": entries}

    def served():
        runtime = local.client("sagemaker-runtime")
        answer = runtime.invoke_endpoint(
            EndpointName="demo-staging", ContentType="application/json", Body=b"1"
        )
        return json.loads(answer["Body"].read())["model"]

    stacks.create_stack(**request(0))
    first = (settled(stacks, "demo-staging")["StackStatus"], served())
    stacks.update_stack(**request(1))
    second = (settled(stacks, "demo-staging")["StackStatus"], served())
    stacks.update_stack(**request(2))
    third = (settled(stacks, "demo-staging")["StackStatus"], served())
    events = stacks.describe_stack_events(StackName="demo-staging")["StackEvents"]
    (failure,) = [it["ResourceStatusReason"] for it in events if it["ResourceStatus"] == "UPDATE_FAILED"]
    left = (sagemaker.list_models()["Models"], sagemaker.list_endpoint_configs()["EndpointConfigs"])
    stack_id = stacks.describe_stacks(StackName="demo-staging")["Stacks"][0]["StackId"]
    stacks.delete_stack(StackName="demo-staging")
    deleted = settled(stacks, stack_id)["StackStatus"]

    assert first == ("CREATE_COMPLETE", "one")
    assert second == ("UPDATE_COMPLETE", "two")
    assert third == ("UPDATE_ROLLBACK_COMPLETE", "two")
    assert "went back to endpoint config" in failure
    assert [len(found) for found in left] == [1, 1]
    assert deleted == "DELETE_COMPLETE"
    assert sagemaker.list_endpoints()["Endpoints"] == []


def package(s3, sagemaker, number, code):
    key = f"runs/{number}/model.tar.gz"
    s3.put_object(Bucket="data", Key=key, Body=archive({"code/inference.py": code}))
    answer = sagemaker.create_model_package(
        ModelPackageGroupName="models",
        ModelApprovalStatus="Approved",
        InferenceSpecification={
            "Containers": [{"Image": "pytorch:2", "ModelDataUrl": f"s3://data/{key}"}],
            "SupportedContentTypes": ["application/json"],
            "SupportedResponseMIMETypes": ["application/json"],
        },
    )
    return answer["ModelPackageArn"]


def settled(client, name):
    while True:
        stack = client.describe_stacks(StackName=name)["Stacks"][0]
        if not stack["StackStatus"].endswith("_IN_PROGRESS"):
            return stack
