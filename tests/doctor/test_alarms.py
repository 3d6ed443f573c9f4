"""Alarms that nothing makes."""

from typing import Any

from tests.doctor.examples import named, resource, template


def endpoint(*alarms: Any) -> dict[str, Any]:
    rollback = {"Alarms": [{"AlarmName": alarm} for alarm in alarms]}
    return resource("SageMaker::Endpoint", DeploymentConfig={"AutoRollbackConfiguration": rollback})


def test_an_alarm_that_no_template_makes_is_found() -> None:
    alias = resource("StepFunctions::StateMachineAlias", DeploymentPreference={"Alarms": ["late"]})
    other = resource("CloudWatch::Alarm", AlarmName={"Fn::Sub": "${Project}-errors"})

    found = named("alarm-missing", template(Endpoint=endpoint("errors"), Alias=alias, Other=other))

    assert [finding.where for finding in found] == ["Endpoint", "Alias"]
    assert found[0].wrong == "no template makes the alarm errors, which is to roll the deployment back"


def test_an_alarm_behind_a_condition_is_found() -> None:
    rollback = {"Fn::If": ["IsWatched", {"Alarms": [{"AlarmName": "errors"}]}, {"Ref": "AWS::NoValue"}]}
    watched = resource("SageMaker::Endpoint", DeploymentConfig={"AutoRollbackConfiguration": rollback})

    assert named("alarm-missing", template(Endpoint=watched))


def test_an_alarm_that_is_made_or_given_is_none() -> None:
    made = resource("CloudWatch::Alarm", AlarmName={"Fn::Sub": "${Project}-errors"})
    watched = endpoint({"Ref": "Errors"}, {"Fn::Sub": "${Project}-errors"}, {"Ref": "AlarmParameter"})

    assert named("alarm-missing", template(Endpoint=watched, Errors=made)) == []
    assert named("alarm-missing", template(Endpoint=endpoint("errors")), template(
        Errors=resource("CloudWatch::Alarm", AlarmName="errors"))) == []  # fmt: skip
