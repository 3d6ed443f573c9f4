"""The endpoint serves what was asked for: one that rolled back by itself is InService too."""

import os

import boto3
from endpoint import Endpoint


def test_the_endpoint_is_in_service(endpoint: Endpoint) -> None:
    description = boto3.client("sagemaker").describe_endpoint(EndpointName=endpoint.name)

    assert description["EndpointStatus"] == "InService"


def test_the_endpoint_serves_the_approved_model_package(endpoint: Endpoint) -> None:
    sagemaker = boto3.client("sagemaker")

    config = sagemaker.describe_endpoint(EndpointName=endpoint.name)["EndpointConfigName"]
    variants = sagemaker.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"]
    models = [sagemaker.describe_model(ModelName=variant["ModelName"]) for variant in variants]

    packages = [
        container["ModelPackageName"]
        for model in models
        for container in [model.get("PrimaryContainer") or model["Containers"][0]]
    ]
    assert packages == [os.environ["MODEL_PACKAGE_ARN"]] * len(variants)
