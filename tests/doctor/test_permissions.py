"""What a role would need."""

import json
from pathlib import Path
from typing import Any

import pytest

from stagegate.doctor import default_files, examine, project_of
from tests.doctor.examples import JOB, call, machine, named, resource, role, task, template, training, wrong

TRAINS = {
    "Action": [
        "sagemaker:CreateTrainingJob",
        "sagemaker:DescribeTrainingJob",
        "sagemaker:StopTrainingJob",
        "sagemaker:AddTags",
    ]
}
TOLD = {
    "Action": "events:*",
    "Resource": "arn:aws:events:*:*:rule/StepFunctionsGetEventsForSageMakerTrainingJobsRule",
}
PASSES = {
    "Action": "iam:PassRole",
    "Condition": {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
}


def permitted(definition: dict[str, Any], *statements: dict[str, Any], **fields: Any) -> list[str]:
    made = resource(
        "StepFunctions::StateMachine",
        DefinitionString=json.dumps(definition),
        RoleArn={"Fn::GetAtt": "Role.Arn"},
    )
    return wrong("permission-missing", template(Machine=made, Role=role(*statements), **fields))


def test_what_waiting_for_a_job_needs_is_found() -> None:
    definition = machine(task(JOB, Parameters={"RoleArn": "${Role}"}))

    assert permitted(definition, TRAINS, TOLD, PASSES) == []
    for missing in ([TOLD, PASSES], [TRAINS, PASSES], [TRAINS, TOLD]):
        assert permitted(definition, *missing)
    assert permitted(definition, TRAINS, PASSES) == [
        f"Role does not allow events:{action} on rule/StepFunctionsGetEventsForSageMakerTrainingJobsRule, "
        "which 'First' needs"
        for action in ("PutTargets", "PutRule", "DescribeRule")
    ]


def test_a_rule_of_another_kind_of_job_and_a_role_for_another_service_are_found() -> None:
    definition = machine(task(JOB, Parameters={"RoleArn": "${Role}"}))
    other_rule = TOLD | {"Resource": str(TOLD["Resource"]).replace("Training", "Transform")}
    lambda_ = PASSES | {"Condition": {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}}

    assert len(permitted(definition, TRAINS, other_rule, PASSES)) == 3
    assert permitted(definition, TRAINS, TOLD, lambda_) == [
        "Role does not allow iam:PassRole to sagemaker.amazonaws.com, which 'First' needs"
    ]


@pytest.mark.parametrize(
    ("api", "actions"),
    [
        ("aws-sdk:s3:headObject", ["s3:GetObject"]),
        ("aws-sdk:s3:listObjectsV2", ["s3:ListBucket"]),
        ("lambda:invoke", ["lambda:InvokeFunction"]),
        ("dynamodb:getItem", ["dynamodb:GetItem"]),
        ("aws-sdk:cloudwatch:describeAlarms", ["cloudwatch:DescribeAlarms"]),
        ("aws-sdk:cloudwatchlogs:getLogEvents", ["logs:GetLogEvents"]),
        ("aws-sdk:sagemakerruntime:invokeEndpoint", ["sagemaker:InvokeEndpoint"]),
        ("aws-sdk:sesv2:sendEmail", ["ses:SendEmail"]),
        ("aws-sdk:sfn:startExecution", ["states:StartExecution"]),
        (
            "codebuild:startBuild.sync",
            ["codebuild:StartBuild", "codebuild:BatchGetBuilds", "codebuild:StopBuild"],
        ),
        (
            "states:startExecution.sync:2",
            ["states:StartExecution", "states:DescribeExecution", "states:StopExecution"],
        ),
    ],
)
def test_each_action_is_called_as_iam_calls_it(api: str, actions: list[str]) -> None:
    definition = machine(call(api))

    for action in actions:
        others = [{"Action": other} for other in actions if other != action]
        assert permitted(definition, {"Action": "events:*"}, *others) == [
            f"Role does not allow {action}, which 'First' needs"
        ]
    assert permitted(definition, {"Action": ["events:*", f"{actions[0].partition(':')[0]}:*"]}) == []


def test_what_a_task_with_credentials_needs_is_asked_of_their_role_and_taking_it_on_of_the_machine_s() -> (
    None
):
    definition = machine(call("codebuild:startBuild.sync", Credentials={"RoleArn": "${There}"}))

    def found(own: list[str], other: list[str], there: Any) -> list[str]:
        made = resource(
            "StepFunctions::StateMachine",
            DefinitionString=json.dumps(definition),
            DefinitionSubstitutions={"There": there},
            RoleArn={"Fn::GetAtt": "Role.Arn"},
        )
        roles = {"Role": role({"Action": own}), "Other": role({"Action": other})}
        return wrong("permission-missing", template(Machine=made, **roles))

    here = {"Fn::If": ["IsApart", {"Ref": "RoleArn"}, {"Fn::GetAtt": "Other.Arn"}]}
    builds = ["codebuild:StartBuild", "codebuild:BatchGetBuilds", "codebuild:StopBuild"]
    assert found(["sts:AssumeRole"], builds, here) == []
    assert found(builds, builds[:2], here) == [
        "Role does not allow sts:AssumeRole, which 'First' needs",
        "Other does not allow codebuild:StopBuild, which 'First' needs",
    ]
    assert found(["sts:AssumeRole"], [], {"Ref": "RoleArn"}) == []  # another account's is not here


def test_policies_beside_the_role_count_and_managed_ones_are_not_known() -> None:
    definition = machine(call("lambda:invoke"))
    statement = {"Effect": "Allow", "Action": "lambda:Invoke*", "Resource": "*"}
    beside = resource("IAM::Policy", Roles=[{"Ref": "Role"}], PolicyDocument={"Statement": [statement]})
    managed = resource("IAM::Role", ManagedPolicyArns=["arn:aws:iam::aws:policy/PowerUserAccess"])
    made = resource(
        "StepFunctions::StateMachine", Definition=definition, RoleArn={"Fn::GetAtt": ["Role", "Arn"]}
    )

    assert permitted(definition, Policy=beside) == []
    assert named("permission-missing", template(Machine=made, Role=managed)) == []


def test_a_definition_in_s3_is_found_by_its_name() -> None:
    location = {"Bucket": {"Ref": "Bucket"}, "Key": {"Ref": "ModelBuildDefinitionKey"}}
    made = resource(
        "StepFunctions::StateMachine", DefinitionS3Location=location, RoleArn={"Fn::GetAtt": "Role.Arn"}
    )
    documents = {
        "model-build.asl.json": machine(call("lambda:invoke")),
        "platform.yaml": template(ModelBuild=made, Role=role()),
    }

    (found,) = examine(project_of(documents))

    assert (found.file, found.where) == ("platform.yaml", "ModelBuild")


def test_a_definition_in_the_template_is_examined_too() -> None:
    resource_ = {"Fn::Sub": "arn:${AWS::Partition}:states:::sagemaker:createTrainingJob.sync"}
    made = resource(
        "StepFunctions::StateMachine", Definition=training({"TrainingJobName": "t"}, Resource=resource_)
    )

    (found,) = named("job-name-collides", template(Machine=made))

    assert (found.file, found.where) == ("0.json (Machine)", "First")


def test_other_yaml_beside_the_templates_is_not_examined(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "buildspec.yaml").write_text("version: 0.2\n")
    (tmp_path / "deploy" / "stack.yaml").write_text("Resources: {}\n")

    assert default_files(tmp_path) == [tmp_path / "deploy" / "stack.yaml"]
