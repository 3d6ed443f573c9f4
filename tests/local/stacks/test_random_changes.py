"""Our templates, and one of every resource type, changed at random: the services have what the stack says.

pytest tests/local/stacks/test_random_changes.py -m slow       # many more examples; some minutes
"""

import asyncio
import io
import json
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from stagegate.local.services import SERVICES
from stagegate.local.stacks.template import parse
from tests.local.conftest import opened
from tests.local.sagemaker.fakes import ECHO, archive
from tests.local.stacks.conftest import Stacks, body, resource
from tests.local.stacks.looks import INVENTORY, LOOKS, UNSEEN, consistent, inventory

ROOT = Path(__file__).parents[3]
CAPABLE = {"Capabilities": ["CAPABILITY_NAMED_IAM"]}
USED = (
    "application-autoscaling",
    "cloudformation",
    "codebuild",
    "codecommit",
    "events",
    "lambda",
    "sagemaker",
    "scheduler",
    "stepfunctions",
)
OURS = {name: SERVICES[name] for name in USED}
SERVING = frozenset(
    {
        "AWS::SageMaker::Model",
        "AWS::SageMaker::EndpointConfig",
        "AWS::SageMaker::Endpoint",
        "AWS::ApplicationAutoScaling::ScalableTarget",
        "AWS::ApplicationAutoScaling::ScalingPolicy",
    }
)
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "lambda.amazonaws.com"}}
    ],
}


def ref(name: str) -> dict[str, str]:
    return {"Ref": name}


def attribute(name: str, of: str = "Arn") -> dict[str, list[str]]:
    return {"Fn::GetAtt": [name, of]}


def given_if(condition: str, value: Any) -> dict[str, Any]:
    return {"Fn::If": [condition, value, ref("AWS::NoValue")]}


