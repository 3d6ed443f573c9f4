"""Stacks against the server: our own services behind a template, and `aws cloudformation deploy`."""

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.local.stacks.conftest import resource, template

HANDLER = "def handler(event, context):\n    return {'it': event}\n"
TRUST = {"Version": "2012-10-17", "Statement": []}
MACHINE = {"StartAt": "Done", "States": {"Done": {"Type": "Pass", "Result": "${Answer}", "End": True}}}


def package():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("index.py", HANDLER)
    return content.getvalue()


def aws_cli(local, *arguments):
    return subprocess.run(
        [Path(sys.executable).parent / "aws", *arguments],
        capture_output=True,
        text=True,
        env=local.environment,
        timeout=120,
        check=False,
    )


def pipeline(answer):
    return {
        **template(
            Role=resource("AWS::IAM::Role", AssumeRolePolicyDocument=TRUST),
            Log=resource("AWS::Logs::LogGroup", LogGroupName="/aws/vendedlogs/states/tried"),
            Machine=resource(
                "AWS::StepFunctions::StateMachine",
                RoleArn={"Fn::GetAtt": ["Role", "Arn"]},
                DefinitionS3Location={"Bucket": "assets", "Key": "machine.json"},
                DefinitionSubstitutions={"Answer": answer},
                LoggingConfiguration={
                    "Level": "ERROR",
                    "IncludeExecutionData": False,
                    "Destinations": [
                        {"CloudWatchLogsLogGroup": {"LogGroupArn": {"Fn::GetAtt": ["Log", "Arn"]}}}
                    ],
                },
            ),
            FromBucket=resource(
                "AWS::Lambda::Function",
                Runtime="python3.13",
                Handler="index.handler",
                Role={"Fn::GetAtt": ["Role", "Arn"]},
                Code={"S3Bucket": "assets", "S3Key": "code.zip"},
                Environment={"Variables": {"ANSWER": answer}},
            ),
            Inline=resource(
                "AWS::Lambda::Function",
                Runtime="python3.13",
                Handler="index.handler",
                Role={"Fn::GetAtt": ["Role", "Arn"]},
                Code={"ZipFile": HANDLER},
            ),
            Url=resource(
                "AWS::Lambda::Url", TargetFunctionArn={"Fn::GetAtt": ["Inline", "Arn"]}, AuthType="NONE"
            ),
            Permission=resource(
                "AWS::Lambda::Permission",
                FunctionName={"Ref": "Inline"},
                Action="lambda:InvokeFunctionUrl",
                Principal="*",
                FunctionUrlAuthType="NONE",
            ),
            Rule=resource(
                "AWS::Events::Rule",
                EventPattern={"source": [answer]},
                Targets=[
                    {
                        "Id": "machine",
                        "Arn": {"Ref": "Machine"},
                        "RoleArn": {"Fn::GetAtt": ["Role", "Arn"]},
                        "InputTransformer": {
                            "InputPathsMap": {"a": "$.detail.a"},
                            "InputTemplate": '{"a": <a>}',
                        },
                    }
                ],
            ),
            Group=resource("AWS::SageMaker::ModelPackageGroup", ModelPackageGroupName="tried-models"),
        ),
        "Outputs": {
            "Machine": {"Value": {"Ref": "Machine"}},
            "Url": {"Value": {"Fn::GetAtt": ["Url", "FunctionUrl"]}},
            "Function": {"Value": {"Ref": "FromBucket"}},
            "Rule": {"Value": {"Ref": "Rule"}},
        },
    }


def test_a_stack_of_our_services_is_created_updated_and_deleted(local):
    s3, stacks = local.client("s3"), local.client("cloudformation")
    s3.create_bucket(Bucket="assets")
    s3.put_object(Bucket="assets", Key="machine.json", Body=json.dumps(MACHINE).encode())
    s3.put_object(Bucket="assets", Key="code.zip", Body=package())
    request = {"StackName": "tried", "Capabilities": ["CAPABILITY_IAM"]}

    stacks.create_stack(TemplateBody=json.dumps(pipeline("first")), **request)
    created = settled(stacks, "tried")
    first = outputs(created)
    invoked = local.client("lambda").invoke(FunctionName=first["Function"], Payload=b'{"n": 1}')
    stacks.update_stack(TemplateBody=json.dumps(pipeline("second")), **request)
    updated = settled(stacks, "tried")
    described = local.client("stepfunctions").describe_state_machine(stateMachineArn=first["Machine"])
    rule = local.client("events").describe_rule(Name=first["Rule"])
    targets = local.client("events").list_targets_by_rule(Rule=first["Rule"])["Targets"]
    configuration = local.client("lambda").get_function_configuration(FunctionName=first["Function"])
    stacks.delete_stack(StackName="tried")
    deleted = settled(stacks, created["StackId"])

    failures = [
        (event["LogicalResourceId"], event["ResourceStatusReason"])
        for event in stacks.describe_stack_events(StackName=created["StackId"])["StackEvents"]
        if event["ResourceStatus"].endswith("FAILED")
    ]
    assert failures == []
    assert [it["StackStatus"] for it in (created, updated, deleted)] == [
        "CREATE_COMPLETE",
        "UPDATE_COMPLETE",
        "DELETE_COMPLETE",
    ]
    assert outputs(updated) == first
    assert json.loads(invoked["Payload"].read()) == {"it": {"n": 1}}
    assert json.loads(described["definition"])["States"]["Done"]["Result"] == "second"
    assert json.loads(rule["EventPattern"]) == {"source": ["second"]}
    assert [(it["Id"], it["Arn"]) for it in targets] == [("machine", first["Machine"])]
    assert configuration["Environment"]["Variables"] == {"ANSWER": "second"}
    assert local.client("stepfunctions").list_state_machines()["stateMachines"] == []
    assert local.client("lambda").list_functions()["Functions"] == []
    assert local.client("events").list_rules()["Rules"] == []


