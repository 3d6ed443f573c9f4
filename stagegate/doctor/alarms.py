"""Alarms that are to roll a deployment back, and that no template makes."""

from collections.abc import Iterator
from typing import Any

from stagegate.doctor.findings import Fault
from stagegate.doctor.project import Project, Resource, Template, choices_of, text_of

_ALARMS = ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm")
_DEPLOYED = ("AWS::SageMaker::Endpoint", "AWS::StepFunctions::StateMachineAlias")


def alarm_missing(project: Project) -> Iterator[Fault]:
    made = {
        text_of(alarm.properties.get("AlarmName"))
        for template in project.templates
        for alarm in template.of_type(*_ALARMS)
    }
    for template in project.templates:
        for resource in template.of_type(*_DEPLOYED):
            for alarm in _named_alarms(resource):
                name = text_of(alarm)
                if name is None or _is_given(alarm, template) or name in made:
                    continue
                wrong = f"no template makes the alarm {name}, which is to roll the deployment back"
                yield Fault(file=template.file, where=resource.logical_id, wrong=wrong)


def _named_alarms(resource: Resource) -> Iterator[Any]:
    if resource.type == "AWS::StepFunctions::StateMachineAlias":
        for preference in choices_of(resource.properties.get("DeploymentPreference")):
            if isinstance(preference, dict):
                yield from choices_of(preference.get("Alarms", []))
        return
    for deployment in choices_of(resource.properties.get("DeploymentConfig")):
        if not isinstance(deployment, dict):
            continue
        for rollback in choices_of(deployment.get("AutoRollbackConfiguration")):
            for alarm in choices_of(rollback.get("Alarms", []) if isinstance(rollback, dict) else []):
                if isinstance(alarm, dict) and "AlarmName" in alarm:
                    yield from choices_of(alarm["AlarmName"])


def _is_given(alarm: Any, template: Template) -> bool:
    """Whether the name is an alarm of the template, or comes as a parameter."""
    if not isinstance(alarm, dict) or "Ref" not in alarm:
        return False
    resource = template.resources.get(str(alarm["Ref"]))
    return resource is None or resource.type in _ALARMS
