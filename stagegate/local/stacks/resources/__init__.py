"""The resource types that a template may have: one entry each, in the module of its service."""

from collections.abc import Mapping

from stagegate.local.stacks.resources import (
    cloudwatch,
    codebuild,
    dynamodb,
    events,
    functions,
    iam,
    logs,
    s3,
    sagemaker,
    secretsmanager,
    sns,
    sqs,
    ssm,
    stepfunctions,
)
from stagegate.local.stacks.resources.kind import ResourceType

_MODULES = (
    cloudwatch,
    codebuild,
    dynamodb,
    events,
    functions,
    iam,
    logs,
    s3,
    sagemaker,
    secretsmanager,
    sns,
    sqs,
    ssm,
    stepfunctions,
)

RESOURCE_TYPES: Mapping[str, ResourceType] = {kind.name: kind for module in _MODULES for kind in module.TYPES}
