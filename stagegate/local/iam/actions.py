"""From an operation and its members to what IAM is asked: actions, each on its resource, with condition keys.

After the Service Authorization Reference. An operation that is not in these tables is the action of its name,
on the resources that its members name, else on "*".
https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from stagegate.local.iam.conditions import as_list
from stagegate.local.iam.resources import Members, Place, Request, arn_of, resources_of
from stagegate.local.iam.s3_actions import requests_of_s3

PREFIXES = {
    "dynamodbstreams": "dynamodb",
    "sagemaker-metrics": "sagemaker",
    "sagemaker-runtime": "sagemaker",
    "sesv2": "ses",
    "stepfunctions": "states",
}
"""IAM's names of services, where these are not botocore's."""

_ACTIONS = {
    "lambda:Invoke": "lambda:InvokeFunction",
    "lambda:InvokeWithResponseStream": "lambda:InvokeFunction",
    "sns:PublishBatch": "sns:Publish",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:SendMessageBatch": "sqs:SendMessage",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
}
"""Actions that are not called what their operations are; S3's are in s3_actions.py."""

_TAGGING = {
    "events": "events:TagResource",
    "lambda": "lambda:TagResource",
    "sagemaker": "sagemaker:AddTags",
    "states": "states:TagResource",
}

_PASSED_TO = {
    "cloudformation": "cloudformation",
    "codebuild": "codebuild",
    "events": "events",
    "lambda": "lambda",
    "sagemaker": "sagemaker",
    "scheduler": "scheduler",
    "states": "states",
}
"""To whom a role is handed that a request of these services names."""

_ROLE_MEMBERS = (
    "RoleArn",
    "RoleARN",
    "ExecutionRoleArn",
    "roleArn",
    "Role",
    "serviceRole",
    "serviceRoleOverride",
)
_ROLE = re.compile(r"arn:aws[\w-]*:iam::\d{12}:role/.+")


def requests_of(service: str, operation: str, members: Members, place: Place) -> list[Request]:
    """All that has to be allowed for the operation."""
    prefix = PREFIXES.get(service, service)
    name = f"{prefix}:{operation}"
    if service == "s3":
        return requests_of_s3(operation, members)
    if name in ("dynamodb:TransactGetItems", "dynamodb:TransactWriteItems"):
        return _of_transaction(members, place)
    own = {key: values for key, values in _context(prefix, members) if values}
    action = _ACTIONS.get(name, name)
    asked = [
        Request(action=action, resource=resource, context=own)
        for resource in resources_of(name, members, place)
    ]
    return [*asked, *_with_tags(name, asked, members), *passed_roles(service, operation, members)]


def _of_transaction(members: Members, place: Place) -> list[Request]:
    """Each item's action on its table, as if it came alone."""
    asked = {
        (_IN_TRANSACTION[kind], arn_of("dynamodb", "table/{}", item["TableName"], place))
        for entry in members.get("TransactItems", ())
        for kind, item in entry.items()
    }
    return [Request(action=f"dynamodb:{action}", resource=table) for action, table in sorted(asked)]


_IN_TRANSACTION = {
    "ConditionCheck": "ConditionCheckItem",
    "Delete": "DeleteItem",
    "Get": "GetItem",
    "Put": "PutItem",
    "Update": "UpdateItem",
}


def passed_roles(service: str, operation: str, members: Members) -> list[Request]:
    """iam:PassRole for each role that the request hands to the service."""
    to = _PASSED_TO.get(PREFIXES.get(service, service))
    if to is None or operation in ("TestState", "AssumeRole"):
        return []
    context = {"iam:passedtoservice": [f"{to}.amazonaws.com"]}
    return [
        Request(action="iam:PassRole", resource=role, context=context) for role in sorted(_roles(members))
    ]


def _roles(members: Members) -> set[str]:
    """The roles that the members name, those of a target and of each of a list of targets too."""
    found = {
        value
        for name in _ROLE_MEMBERS
        if isinstance(value := members.get(name), str) and _ROLE.fullmatch(value)
    }
    for inner in (*as_list(members.get("Targets", [])), members.get("Target")):
        if isinstance(inner, dict):
            found |= _roles(inner)
    return found


def _with_tags(name: str, asked: list[Request], members: Members) -> Iterator[Request]:
    """Who gives a resource tags as it is made has to be allowed to tag it."""
    prefix, _, operation = name.partition(":")
    action = {
        "sagemaker": "AddTags",
        "states": "TagResource",
        "lambda": "TagResource",
        "events": "TagResource",
    }
    tags = members.get("Tags") or members.get("tags")
    if prefix in action and operation.startswith(("Create", "Put")) and tags:
        for one in asked[:1]:
            yield replace(one, action=f"{prefix}:{action[prefix]}")


def _context(prefix: str, members: Members) -> Iterator[tuple[str, list[str]]]:
    """The condition keys of the service, and those of tags."""
    tags = members.get("Tags") or members.get("tags") or []
    pairs = tags.items() if isinstance(tags, dict) else [_pair(tag) for tag in tags if isinstance(tag, dict)]
    yield "aws:tagkeys", [str(key) for key, _ in pairs]
    for key, value in pairs:
        yield f"aws:requesttag/{str(key).lower()}", [str(value)]
    if prefix == "cloudwatch" and "Namespace" in members:
        yield "cloudwatch:namespace", [members["Namespace"]]
    if prefix == "ses" and (sender := members.get("Source") or members.get("FromEmailAddress")):
        yield "ses:fromaddress", [re.sub(r"^.*<(.*)>$", r"\1", sender)]
    if prefix == "iam" and "AWSServiceName" in members:
        yield "iam:awsservicename", [members["AWSServiceName"]]
    if prefix == "iam" and "PermissionsBoundary" in members:
        yield "iam:permissionsboundary", [members["PermissionsBoundary"]]
    if prefix == "cloudformation":
        yield "cloudformation:rolearn", as_list(members.get("RoleARN") or [])
        yield "cloudformation:changesetname", as_list(members.get("ChangeSetName") or [])
    if prefix == "sts":
        yield "sts:externalid", as_list(members.get("ExternalId") or [])
        yield "sts:rolesessionname", as_list(members.get("RoleSessionName") or [])


def _pair(tag: Mapping[str, Any]) -> tuple[Any, Any]:
    return tag.get("Key", tag.get("key")), tag.get("Value", tag.get("value"))
