"""Parameters: given, kept, by default; and what their constraints refuse."""

import pytest

from stagegate.local.service import AWSError
from stagegate.local.stacks.parameters import choose, described, resolve
from stagegate.local.stacks.template import parse

TEMPLATE = parse(
    """
Parameters:
  Stage: {Type: String, AllowedValues: [staging, production]}
  Count: {Type: Number, Default: 2, MinValue: 1, MaxValue: 4}
  Name: {Type: String, Default: abc, AllowedPattern: "[a-z]+", MinLength: 2, MaxLength: 5}
  Zones: {Type: CommaDelimitedList, Default: "a, b"}
  Password: {Type: String, Default: hunter2, NoEcho: true}
  Image: {Type: "AWS::SSM::Parameter::Value<String>", Default: /image}
Resources:
  Topic: {Type: AWS::SNS::Topic}
"""
)


def given(**values):
    return [{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()]


def test_what_is_not_given_is_kept_or_by_default():
    entries = [*given(Stage="staging"), {"ParameterKey": "Name", "UsePreviousValue": True}]

    values = choose(TEMPLATE, entries, {"Name": "kept", "Count": "4"})

    assert values == {
        "Stage": "staging", "Count": "2", "Name": "kept", "Zones": "a, b", "Password": "hunter2",
        "Image": "/image",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "Parameters: [Stage] must have values"),
        (given(Stage="staging", Other="1"), "Parameters: [Other] do not exist in the template"),
        (given(Stage="test"), "Parameter 'Stage' must be one of AllowedValues [staging, production]"),
        (given(Stage="staging", Count="x"), "Parameter 'Count' must be a number; 'x' is none"),
        (
            given(Stage="staging", Count="5"),
            "Parameter Count failed to satisfy constraint: Parameter Count must be a number not greater than "
            "4",
        ),
        (
            given(Stage="staging", Name="ABC"),
            "Parameter Name failed to satisfy constraint: Parameter Name must match pattern [a-z]+",
        ),
        (
            given(Stage="staging", Name="abcdef"),
            "Parameter Name failed to satisfy constraint: Parameter Name must contain at most 5 characters",
        ),
        (
            [{"ParameterKey": "Stage", "UsePreviousValue": True}],
            "Invalid input for parameter key Stage. Cannot use previous value.",
        ),
    ],
)
def test_what_will_not_do_is_refused(entries, message):
    with pytest.raises(AWSError) as caught:
        choose(TEMPLATE, entries)

    assert (caught.value.code, caught.value.message) == ("ValidationError", message)


async def test_lists_and_parameters_of_ssm_are_resolved_and_secrets_are_not_shown():
    async def aws(service, operation, parameters=None):
        assert (service, operation, parameters) == ("ssm", "GetParameter", {"Name": "/image"})
        return {"Parameter": {"Value": "ami-1"}}

    values = choose(TEMPLATE, given(Stage="staging"))
    resolved = await resolve(TEMPLATE, values, aws)

    assert resolved == {
        "Stage": "staging", "Count": "2", "Name": "abc", "Zones": ["a", "b"], "Password": "hunter2",
        "Image": "ami-1",
    }  # fmt: skip
    assert described(TEMPLATE, values, resolved)[-2:] == [
        {"ParameterKey": "Password", "ParameterValue": "****"},
        {"ParameterKey": "Image", "ParameterValue": "/image", "ResolvedValue": "ami-1"},
    ]
