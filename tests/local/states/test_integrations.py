"""What a Resource may name: AWS's own integrations, their patterns, and any operation of our services."""

import json

import pytest

from stagegate.local import apis
from stagegate.local.service import AWSError
from stagegate.local.states.integrations import (
    OPTIMISED,
    SDK_ERROR_PREFIXES,
    SDK_SERVICES,
    UnknownResource,
    parse_resource,
)
from stagegate.local.states.sdk_names import exception_name
from tests.local.states.conftest import ROLE, only

PATTERNS = {
    "lambda:invoke": ["", ".waitForTaskToken"],
    "sagemaker:createTrainingJob": ["", ".sync"],
    "sagemaker:createProcessingJob": ["", ".sync"],
    "sagemaker:createTransformJob": ["", ".sync"],
    "sagemaker:createHyperParameterTuningJob": ["", ".sync"],
    "sagemaker:createModel": [""],
    "sagemaker:createEndpointConfig": [""],
    "sagemaker:createEndpoint": [""],
    "sagemaker:updateEndpoint": [""],
    "codebuild:startBuild": ["", ".sync"],
    "codebuild:stopBuild": [""],
    "codebuild:batchDeleteBuilds": [""],
    "codebuild:batchGetReports": [""],
    "sns:publish": ["", ".waitForTaskToken"],
    "sqs:sendMessage": ["", ".waitForTaskToken"],
    "dynamodb:getItem": [""],
    "dynamodb:putItem": [""],
    "dynamodb:updateItem": [""],
    "dynamodb:deleteItem": [""],
    "events:putEvents": ["", ".waitForTaskToken"],
    "states:startExecution": ["", ".sync", ".sync:2", ".waitForTaskToken"],
}
"""As the developer guide lists them: https://docs.aws.amazon.com/step-functions/latest/dg/integrate-services.html"""
ALL_PATTERNS = ("", ".sync", ".sync:2", ".waitForTaskToken")


def _is_known(resource: str) -> bool:
    try:
        parse_resource(resource)
    except UnknownResource:
        return False
    return True


@pytest.mark.parametrize("integration", PATTERNS)
def test_an_integration_has_the_patterns_that_aws_gives_it(integration):
    known = [pattern for pattern in ALL_PATTERNS if _is_known(f"arn:aws:states:::{integration}{pattern}")]

    assert known == PATTERNS[integration]


def test_there_are_no_other_integrations():
    assert {f"{service}:{api}" for service, api in OPTIMISED} == set(PATTERNS)


@pytest.mark.parametrize("service", sorted(apis.APIS))
def test_every_service_behind_the_endpoint_is_there_by_its_own_id(service):
    service_id = str(apis.model(service).service_id)
    named = service_id.replace(" ", "").lower()
    java = exception_name(service_id).removesuffix("Exception")

    assert SDK_SERVICES[named] == service
    assert SDK_ERROR_PREFIXES.get(named, named.capitalize()) == java


def test_an_sdk_integration_answers_or_waits_for_a_token():
    known = [
        pattern for pattern in ALL_PATTERNS if _is_known(f"arn:aws:states:::aws-sdk:s3:getObject{pattern}")
    ]

    assert known == ["", ".waitForTaskToken"]


@pytest.mark.parametrize(
    "resource",
    [
        "arn:aws:states:::aws-sdk:s3:getNothing",
        "arn:aws:states:::aws-sdk:nothing:getObject",
        "arn:aws:states:::aws-sdk:s3:getObject.sync",
        "arn:aws:states:::sagemaker:createTrainingJob.sync:2",
        "arn:aws:states:::codebuild:batchGetBuilds",
        "arn:aws:states:::nothing:do",
    ],
)
async def test_what_is_unknown_is_refused_when_the_machine_is_created(machines, resource):
    definition = json.dumps(only({"Type": "Task", "Resource": resource, "Parameters": {}}))

    with pytest.raises(AWSError) as raised:
        machines.api.create_state_machine(name="machine", definition=definition, roleArn=ROLE)

    assert (raised.value.code, raised.value.message) == (
        "InvalidDefinition",
        f"Invalid State Machine Definition: 'SCHEMA_VALIDATION_FAILED: The resource provided {resource} is "
        "not recognized. The value is not a valid resource ARN, or the resource is not available in this "
        "region. at /States/State/Resource'",
    )


async def test_every_event_that_is_sent_names_its_execution_and_state_machine(machines):
    sent = []
    machines.operations["events", "PutEvents"] = lambda **request: (
        sent.append(request) or {"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]}
    )
    entry = {"Source": "release", "DetailType": "gate", "Detail": {"passed": True}, "Resources": ["model"]}
    resource = "arn:aws:states:::events:putEvents"

    ended = await machines.run(
        only({"Type": "Task", "Resource": resource, "Parameters": {"Entries": [entry]}})
    )

    machine = ended.arn.replace(":execution:", ":stateMachine:").rpartition(":")[0]
    assert ended.status == "SUCCEEDED"
    assert sent == [
        {"Entries": [{**entry, "Detail": '{"passed":true}', "Resources": ["model", ended.arn, machine]}]}
    ]
