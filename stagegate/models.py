"""What has been registered and what serves where, and predictions from it: through boto3 alone."""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from stagegate.aws import Services, error_code
from stagegate.deployment import Platform
from stagegate.errors import ConfigurationError, NotFound

STAGES = ("staging", "production")
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


def list_models(services: Services, platform: Platform) -> list[Model]:
    """Every version, newest first."""
    sagemaker = services("sagemaker")
    pages = sagemaker.get_paginator("list_model_packages").paginate(
        ModelPackageGroupName=platform.model_package_group, SortBy="CreationTime", SortOrder="Descending"
    )
    packages = [
        sagemaker.describe_model_package(ModelPackageName=summary["ModelPackageArn"])
        for page in pages
        for summary in page["ModelPackageSummaryList"]
    ]
    return [_model(package) for package in packages]


def _model(package: dict[str, Any]) -> Model:
    properties = package.get("CustomerMetadataProperties", {})
    return Model(
        version=package["ModelPackageVersion"],
        arn=package["ModelPackageArn"],
        approval_status=package["ModelApprovalStatus"],
        approval_description=package.get("ApprovalDescription", ""),
        created=package["CreationTime"],
        accuracy=properties.get("Accuracy", ""),
        run_id=properties.get("RunId", ""),
        commit=properties.get("Commit", ""),
        evaluation_prefix=properties.get("EvaluationPrefix", ""),
    )


def list_endpoints(services: Services) -> list[Endpoint]:
    """The endpoints of the stages that have one, staging first."""
    found = (_endpoint(services, stage) for stage in STAGES)
    return [endpoint for endpoint in found if endpoint]


def _endpoint(services: Services, stage: str) -> Endpoint | None:
    sagemaker, name = services("sagemaker"), endpoint_name(services, stage)
    try:
        endpoint = sagemaker.describe_endpoint(EndpointName=name)
    except ClientError as error:
        if "Could not find" in error.response["Error"]["Message"]:
            return None
        raise
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
