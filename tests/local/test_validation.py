"""Members that the API's model does not allow, in AWS's wording."""

import pytest

from stagegate.local.service import AWSError
from stagegate.local.validation import validate

TRAINING_JOB = {
    "TrainingJobName": "train-1",
    "AlgorithmSpecification": {"TrainingInputMode": "File"},
    "RoleArn": "arn:aws:iam::111111111111:role/sagemaker",
    "OutputDataConfig": {"S3OutputPath": "s3://bucket/output"},
    "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
    "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
}


def wrong(service, operation, members):
    with pytest.raises(AWSError) as raised:
        validate(service, operation, members)
    return raised.value.code, raised.value.message


def test_what_the_model_allows_passes():
    validate("sagemaker", "CreateTrainingJob", TRAINING_JOB)


def test_a_missing_member_is_named():
    members = {name: value for name, value in TRAINING_JOB.items() if name != "RoleArn"}

    assert wrong("sagemaker", "CreateTrainingJob", members) == (
        "ValidationException",
        "1 validation error detected: Value null at 'roleArn' failed to satisfy constraint: "
        "Member must not be null",
    )


def test_a_name_that_does_not_match_its_pattern():
    code, message = wrong("sagemaker", "DescribeTrainingJob", {"TrainingJobName": "-a_b"})

    assert (code, message) == (
        "ValidationException",
        "1 validation error detected: Value '-a_b' at 'trainingJobName' failed to satisfy constraint: "
        "Member must satisfy regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}",
    )


def test_every_problem_is_told_at_once():
    members = TRAINING_JOB | {
        "AlgorithmSpecification": {"TrainingInputMode": "Floppy"},
        "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": "one", "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": 0},
    }

    code, message = wrong("sagemaker", "CreateTrainingJob", members)

    assert code == "ValidationException"
    assert message.startswith(
        "3 validation errors detected: Value 'Floppy' at 'algorithmSpecification.training"
    )
    assert (
        "at 'resourceConfig.instanceCount' failed to satisfy constraint: Member must be of type integer"
        in message
    )
    assert "Member must have value greater than or equal to 1" in message


def test_a_member_that_the_operation_does_not_have_is_named():
    code, message = wrong("sagemaker", "DescribeTrainingJob", {"TrainingJobName": "a", "JobName": "b"})

    assert (code, message.partition(" failed")[0]) == (
        "ValidationException",
        "1 validation error detected: Value 'b' at 'jobName'",
    )


def test_members_of_lists_and_maps_are_told_by_their_place():
    tags = [{"Key": "a", "Value": "b"}, {"Key": "a"}]

    assert wrong(
        "sagemaker",
        "AddTags",
        {"ResourceArn": "arn:aws:sagemaker:us-east-1:111111111111:model/m", "Tags": tags},
    )[1] == (
        "1 validation error detected: Value null at 'tags.2.member.value' failed to satisfy constraint: "
        "Member must not be null"
    )


def test_the_query_protocol_has_another_name_for_it():
    assert wrong("cloudformation", "DescribeStackResource", {"StackName": "a"})[0] == "ValidationError"
