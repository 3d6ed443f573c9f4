"""What a task gives to an API and gets from it, as Step Functions writes both."""

from datetime import UTC, datetime

import pytest

from stagegate.local.service import AWSError
from stagegate.local.states.conversion import as_state_failed, to_json, to_request, unknown_fields
from stagegate.local.states.integrations import parse_resource


def sdk(api):
    return parse_resource(f"arn:aws:states:::aws-sdk:{api}")


def optimised(api):
    return parse_resource(f"arn:aws:states:::{api}")


def answered(resource, response):
    return to_json(resource, resource.operation, response)


def test_a_request_s_members_are_the_api_s_own():
    request = to_request(sdk("sfn:startExecution"), {"StateMachineArn": "arn", "Input": {"a": [1]}})

    assert request == {"stateMachineArn": "arn", "input": '{"a":[1]}'}


def test_null_is_not_sent():
    request = to_request(sdk("secretsmanager:getSecretValue"), {"SecretId": "s", "VersionId": None})

    assert request == {"SecretId": "s"}


def test_a_member_may_be_written_as_the_api_does_and_as_the_sdk_does():
    item = {"Item": {"a": {"SS": ["x"]}, "b": {"Ss": ["y"]}, "c": {"Nul": True}, "d": {"NULL": True}}}
    resource = sdk("dynamodb:putItem")

    assert list(unknown_fields(resource, item)) == []
    assert to_request(resource, item) == {
        "Item": {"a": {"SS": ["x"]}, "b": {"SS": ["y"]}, "c": {"NULL": True}, "d": {"NULL": True}}
    }


def test_an_item_comes_back_as_the_sdk_names_its_types():
    item = {"a": {"SS": ["x"]}, "b": {"BOOL": True}, "c": {"S": "s"}, "d": {"M": {"e": {"NULL": True}}}}
    named = {"a": {"Ss": ["x"]}, "b": {"Bool": True}, "c": {"S": "s"}, "d": {"M": {"e": {"Nul": True}}}}

    assert answered(sdk("dynamodb:getItem"), {"Item": item}) == {"Item": named}
    assert answered(optimised("dynamodb:getItem"), {"Item": item}) == {"Item": item}


def test_times_are_text_from_the_sdk_and_milliseconds_from_an_own_integration():
    started = {"executionArn": "arn", "startDate": datetime(2026, 11, 23, 7, 44, 18, 250_000, UTC)}

    assert answered(sdk("sfn:startExecution"), started) == {
        "ExecutionArn": "arn",
        "StartDate": "2026-11-23T07:44:18.250Z",
    }
    assert answered(optimised("states:startExecution"), started) == {
        "ExecutionArn": "arn",
        "StartDate": 1795419858250,
    }


@pytest.mark.parametrize(("stream", "text"), [(b"caf\xc3\xa9", "café"), (b"\xff\x00", "/wA="), (b"", "")])
def test_a_stream_is_text_and_what_is_no_text_is_in_base_64(stream, text):
    assert answered(sdk("s3:getObject"), {"Body": stream, "ETag": '"e"'}) == {"Body": text, "ETag": '"e"'}


def test_what_is_uploaded_has_the_checksum_that_the_sdk_adds():
    upload = {"Bucket": "b", "Key": "k", "Body": {"a": 1}}
    resource = sdk("s3:putObject")

    assert to_request(resource, upload) == {
        "Bucket": "b",
        "Key": "k",
        "Body": b'{"a":1}',
        "ChecksumAlgorithm": "CRC32",
        "ChecksumCRC32": "Vhusrw==",
    }
    given = {**upload, "ChecksumSHA256": "given"}
    assert to_request(resource, given) == {**given, "Body": b'{"a":1}'}


@pytest.mark.parametrize(
    ("api", "code", "name"),
    [
        ("s3:getObject", "NoSuchKey", "S3.NoSuchKeyException"),
        ("s3:getObject", "SlowDown", "S3.S3Exception"),
        ("sfn:describeExecution", "ExecutionDoesNotExist", "Sfn.ExecutionDoesNotExistException"),
        ("sagemaker:createModel", "ResourceLimitExceeded", "SageMaker.ResourceLimitExceededException"),
        ("sagemaker:createModel", "ValidationException", "SageMaker.SageMakerException"),
        ("dynamodb:getItem", "ResourceNotFoundException", "DynamoDb.ResourceNotFoundException"),
        ("cloudwatchlogs:getLogEvents", "InternalFailure", "CloudWatchLogs.CloudWatchLogsException"),
        ("lambda:invoke", "EC2ThrottledException", "Lambda.Ec2ThrottledException"),
        ("sqs:getQueueUrl", "AWS.SimpleQueueService.NonExistentQueue", "Sqs.QueueDoesNotExistException"),
        ("iam:getRole", "NoSuchEntity", "Iam.NoSuchEntityException"),
    ],
)
def test_an_error_of_the_sdk_has_the_name_of_its_exception(api, code, name):
    failed = as_state_failed(sdk(api), AWSError(code, "Why.", status=404))

    assert failed.error == name
    assert failed.cause is not None
    service = name.partition(".")[0]
    assert failed.cause.startswith(f"Why. (Service: {service}, Status Code: 404, Request ID: ")
    assert failed.cause.endswith(" (SDK Attempt Count: 1)")


@pytest.mark.parametrize(
    ("api", "name"),
    [("s3:headObject", "S3.NoSuchKeyException"), ("s3:headBucket", "S3.NoSuchBucketException")],
)
def test_what_is_not_found_without_a_word_has_a_name_nevertheless(api, name):
    failed = as_state_failed(sdk(api), AWSError("404", "Not Found", status=404))

    assert failed.error == name
    assert str(failed.cause).startswith("null (Service: S3, Status Code: 404, Request ID: ")


@pytest.mark.parametrize(
    ("api", "code", "name", "service"),
    [
        ("lambda:invoke", "TooManyRequestsException", "Lambda.TooManyRequestsException", "AWSLambda"),
        ("lambda:invoke", "EC2ThrottledException", "Lambda.EC2ThrottledException", "AWSLambda"),
        ("dynamodb:putItem", "ValidationException", "DynamoDB.AmazonDynamoDBException", "AmazonDynamoDBv2"),
        ("sns:publish", "NotFound", "SNS.NotFoundException", "AmazonSNS"),
        (
            "states:startExecution.sync:2",
            "StateMachineDoesNotExist",
            "StepFunctions.StateMachineDoesNotExistException",
            "AWSStepFunctions",
        ),
    ],
)
def test_an_error_of_an_own_integration_tells_the_api_s_code(api, code, name, service):
    failed = as_state_failed(optimised(api), AWSError(code, "Why."))

    assert failed.error == name
    assert failed.cause is not None
    assert failed.cause.startswith(
        f"Why. (Service: {service}; Status Code: 400; Error Code: {code}; Request ID: "
    )
    assert failed.cause.endswith("; Proxy: null)")


def test_a_function_that_is_not_there_is_named_with_its_latest_version():
    arn = "arn:aws:lambda:us-east-1:111111111111:function:missing"
    error = AWSError("ResourceNotFoundException", f"Function not found: {arn}", status=404)

    failed = as_state_failed(optimised("lambda:invoke"), error)

    assert failed.error == "Lambda.ResourceNotFoundException"
    assert str(failed.cause).startswith(f"Function not found: {arn}:$LATEST (Service: AWSLambda; ")