TEXT = given_if("HasText", ref("Text"))
TAGS = given_if("HasTag", [{"Key": "tag", "Value": ref("Tag")}])
NAME = {"Fn::Sub": "it-${Suffix}"}
ALLOW = [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": {"Fn::Sub": "arn:aws:s3:::${Suffix}/*"}}]
POLICY = {"Version": "2012-10-17", "Statement": ALLOW}
EVERY = {
    "Parameters": {
        "Text": {"Type": "String"},
        "Tag": {"Type": "String"},
        "Suffix": {"Type": "String"},
        "Number": {"Type": "Number"},
        "Enabled": {"Type": "String"},
        "Kind": {"Type": "String", "Default": "String"},
    },
    "Conditions": {
        "HasText": {"Fn::Not": [{"Fn::Equals": [ref("Text"), ""]}]},
        "HasTag": {"Fn::Not": [{"Fn::Equals": [ref("Tag"), ""]}]},
        "IsEnabled": {"Fn::Equals": [ref("Enabled"), "true"]},
    },
    "Resources": {
        "Alarm": resource(
            "AWS::CloudWatch::Alarm", AlarmDescription=TEXT, Namespace="N", MetricName="M", Statistic="Sum",
            Period=60, EvaluationPeriods=1, Threshold=ref("Number"),
            ComparisonOperator="GreaterThanThreshold",
        ),
        "Budget": resource(
            "AWS::Budgets::Budget",
            Budget={
                "BudgetType": "COST", "TimeUnit": "MONTHLY",
                "BudgetLimit": {"Amount": ref("Number"), "Unit": "USD"},
            },
            NotificationsWithSubscribers=given_if(
                "IsEnabled",
                [
                    {
                        "Notification": {
                            "NotificationType": "ACTUAL", "ComparisonOperator": "GREATER_THAN",
                            "Threshold": ref("Number"), "ThresholdType": "PERCENTAGE",
                        },
                        "Subscribers": [{"SubscriptionType": "EMAIL", "Address": "ada@example.com"}],
                    }
                ],
            ),
        ),
        "Dashboard": resource(
            "AWS::CloudWatch::Dashboard", DashboardName=NAME,
            DashboardBody={"Fn::Sub": '{"widgets": [], "start": "-PT${Number}H"}'},
        ),
        "Project": resource(
            "AWS::CodeBuild::Project", Name=NAME, Description=TEXT, ServiceRole=attribute("Role"),
            TimeoutInMinutes={"Fn::Sub": "${Number}0"},
            Source={"Type": "NO_SOURCE", "BuildSpec": "version: 0.2"},
            Artifacts={"Type": "NO_ARTIFACTS"}, Tags=TAGS,
            Environment={"Type": "LINUX_CONTAINER", "ComputeType": "BUILD_GENERAL1_SMALL", "Image": "image"},
        ),
        "Table": resource(
            "AWS::DynamoDB::Table", BillingMode="PAY_PER_REQUEST", Tags=TAGS,
            AttributeDefinitions=[{"AttributeName": ref("Suffix"), "AttributeType": "S"}],
            KeySchema=[{"AttributeName": ref("Suffix"), "KeyType": "HASH"}],
            TimeToLiveSpecification=given_if("HasText", {"AttributeName": "ends", "Enabled": True}),
            PointInTimeRecoverySpecification=given_if("IsEnabled", {"PointInTimeRecoveryEnabled": True}),
        ),
        "EventArchive": resource(
            "AWS::Events::Archive", ArchiveName=NAME, SourceArn=attribute("Bus"), Description=TEXT,
            EventPattern=given_if("HasText", {"source": [ref("Text")]}),
            RetentionDays=given_if("IsEnabled", ref("Number")),
        ),
        "Bus": resource(
            "AWS::Events::EventBus", Name=NAME, Description=TEXT, Tags=TAGS,
            Policy=given_if("IsEnabled", POLICY),
        ),
        "Rule": resource(
            "AWS::Events::Rule", Name=NAME, Description=TEXT,
            State={"Fn::If": ["IsEnabled", "ENABLED", "DISABLED"]}, EventPattern={"source": [ref("Text")]},
            Targets=[
                {"Id": "one", "Arn": attribute("Function")},
                given_if("IsEnabled", {"Id": "two", "Arn": attribute("Queue")}),
            ],
        ),
        "Repository": resource(
            "AWS::CodeCommit::Repository", RepositoryName=NAME, RepositoryDescription=TEXT, Tags=TAGS
        ),
        "Function": resource(
            "AWS::Lambda::Function", Runtime="python3.13", Handler="index.handler", Role=attribute("Role"),
            Code={"ZipFile": {"Fn::Sub": "def handler(event, context): return ${Number}"}}, Description=TEXT,
            Timeout=ref("Number"), MemorySize={"Fn::If": ["IsEnabled", 256, 128]}, Tags=TAGS,
            Environment=given_if("HasText", {"Variables": {"TEXT": ref("Text")}}),
        ),
        "Permission": resource(
            "AWS::Lambda::Permission", FunctionName=ref("Function"), Action="lambda:InvokeFunction",
            Principal="events.amazonaws.com", SourceArn=attribute("Rule"),
        ),
        "Url": resource("AWS::Lambda::Url", TargetFunctionArn=attribute("Function"), AuthType="NONE"),
        "Source": resource(
            "AWS::Lambda::EventSourceMapping",
            EventSourceArn=attribute("Queue"), FunctionName=ref("Function"), BatchSize=ref("Number"),
            MaximumBatchingWindowInSeconds=ref("Number"), Enabled={"Fn::If": ["IsEnabled", True, False]},
        ),
        "Role": resource(
            "AWS::IAM::Role", RoleName=NAME, AssumeRolePolicyDocument=TRUST, Description=TEXT, Tags=TAGS,
            MaxSessionDuration={"Fn::Sub": "${Number}600"},
            Policies=[{"PolicyName": "inline", "PolicyDocument": POLICY}],
        ),
        "Policy": resource(
            "AWS::IAM::Policy", PolicyName=NAME, PolicyDocument=POLICY, Roles=[ref("Role")]
        ),
        "Managed": resource("AWS::IAM::ManagedPolicy", PolicyDocument=POLICY, Roles=[ref("Role")]),
        "Key": resource(
            "AWS::KMS::Key", Description=TEXT, EnableKeyRotation={"Fn::If": ["IsEnabled", True, False]},
            Enabled=True, Tags=TAGS, PendingWindowInDays=7,
        ),
        "Alias": resource(
            "AWS::KMS::Alias", AliasName={"Fn::Sub": "alias/it-${Suffix}"}, TargetKeyId=ref("Key")
        ),
        "Log": resource(
            "AWS::Logs::LogGroup", RetentionInDays=given_if("HasText", ref("Number")), Tags=TAGS
        ),
        "Bucket": resource(
            "AWS::S3::Bucket", Tags=TAGS, VersioningConfiguration=given_if("IsEnabled", {"Status": "Enabled"})
        ),
        "BucketPolicy": resource(
            "AWS::S3::BucketPolicy", Bucket=ref("Bucket"), PolicyDocument=POLICY
        ),
        "Group": resource(
            "AWS::SageMaker::ModelPackageGroup", ModelPackageGroupName=NAME,
            ModelPackageGroupDescription={"Fn::Sub": "of ${Suffix}"}, Tags=TAGS,
        ),
        "Schedules": resource("AWS::Scheduler::ScheduleGroup", Name=NAME, Tags=TAGS),
        "Schedule": resource(
            "AWS::Scheduler::Schedule", Name=NAME, Description=TEXT,
            GroupName={"Fn::If": ["HasTag", ref("Schedules"), "default"]},
            ScheduleExpression={"Fn::Sub": "rate(${Number} hours)"},
            State={"Fn::If": ["IsEnabled", "ENABLED", "DISABLED"]},
            FlexibleTimeWindow={
                "Fn::If": ["HasText", {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 5}, {"Mode": "OFF"}],
            },
            Target={"Arn": attribute("Queue"), "RoleArn": attribute("Role"), "Input": ref("Suffix")},
        ),
        "Secret": resource(
            "AWS::SecretsManager::Secret", Tags=TAGS, GenerateSecretString={},
            Description={"Fn::Sub": "-${Text}"},  # moto never empties one
        ),
        "Topic": resource("AWS::SNS::Topic", DisplayName=TEXT, Tags=TAGS),
        "Subscription": resource(
            "AWS::SNS::Subscription", TopicArn=ref("Topic"), Protocol="sqs", Endpoint=attribute("Queue"),
            FilterPolicy=given_if("HasText", {"text": [ref("Text")]}),
        ),
        "TopicPolicy": resource(
            "AWS::SNS::TopicPolicy", Topics=[ref("Topic")], PolicyDocument=POLICY
        ),
        "Queue": resource(
            "AWS::SQS::Queue", VisibilityTimeout=ref("Number"), Tags=TAGS,
            DelaySeconds=given_if("IsEnabled", ref("Number")),
        ),
        "QueuePolicy": resource(
            "AWS::SQS::QueuePolicy", Queues=[ref("Queue")], PolicyDocument=POLICY
        ),
        "Parameter": resource(
            "AWS::SSM::Parameter", Name=NAME, Type="String", Value=attribute("Queue"), Description=TEXT,
            Tags=given_if("HasTag", {"tag": ref("Tag")}),
        ),
        "Machine": resource(
            "AWS::StepFunctions::StateMachine", RoleArn=attribute("Role"), Tags=TAGS,
            Definition={
                "StartAt": "It", "States": {"It": {"Type": "Pass", "Result": ref("Text"), "End": True}},
            },
        ),
        "Version": resource(
            "AWS::StepFunctions::StateMachineVersion", StateMachineArn=ref("Machine"), Description="it",
            StateMachineRevisionId=attribute("Machine", "StateMachineRevisionId"),
        ),
        "Live": resource(
            "AWS::StepFunctions::StateMachineAlias", Name=NAME, Description=TEXT,
            RoutingConfiguration=[{"StateMachineVersionArn": ref("Version"), "Weight": 100}],
        ),
        "Maybe": {**resource("AWS::SQS::Queue", VisibilityTimeout=1, Tags=TAGS), "Condition": "IsEnabled"},
    },
    "Outputs": {
        "Text": {"Value": {"Fn::Sub": "-${Text}"}},
        "Queue": {"Value": attribute("Queue")},
        "Role": {"Value": attribute("Role")},
    },
}  # fmt: skip
_FAILS = {
    **resource("AWS::SSM::Parameter", Type=ref("Kind"), Value="1"),
    "DependsOn": sorted(name for name, it in EVERY["Resources"].items() if "Condition" not in it),
}
EVERY["Resources"]["Last"] = _FAILS

CHANGES = st.fixed_dictionaries(
    {
        "Text": st.sampled_from(["", "one", "two, with an ü"]),
        "Tag": st.sampled_from(["", "a", "b"]),
        "Suffix": st.sampled_from(["x", "y"]),
        "Number": st.sampled_from(["3", "5", "14"]),
        "Enabled": st.sampled_from(["true", "false"]),
        "Kind": st.sampled_from(["String", "String", "Strange"]),
    }
)
PLATFORM = st.fixed_dictionaries(
    {
        "Project": st.just("demo"),
        "Approvers": st.sampled_from(["a@example.com", "a@example.com,b@example.com"]),
        "RequiredApprovals": st.sampled_from(["1", "2"]),
        "FourEyes": st.sampled_from(["true", "false"]),
        "RemoveStaging": st.sampled_from(["true", "false"]),
        "SenderEmail": st.sampled_from(["", "sender@example.com"]),
        "AlarmMail": st.sampled_from(["", "ada@example.com"]),
        "MonthlyBudget": st.sampled_from(["0", "300"]),
        "VpcId": st.sampled_from(["", "vpc-0123456789abcdef0"]),
        "VpcSubnetIds": st.just("subnet-0123456789abcdef0"),
        "VpcSecurityGroupIds": st.just("sg-0123456789abcdef0"),
        "WebhookUrl": st.sampled_from(["", "http://127.0.0.1:1/"]),
        "ProcessingInstanceType": st.sampled_from(["ml.m5.large", "ml.m5.xlarge"]),
        "FunctionsKey": st.sampled_from(["functions.zip", "functions.zip", "missing.zip"]),
    }
)


class Life:
    """One stack from its creation to its deletion, checked against the services after each step."""

    def __init__(self, stacks: Stacks, text: str) -> None:
        self.stacks, self.text = stacks, text
        self.seen: dict[str, Any] = {}
        self.parameters: dict[str, str] = {}

    async def live(self, steps: list[dict[str, str]], refused: Callable[[dict[str, str]], bool]) -> None:
        first, *rest = steps
        created = await self.stacks.create("it", self.text, Parameters=first, **CAPABLE)
        if refused(first):
            assert created["StackStatus"] == "ROLLBACK_COMPLETE"
        else:
            assert created["StackStatus"] == "CREATE_COMPLETE", await self.failures()
            self.seen, self.parameters = await consistent(self.stacks, "it"), first
            for step in rest:
                await self.update(step, fails=refused(step))
        stack_id = created["StackId"]
        deleted = await self.stacks.delete("it")
        assert deleted["StackStatus"] == "DELETE_COMPLETE", await self.failures(stack_id)

    async def update(self, step: dict[str, str], *, fails: bool) -> None:
        if step == self.parameters:
            source = await self.stacks.source(self.text)
            answer = await self.stacks.refused(
                "UpdateStack", StackName="it", **source, Parameters=step, **CAPABLE
            )
            assert answer == ("ValidationError", "No updates are to be performed.")
            return
        updated = await self.stacks.update("it", self.text, Parameters=step, **CAPABLE)
        seen = await consistent(self.stacks, "it")
        if fails:
            assert updated["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE", await self.failures()
            assert seen == self.seen
        else:
            assert updated["StackStatus"] == "UPDATE_COMPLETE", await self.failures()
            self.seen, self.parameters = seen, step
        said = {it["ParameterKey"]: it["ParameterValue"] for it in updated["Parameters"]}
        assert said == {**said, **self.parameters}

    async def failures(self, name: str = "it") -> list[tuple[str, str, str]]:
        return [event for event in await self.stacks.events(name) if "FAILED" in event[1]]


async def every_type(steps: list[dict[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with opened(Path(folder), OURS) as endpoint:
            await endpoint.start()
            stacks = Stacks(endpoint)
            await Life(stacks, body(EVERY)).live(steps, lambda step: step["Kind"] == "Strange")
            assert await inventory(stacks) == {kind: set() for kind in INVENTORY}


async def platform(steps: list[dict[str, str]]) -> None:
    keys = {f"Model{name}DefinitionKey": f"model-{name.lower()}.asl.json" for name in ("Build", "Deploy")}
    fixed = {
        "AssetsBucket": "assets",
        "DataBucketName": "data",
        "CodeUri": "s3://assets/code/0123456789abcdef",
        "CiDefinitionKey": "ci.asl.json",
        "StateMachineDeployment": "ALL_AT_ONCE",
    }
    text = (ROOT / "deploy" / "platform.yaml").read_text()
    with tempfile.TemporaryDirectory() as folder:
        async with opened(Path(folder), OURS) as endpoint:
            await endpoint.start()
            stacks = Stacks(endpoint)
            await stacks.call("CreateBucket", "s3", Bucket="assets")
            for path in (ROOT / "statemachines").glob("*.asl.json"):
                await stacks.call("PutObject", "s3", Bucket="assets", Key=path.name, Body=path.read_bytes())
            await stacks.call("PutObject", "s3", Bucket="assets", Key="functions.zip", Body=functions())
            full = [{**fixed, **keys, **step} for step in steps]
            await Life(stacks, text).live(full, lambda step: step["FunctionsKey"] == "missing.zip")


def functions() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as package:
        for path in sorted((ROOT / "deploy" / "functions").glob("*.py")):
            package.write(path, path.name)
    return content.getvalue()


async def endpoint_template(steps: list[dict[str, str]]) -> None:
    stage = json.loads((ROOT / "deploy" / "staging.json").read_text())["Parameters"]
    role = "arn:aws:iam::111111111111:role/endpoints"
    fixed = {"Project": "demo", "ExecutionRoleArn": role, "DataBucket": "assets"}
    text = (ROOT / "deploy" / "endpoint.yaml").read_text()
    declared = parse(text).parameters
    with tempfile.TemporaryDirectory() as folder:
        async with opened(Path(folder), OURS) as endpoint:
            await endpoint.start()
            stacks = Stacks(endpoint)
            await stacks.call("CreateBucket", "s3", Bucket="assets")
            await stacks.call("CreateModelPackageGroup", "sagemaker", ModelPackageGroupName="served")
            packages = {version: await registered(stacks, version) for version in ("one", "two", "broken")}
            full = [
                {name: value for name, value in (stage | fixed | step).items() if name in declared}
                | {"ModelPackageName": packages[step["ModelPackageName"]]}
                for step in steps
            ]
            broken = packages["broken"]
            await Life(stacks, text).live(full, lambda step: step["ModelPackageName"] == broken)
            assert await inventory(stacks) == {kind: set() for kind in INVENTORY}


async def registered(stacks: Stacks, version: str) -> str:
    key = f"{version}/model.tar.gz"
    code = "raise RuntimeError('no model here')" if version == "broken" else ECHO.format(version=version)
    content = archive({"code/inference.py": code})
    await stacks.call("PutObject", "s3", Bucket="assets", Key=key, Body=content)
    answer = await stacks.call(
        "CreateModelPackage",
        "sagemaker",
        ModelPackageGroupName="served",
        ModelApprovalStatus="Approved",
        InferenceSpecification={
            "Containers": [{"Image": "pytorch:2", "ModelDataUrl": f"s3://assets/{key}"}],
            "SupportedContentTypes": ["application/json"],
            "SupportedResponseMIMETypes": ["application/json"],
        },
    )
    arn: str = answer["ModelPackageArn"]
    return arn


ENDPOINT = st.fixed_dictionaries(
    {
        "ModelPackageName": st.sampled_from(["one", "two", "one", "two", "broken"]),
        "InstanceCount": st.sampled_from(["1", "2"]),
        "MaxInstanceCount": st.sampled_from(["2", "3"]),
        "InvocationsPerInstance": st.sampled_from(["100", "600"]),
        "CapturePercentage": st.sampled_from(["0", "100"]),
        "LatencyAlarmMilliseconds": st.sampled_from(["500", "1000"]),
        "CanaryPercent": st.sampled_from(["0", "10", "50"]),
        "Shifting": st.sampled_from(["CANARY", "LINEAR"]),
        "VpcSubnetIds": st.sampled_from(["", "subnet-0123456789abcdef0,subnet-0123456789abcdef1"]),
        "VpcSecurityGroupIds": st.just("sg-0123456789abcdef0"),
        "KmsKeyArn": st.sampled_from(["", "arn:aws:kms:us-east-1:111111111111:key/it"]),
    }
)
LIVES = {
    "every type": (CHANGES, every_type),
    "platform": (PLATFORM, platform),
    "endpoint": (ENDPOINT, endpoint_template),
}
QUICK = {"every type": 3, "platform": 2, "endpoint": 2}


def lives(name: str, examples: int) -> None:
    changes, live = LIVES[name]

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],  # a smaller example takes minutes to find
        suppress_health_check=list(HealthCheck),
    )
    @given(steps=st.lists(changes, min_size=2, max_size=4))
    def run(steps: list[dict[str, str]]) -> None:
        asyncio.run(live(steps))

    run()


def test_every_type_that_can_be_seen_is_tried() -> None:
    tried = {it["Type"] for it in EVERY["Resources"].values()}

    assert tried | SERVING == LOOKS.keys() | UNSEEN


@pytest.mark.parametrize("name", LIVES)
def test_the_services_have_what_the_stack_says(name: str) -> None:
    lives(name, QUICK[name])


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", LIVES)
def test_the_services_have_what_the_stack_says_at_length(name: str) -> None:
    lives(name, 20 * QUICK[name])
