"""The transform AWS::LanguageExtensions: loops, and the functions that need it."""

import json

import pytest

CAPABLE = {"Capabilities": ["CAPABILITY_AUTO_EXPAND"]}
LOOPS = """
Transform: AWS::LanguageExtensions
Parameters:
  Stages: {Type: CommaDelimitedList, Default: "staging,production"}
Mappings:
  Sizes: {production: {Value: large}}
Conditions:
  Fn::ForEach::Conditions:
    - Stage
    - !Ref Stages
    - Is${Stage}: !Not [!Equals [!Ref Stage, none]]
Resources:
  Fn::ForEach::Parameters:
    - Stage
    - !Ref Stages
    - Parameter${Stage}:
        Type: AWS::SSM::Parameter
        Condition: Is${Stage}
        Properties:
          Name: !Sub /${Stage}/size
          Type: String
          Value: !FindInMap [Sizes, !Ref Stage, Value, {DefaultValue: small}]
  Fn::ForEach::Nested:
    - Team
    - [eu-1, us-1]
    - Fn::ForEach::Inner:
        - Kind
        - [a, b]
        - "&{Team}${Kind}":
            Type: AWS::SSM::Parameter
            Properties:
              Name: !Sub /${Team}/${Kind}
              Type: String
              Value: !ToJsonString {team: !Ref Team, stages: !Length {Ref: Stages}}
Outputs:
  Fn::ForEach::Outputs:
    - Stage
    - !Ref Stages
    - ${Stage}Size: {Value: !GetAtt ["Parameter${Stage}", Value]}
"""


async def values(stacks):
    listed = await stacks.call("DescribeParameters", "ssm")
    names = [it["Name"] for it in listed["Parameters"]]
    answers = [await stacks.call("GetParameter", "ssm", Name=name) for name in names]
    return {it["Parameter"]["Name"]: it["Parameter"]["Value"] for it in answers}


async def test_loops_are_written_out_for_the_parameters(stacks):
    created = await stacks.create("it", LOOPS, **CAPABLE)
    first = await values(stacks)
    updated = await stacks.update("it", LOOPS, Parameters={"Stages": "production,dev,staging"}, **CAPABLE)
    second = await values(stacks)

    inner = {f"/{team}/{kind}": json.dumps({"team": team, "stages": 2}, separators=(",", ":"))
             for team in ("eu-1", "us-1") for kind in "ab"}  # fmt: skip
    assert first == {"/staging/size": "small", "/production/size": "large", **inner}
    assert (created["StackStatus"], updated["StackStatus"]) == ("CREATE_COMPLETE", "UPDATE_COMPLETE")
    assert {it["OutputKey"]: it["OutputValue"] for it in created["Outputs"]} == {
        "stagingSize": "small",
        "productionSize": "large",
    }
    assert set(second) == {*first, "/dev/size"}
    assert sorted(await stacks.physical("it"))[:2] == ["Parameterdev", "Parameterproduction"]


async def test_the_original_and_the_processed_template_are_kept(stacks):
    await stacks.create("it", LOOPS, **CAPABLE)

    original = await stacks.call("GetTemplate", StackName="it")
    processed = await stacks.call("GetTemplate", StackName="it", TemplateStage="Processed")
    await stacks.call(
        "UpdateStack",
        StackName="it",
        UsePreviousTemplate=True,
        Parameters=[{"ParameterKey": "Stages", "ParameterValue": "dev"}],
        **CAPABLE,
    )
    await stacks.ended("it")

    assert original["TemplateBody"] == LOOPS
    assert "Parameterproduction" in json.loads(processed["TemplateBody"])["Resources"]
    assert "/dev/size" in await values(stacks)


async def test_the_transform_has_to_be_acknowledged(stacks):
    assert await stacks.refused("CreateStack", StackName="it", TemplateBody=LOOPS) == (
        "InsufficientCapabilitiesException",
        "Requires capabilities : [CAPABILITY_AUTO_EXPAND]",
    )


@pytest.mark.parametrize(
    ("loop", "said"),
    [
        (["X", ["a"]], "needs a list of an identifier, a collection and an output"),
        (
            ["Stages", ["a"], {"P${Stages}": {}}],
            "the identifier Stages is a text that nothing else",
        ),
        (["X", {"Ref": "Nothing"}, {"P${X}": {}}], "its collection is a list, or a Ref to a parameter"),
        (["X", ["a", "b"], {"Same": {}}], "the same key for several items; put ${X} into it"),
        (["X", ["a"], {"There": {}}], "there is There already"),
    ],
)
async def test_a_loop_that_cannot_be_is_refused(stacks, loop, said):
    template = {
        "Transform": "AWS::LanguageExtensions",
        "Parameters": {"Stages": {"Type": "CommaDelimitedList", "Default": "x"}},
        "Resources": {"There": {"Type": "AWS::SNS::Topic"}, "Fn::ForEach::Loop": loop},
    }

    code, message = await stacks.refused("CreateStack", StackName="it", Template=template, **CAPABLE)

    assert (code, said in message) == ("ValidationError", True), message


@pytest.mark.parametrize("written", ["!Length [[1]]", "!ToJsonString {a: 1}"])
async def test_its_functions_need_the_transform(stacks, written):
    text = f"Resources: {{A: {{Type: AWS::SSM::Parameter, Properties: {{Type: String, Value: {written}}}}}}}"

    code, message = await stacks.refused("CreateStack", StackName="it", TemplateBody=text)

    assert (code, "needs the template's Transform" in message) == ("ValidationError", True)
