"""A template's text becomes data, or an error that says what is wrong with it."""

import pytest

from stagegate.local.service import AWSError
from stagegate.local.stacks.template import parse

YAML = """
AWSTemplateFormatVersion: 2010-09-09
Description: Everything short.
Parameters:
  Name: {Type: String}
Resources:
  Queue:
    Type: AWS::SQS::Queue
    Properties:
      QueueName: !Sub "${Name}-queue"
      KmsMasterKeyId: !If [Encrypted, !GetAtt Key.Arn, !Ref AWS::NoValue]
      Tags:
        - Key: joined
          Value: !Join ["-", [a, !Select [0, !Split [",", "b,c"]]]]
        - Key: date
          Value: 2012-10-17
"""


def test_short_forms_are_functions_and_dates_are_texts():
    template = parse(YAML)

    assert template.description == "Everything short."
    assert template.resources["Queue"]["Properties"] == {
        "QueueName": {"Fn::Sub": "${Name}-queue"},
        "KmsMasterKeyId": {"Fn::If": ["Encrypted", {"Fn::GetAtt": ["Key", "Arn"]}, {"Ref": "AWS::NoValue"}]},
        "Tags": [
            {
                "Key": "joined",
                "Value": {"Fn::Join": ["-", ["a", {"Fn::Select": [0, {"Fn::Split": [",", "b,c"]}]}]]},
            },
            {"Key": "date", "Value": "2012-10-17"},
        ],
    }


def test_json_is_read_too():
    template = parse('{"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}')

    assert template.resources == {"Topic": {"Type": "AWS::SNS::Topic"}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("just text", "Template format error: unsupported structure."),
        ("{}", "Template format error: At least one Resources member must be defined."),
        ("Resources: []", "Template format error: Resources must be an object."),
        ("Ressources: {}", "Invalid template property or properties [Ressources]"),
        (
            "Resources: {A-b: {Type: AWS::SNS::Topic}}",
            "Template format error: Resource name A-b is non alphanumeric.",
        ),
        (
            "Resources: {A: {Properties: {}}}",
            "Template format error: [/Resources/A] Every Resources object must contain a Type member.",
        ),
        (
            "Resources: {A: {Type: AWS::SNS::Topic, Proprties: {}}}",
            "Invalid template resource property 'Proprties' in resource 'A'",
        ),
        (
            "Resources: {A: {Type: AWS::SNS::Topic, DeletionPolicy: Keep}}",
            "Template format error: Unrecognized DeletionPolicy Keep for resource A",
        ),
        (
            "Transform: AWS::Serverless-2016-10-31\nResources: {A: {Type: AWS::SNS::Topic}}",
            "The transform AWS::Serverless-2016-10-31 is not supported by the local runtime; "
            "AWS::LanguageExtensions is.",
        ),
        (
            "Resources: {A: {Type: !Nonsense x}}",
            "Template format error: YAML not well-formed. (line 1, column 23) unknown tag !Nonsense",
        ),
    ],
)
def test_what_is_wrong_is_said(text, message):
    with pytest.raises(AWSError) as caught:
        parse(text)

    assert (caught.value.code, caught.value.message) == ("ValidationError", message)