@pytest.mark.slow  # the command line asks every 30 seconds
def test_the_command_line_deploys_and_deploys_again(local, tmp_path):
    path = tmp_path / "template.yaml"
    path.write_text(
        "Parameters: {Value: {Type: String}}\n"
        "Resources:\n"
        "  It: {Type: AWS::SSM::Parameter, Properties: {Type: String, Value: !Ref Value}}\n"
        "Outputs: {Name: {Value: !Ref It}}\n"
    )
    deploy = ("cloudformation", "deploy", "--stack-name", "by-hand", "--template-file", str(path))

    first = aws_cli(local, *deploy, "--parameter-overrides", "Value=one")
    second = aws_cli(local, *deploy, "--parameter-overrides", "Value=two")
    third = aws_cli(local, *deploy, "--no-fail-on-empty-changeset")

    stack = local.client("cloudformation").describe_stacks(StackName="by-hand")["Stacks"][0]
    value = local.client("ssm").get_parameter(Name=outputs(stack)["Name"])["Parameter"]["Value"]
    assert (first.returncode, first.stderr) == (0, "")
    assert "Successfully created/updated stack - by-hand" in first.stdout
    assert (second.returncode, second.stderr) == (0, "")
    assert (third.returncode, value, stack["StackStatus"]) == (0, "two", "UPDATE_COMPLETE")
    assert "No changes to deploy" in third.stdout


@pytest.mark.slow  # the command line asks every 30 seconds
def test_the_command_line_packages_a_folder_and_deploys_it(local, tmp_path):
    local.client("s3").create_bucket(Bucket="packages")
    folder = tmp_path / "function"
    folder.mkdir()
    (folder / "app.py").write_text("from part import name\ndef handler(event, context): return name\n")
    (folder / "part.py").write_text("name = 'packaged'\n")
    (tmp_path / "template.yaml").write_text(
        "Resources:\n"
        "  Role:\n"
        "    Type: AWS::IAM::Role\n"
        "    Properties:\n"
        "      AssumeRolePolicyDocument:\n"
        "        Version: '2012-10-17'\n"
        "        Statement:\n"
        "          - {Effect: Allow, Action: sts:AssumeRole, Principal: {Service: lambda.amazonaws.com}}\n"
        "  Function:\n"
        "    Type: AWS::Lambda::Function\n"
        "    Properties:\n"
        "      {Runtime: python3.13, Handler: app.handler, Role: !GetAtt Role.Arn, Code: function}\n"
        "Outputs: {Function: {Value: !Ref Function}}\n"
    )
    template, packaged = str(tmp_path / "template.yaml"), str(tmp_path / "packaged.yaml")

    made = aws_cli(
        local,
        *("cloudformation", "package", "--template-file", template, "--s3-bucket", "packages"),
        *("--output-template-file", packaged),
    )
    deployed = aws_cli(
        local,
        *("cloudformation", "deploy", "--stack-name", "packaged", "--template-file", packaged),
        *("--capabilities", "CAPABILITY_IAM"),
    )

    assert (made.returncode, deployed.returncode) == (0, 0), made.stderr + deployed.stderr
    stack = local.client("cloudformation").describe_stacks(StackName="packaged")["Stacks"][0]
    answer = local.client("lambda").invoke(FunctionName=outputs(stack)["Function"])
    assert json.loads(answer["Payload"].read()) == "packaged"


def settled(client, name):
    """Through boto3's own pages and states; the server is quick, and its client only asks."""
    while True:
        stack = client.describe_stacks(StackName=name)["Stacks"][0]
        if not stack["StackStatus"].endswith("_IN_PROGRESS"):
            return stack


def outputs(stack):
    return {it["OutputKey"]: it["OutputValue"] for it in stack["Outputs"]}
