"""Every function of a template, with what it gives."""

import pytest

from stagegate.local.service import AWSError
from stagegate.local.stacks.intrinsics import NO_VALUE, Evaluator
from stagegate.local.stacks.template import parse

TEMPLATE = """
Transform: AWS::LanguageExtensions
Parameters:
  Stage: {Type: String}
Mappings:
  Sizes:
    production: {Count: 3, Types: [a, b]}
Conditions:
  IsProduction: !Equals [!Ref Stage, production]
  IsStaging: !Not [!Condition IsProduction]
  Both: !And [!Condition IsProduction, !Condition IsStaging]
  Either: !Or [!Condition IsProduction, !Condition IsStaging]
Resources:
  Table: {Type: AWS::DynamoDB::Table}
"""


class Known:
    def ref(self, logical_id):
        return f"id-of-{logical_id}"

    def attribute(self, logical_id, name):
        return f"{logical_id}/{name}"

    def imported(self, name):
        return f"import-of-{name}"


@pytest.fixture
def evaluator():
    return Evaluator(
        template=parse(TEMPLATE),
        parameters={"Stage": "production", "List": ["x", "y"]},
        pseudo={"AWS::Region": "us-east-1", "AWS::StackName": "demo"},
        resources=Known(),
    )


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ({"Ref": "Stage"}, "production"),
        ({"Ref": "List"}, ["x", "y"]),
        ({"Ref": "AWS::StackName"}, "demo"),
        ({"Ref": "Table"}, "id-of-Table"),
        ({"Ref": "AWS::NoValue"}, NO_VALUE),
        ({"a": {"Ref": "AWS::NoValue"}, "b": [1, {"Ref": "AWS::NoValue"}, 2]}, {"b": [1, 2]}),
        ({"Fn::GetAtt": ["Table", "Arn"]}, "Table/Arn"),
        ({"Fn::GetAtt": "Table.Stream.Arn"}, "Table/Stream.Arn"),
        (
            {"Fn::Sub": "${Stage}-${Table}-${Table.Arn}-${!kept}-${AWS::Region}"},
            "production-id-of-Table-Table/Arn-${kept}-us-east-1",
        ),
        ({"Fn::Sub": ["${a}/${Stage}", {"a": {"Ref": "Table"}}]}, "id-of-Table/production"),
        ({"Fn::Join": [",", ["a", 1, True, {"Ref": "Stage"}]]}, "a,1,true,production"),
        ({"Fn::Join": ["-", {"Ref": "List"}]}, "x-y"),
        ({"Fn::Select": ["1", {"Fn::Split": ["/", "a/b/c"]}]}, "b"),
        ({"Fn::If": ["IsProduction", 1, {"Fn::GetAtt": "broken"}]}, 1),
        ({"Fn::If": ["IsStaging", 1, {"Ref": "AWS::NoValue"}]}, NO_VALUE),
        ({"Fn::FindInMap": ["Sizes", {"Ref": "Stage"}, "Count"]}, 3),
        ({"Fn::FindInMap": ["Sizes", "staging", "Count", {"DefaultValue": 1}]}, 1),
        ({"Fn::ImportValue": {"Fn::Sub": "${Stage}-vpc"}}, "import-of-production-vpc"),
        ({"Fn::Base64": "héllo"}, "aMOpbGxv"),
        (
            {"Fn::Select": [0, {"Fn::GetAZs": ""}]},
            "us-east-1a",
        ),
        ({"Fn::Cidr": ["10.0.0.0/16", 2, 8]}, ["10.0.0.0/24", "10.0.1.0/24"]),
        ({"Fn::Length": {"Ref": "List"}}, 2),
        ({"Fn::ToJsonString": {"a": {"Ref": "Stage"}}}, '{"a":"production"}'),
    ],
)
def test_a_function_gives(evaluator, written, value):
    assert evaluator.value(written) == value


@pytest.mark.parametrize(
    ("name", "holds"), [("IsProduction", True), ("IsStaging", False), ("Both", False), ("Either", True)]
)
def test_a_condition_holds(evaluator, name, holds):
    assert evaluator.condition(name) is holds


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"Fn::Select": [5, ["a"]]}, "Template error: Fn::Select cannot select nonexistent value at index 5"),
        (
            {"Fn::FindInMap": ["Sizes", "nope", "Count"]},
            "Template error: Unable to get mapping for Sizes::nope::Count",
        ),
        ({"Fn::If": ["Nope", 1, 2]}, "Template format error: Unresolved condition dependency Nope"),
        ({"Fn::Join": ["-"]}, "Template error: Fn::Join object requires a list of 2 parameters"),
        ({"Fn::Transform": {}}, "Template error: Fn::Transform is not supported by the local runtime"),
        (
            {"Fn::Cidr": ["10.0.0.0/24", 2, 8]},
            "Template error: Fn::Cidr: 10.0.0.0/24 has not 2 blocks of 8 bits",
        ),
    ],
)
def test_a_function_refuses(evaluator, written, message):
    with pytest.raises(AWSError) as caught:
        evaluator.value(written)

    assert caught.value.message == message
