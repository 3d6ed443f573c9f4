"""Definitions and templates as the tests of doctor's rules write them, and what a rule finds in them."""

from typing import Any

from stagegate.doctor import Finding, examine, project_of

JOB = "arn:aws:states:::sagemaker:createTrainingJob.sync"
COUNTED = "States.Format('{}-train-{}-{}', $.RunId, $$.Execution.RedriveCount, $$.State.RetryCount)"
RETRY = [{"ErrorEquals": ["States.ALL"]}]
COMPLETED = {
    "Type": "Choice",
    "Choices": [{"Variable": "$.TrainingJobStatus", "StringEquals": "Completed", "Next": "Done"}],
    "Default": "Done",
}


def task(resource: str, **fields: Any) -> dict[str, Any]:
    return {"Type": "Task", "Resource": resource, "Retry": RETRY, "End": True} | fields


def call(api: str, **fields: Any) -> dict[str, Any]:
    return task(f"arn:aws:states:::{api}", **fields)


def machine(first: dict[str, Any], **states: dict[str, Any]) -> dict[str, Any]:
    return {"StartAt": "First", "States": {"First": first, **states}}


def named(rule: str, *documents: dict[str, Any]) -> list[Finding]:
    """What one rule finds in definitions and templates."""
    project = project_of({f"{number}.json": document for number, document in enumerate(documents)})
    return [finding for finding in examine(project) if finding.rule == rule]


def wrong(rule: str, *documents: dict[str, Any]) -> list[str]:
    return [finding.wrong for finding in named(rule, *documents)]


def training(name: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return machine(task(JOB, Parameters=name, **fields))


def template(**resources: dict[str, Any]) -> dict[str, Any]:
    return {"Resources": resources}


def resource(type_: str, **properties: Any) -> dict[str, Any]:
    return {"Type": f"AWS::{type_}", "Properties": properties}


def role(*statements: dict[str, Any]) -> dict[str, Any]:
    document = {"Statement": [{"Effect": "Allow", "Resource": "*"} | statement for statement in statements]}
    return resource("IAM::Role", Policies=[{"PolicyName": "all", "PolicyDocument": document}])
