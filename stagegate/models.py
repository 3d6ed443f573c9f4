"""What has been registered and what serves where, and predictions from it: through boto3 alone."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError, ParamValidationError

from stagegate.aws import Services, error_code
from stagegate.deployment import Platform
from stagegate.errors import ConfigurationError, NotFound

STAGES = ("staging", "production")
MODELS = 25
"""Versions on a page."""
_THREADS = 8
CONTENT_TYPES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".npy": "application/x-npy",
}


@dataclass(frozen=True, kw_only=True)
class Model:
    """A version in the model package group."""

    version: int
    arn: str
    approval_status: str
    approval_description: str
    created: datetime
    accuracy: str
    run_id: str
    commit: str
    evaluation_prefix: str
    """Where the evaluation lies in the data bucket: in an earlier run's folder where it was reused."""
    artifact: str
    """The URI of its model.tar.gz."""
    properties: dict[str, str]
    """All of CustomerMetadataProperties: where it is from, and who decided."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """An endpoint of a stage, and the model package behind it."""

    stage: str
    name: str
    status: str
    model_package_arn: str
    updated: datetime


@dataclass(frozen=True, kw_only=True)
class Prediction:
    image: str
    predicted: str
    probabilities: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class ModelPage:
    models: list[Model]
    following: str
    """Where the next page begins, for `list_models`; "" after the last."""


def list_models(services: Services, platform: Platform, *, begin: str = "", count: int = MODELS) -> ModelPage:
    """Versions, the newest first, from `begin` on. Raises NotFound for a `begin` that is none of AWS's.

    Each is described by a call of its own: BatchDescribeModelPackage has neither the accuracy nor the run.
    """
    sagemaker = services("sagemaker")
    try:
        listed = sagemaker.list_model_packages(
            ModelPackageGroupName=platform.model_package_group,
            SortBy="CreationTime",
            SortOrder="Descending",
            MaxResults=count,
            **({"NextToken": begin} if begin else {}),
        )
    except (ClientError, ParamValidationError) as error:
        if begin and (isinstance(error, ParamValidationError) or error_code(error) == "ValidationException"):
            raise NotFound("This page of the list is none of AWS's: go to the first page.") from error
        raise
    arns = [summary["ModelPackageArn"] for summary in listed["ModelPackageSummaryList"]]
    with ThreadPoolExecutor(_THREADS) as threads:
        described = list(threads.map(lambda arn: _described(services, arn), arns))
    models = [model for model in described if model is not None]
    return ModelPage(models=models, following=listed.get("NextToken", ""))


def latest_models(services: Services, platform: Platform, *, limit: int) -> list[Model]:
    """So many versions at most, the newest first."""
    found: list[Model] = []
    begin = ""
    while len(found) < limit:
        page = list_models(services, platform, begin=begin, count=min(limit - len(found), 100))
        found += page.models
        begin = page.following
        if not begin:
            break
    return found


def _described(services: Services, arn: str) -> Model | None:
    """None for one that was deleted meanwhile."""
    try:
        return find_model(services, arn)
    except NotFound:
        return None


def find_model(services: Services, arn: str) -> Model:
    """The version of this ARN. Raises NotFound."""
    try:
        return _model(services("sagemaker").describe_model_package(ModelPackageName=arn))
    except (ClientError, ParamValidationError) as error:
        is_absent = isinstance(error, ParamValidationError) or error_code(error) == "ValidationException"
        if not is_absent:
            raise
        raise NotFound(f"There is no model package '{arn}': see `stagegate models`.") from error


def _model(package: dict[str, Any]) -> Model:
    containers = package.get("InferenceSpecification", {}).get("Containers", [{}])
    properties = package.get("CustomerMetadataProperties", {})
    return Model(
        version=package.get("ModelPackageVersion", 0),
        arn=package["ModelPackageArn"],
        approval_status=package["ModelApprovalStatus"],
        approval_description=package.get("ApprovalDescription", ""),
        created=package["CreationTime"],
        accuracy=properties.get("Accuracy", ""),
        run_id=properties.get("RunId", ""),
        commit=properties.get("Commit", ""),
        evaluation_prefix=properties.get("EvaluationPrefix", ""),
        artifact=containers[0].get("ModelDataUrl", ""),
        properties=properties,
    )


def list_endpoints(services: Services) -> list[Endpoint]:
    """The endpoints of the stages that have one, staging first."""
    found = (_endpoint(services, stage) for stage in STAGES)
    return [endpoint for endpoint in found if endpoint]


def _endpoint(services: Services, stage: str) -> Endpoint | None:
    sagemaker, name = services("sagemaker"), endpoint_name(services, stage)
    endpoint = find_endpoint(services, name)
    if endpoint is None:
        return None
    config = sagemaker.describe_endpoint_config(EndpointConfigName=endpoint["EndpointConfigName"])
    model = sagemaker.describe_model(ModelName=config["ProductionVariants"][0]["ModelName"])
    containers = [model["PrimaryContainer"]] if "PrimaryContainer" in model else model["Containers"]
    return Endpoint(
        stage=stage,
        name=name,
        status=endpoint["EndpointStatus"],
        model_package_arn=containers[0].get("ModelPackageName", ""),
        updated=endpoint["LastModifiedTime"],
    )


def find_endpoint(services: Services, name: str) -> dict[str, Any] | None:
    """As DescribeEndpoint has it; None where there is none."""
    try:
        endpoint: dict[str, Any] = services("sagemaker").describe_endpoint(EndpointName=name)
    except ClientError as error:
        if "Could not find" in error.response["Error"]["Message"]:
            return None
        raise
    return endpoint


def endpoint_name(services: Services, stage: str) -> str:
    return f"{services.config.project}-{stage}"


def invoke(services: Services, stage: str, *, image: str, body: bytes) -> Prediction:
    """Ask the stage's endpoint what `body` shows; `image` is its file name, whose ending says what it is.

    Raises ConfigurationError for an ending that the endpoint does not take, NotFound without an endpoint.
    """
    suffix = Path(image).suffix.lower()
    if suffix not in CONTENT_TYPES:
        raise ConfigurationError(f"'{image}' should end in one of {', '.join(CONTENT_TYPES)}")
    try:
        response = services("sagemaker-runtime").invoke_endpoint(
            EndpointName=endpoint_name(services, stage),
            ContentType=CONTENT_TYPES[suffix],
            Accept="application/json",
            Body=body,
        )
    except ClientError as error:
        if error_code(error) == "ValidationError" and "not found" in error.response["Error"]["Message"]:
            raise NotFound(f"There is no {stage} endpoint yet: see `stagegate endpoints`.") from error
        raise
    first = json.loads(response["Body"].read())["predictions"][0]
    return Prediction(image=image, predicted=first["class"], probabilities=first["probabilities"])
