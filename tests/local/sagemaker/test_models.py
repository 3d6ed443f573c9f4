from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from stagegate.local.service import AWSError
from tests.local.sagemaker.fakes import FakeAws, SageMaker, variant

ARN = "arn:aws:sagemaker:us-east-1:111111111111"
CAPTURE = {
    "InitialSamplingPercentage": 50,
    "DestinationS3Uri": "s3://data/capture",
    "CaptureOptions": [{"CaptureMode": "Input"}],
}


@pytest.fixture
async def sagemaker(tmp_path: Path) -> AsyncIterator[SageMaker]:
    async with SageMaker(tmp_path, FakeAws()) as sagemaker:
        yield sagemaker


async def create(sagemaker: SageMaker, **container: Any) -> dict[str, Any]:
    return await sagemaker.models.create_model(ModelName="scenes", PrimaryContainer=container)


async def test_a_model_is_described_as_it_was_created(sagemaker: SageMaker) -> None:
    await sagemaker.model("scenes", SAGEMAKER_PROGRAM="inference.py")

    described = sagemaker.models.describe_model(ModelName="scenes")

    described.pop("CreationTime")
    assert described == {
        "ModelName": "scenes",
        "ModelArn": f"{ARN}:model/scenes",
        "PrimaryContainer": {
            "Image": "pytorch:2",
            "ModelDataUrl": "s3://data/scenes/model.tar.gz",
            "Environment": {"SAGEMAKER_PROGRAM": "inference.py"},
        },
        "EnableNetworkIsolation": False,
    }
    with pytest.raises(AWSError, match="Cannot create already existing model"):
        await sagemaker.model("scenes")
    sagemaker.models.delete_model(ModelName="scenes")
    assert sagemaker.models.list_models() == {"Models": []}


async def test_a_model_is_made_of_an_approved_package_only(sagemaker: SageMaker) -> None:
    await sagemaker.model("first")
    sagemaker.registry.create_model_package_group(ModelPackageGroupName="scenes")
    container = {"Image": "pytorch:2", "ModelDataUrl": "s3://data/first/model.tar.gz"}
    arn = sagemaker.registry.create_model_package(
        ModelPackageGroupName="scenes", InferenceSpecification={"Containers": [container]}
    )["ModelPackageArn"]

    with pytest.raises(AWSError, match="its approval status is PendingManualApproval, it must be Approved"):
        await create(sagemaker, ModelPackageName=arn)
    sagemaker.registry.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved")
    await create(sagemaker, ModelPackageName=arn)

    assert sagemaker.models.describe_model(ModelName="scenes")["PrimaryContainer"] == {
        "ModelPackageName": arn
    }
    sagemaker.config("scenes", "scenes")
    sagemaker.endpoints.create_endpoint(EndpointName="scenes", EndpointConfigName="scenes")
    assert await sagemaker.settled("scenes") == "InService"


async def test_model_data_that_is_not_there_is_refused(sagemaker: SageMaker) -> None:
    with pytest.raises(AWSError) as error:
        await create(sagemaker, Image="pytorch:2", ModelDataUrl="s3://data/none/model.tar.gz")

    assert (error.value.code, error.value.message) == (
        "ValidationException",
        "Could not find model data at s3://data/none/model.tar.gz.",
    )


async def test_what_a_model_cannot_be_here_is_refused_by_name(sagemaker: SageMaker) -> None:
    with pytest.raises(AWSError, match="A container with Mode MultiModel needs a ModelDataUrl"):
        await create(sagemaker, Image="pytorch:2", Mode="MultiModel")
    with pytest.raises(AWSError, match=r"Could not find model .*model/none"):
        sagemaker.models.describe_model(ModelName="none")


async def test_an_endpoint_config_is_described_as_it_was_created(sagemaker: SageMaker) -> None:
    await sagemaker.model("scenes")
    sagemaker.config("scenes", "scenes", weight=2, DataCaptureConfig=CAPTURE)

    described = sagemaker.models.describe_endpoint_config(EndpointConfigName="scenes")

    described.pop("CreationTime")
    assert described == {
        "EndpointConfigName": "scenes",
        "EndpointConfigArn": f"{ARN}:endpoint-config/scenes",
        "ProductionVariants": [variant("scenes", weight=2)],
        "DataCaptureConfig": CAPTURE,
        "EnableNetworkIsolation": False,
    }
    sagemaker.config("other", "scenes")
    listed = sagemaker.models.list_endpoint_configs(SortBy="Name", SortOrder="Ascending", MaxResults=1)
    assert [config["EndpointConfigName"] for config in listed["EndpointConfigs"]] == ["other"]
    sagemaker.models.delete_endpoint_config(EndpointConfigName="scenes")
    with pytest.raises(AWSError, match="Could not find endpoint configuration"):
        sagemaker.models.describe_endpoint_config(EndpointConfigName="scenes")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"ExplainerConfig": {"ClarifyExplainerConfig": {}}}, "ExplainerConfig is not supported"),
        ({"ProductionVariants": [variant("scenes"), variant("scenes")]}, "Duplicate variant name"),
        ({"ProductionVariants": [variant("none")]}, "Could not find model"),
    ],
    ids=["explainer", "duplicate", "model"],
)
async def test_an_endpoint_config_that_cannot_be_is_refused(
    sagemaker: SageMaker, members: dict[str, Any], message: str
) -> None:
    await sagemaker.model("scenes")

    with pytest.raises(AWSError, match=message):
        sagemaker.models.create_endpoint_config(
            **{"EndpointConfigName": "scenes", "ProductionVariants": [variant("scenes")], **members}
        )
