"""The resource types that a template may have: one entry each, in the module of its service."""

from collections.abc import Mapping

from stagegate.local.stacks.resources import (
    applicationautoscaling,
    budgets,
    cloudwatch,
    codebuild,
    codecommit,
    dynamodb,
    events,
    functions,
    iam,
    kms,
    logs,
    s3,
    sagemaker,
    scheduler,
    secretsmanager,
    sns,
    sqs,
    ssm,
    stepfunctions,
    stepfunctions_aliases,
)
from stagegate.local.stacks.resources.kind import ResourceType

_MODULES = (
    applicationautoscaling,
    budgets,
    cloudwatch,
    codebuild,
    codecommit,
    dynamodb,
    events,
    functions,
    iam,
    kms,
    logs,
    s3,
    sagemaker,
    scheduler,
    secretsmanager,
    sns,
    sqs,
    ssm,
    stepfunctions,
    stepfunctions_aliases,
)

RESOURCE_TYPES: Mapping[str, ResourceType] = {kind.name: kind for module in _MODULES for kind in module.TYPES}
