from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stagegate.local.sagemaker.registry import Registry
from stagegate.local.service import Announcement, AWSError, Runtime
from stagegate.local.store import Store

ARN = "arn:aws:sagemaker:us-east-1:111111111111"
SPECIFICATION = {
    "Containers": [{"Image": "pytorch:2", "ModelDataUrl": "s3://data/runs/r-1/model.tar.gz"}],
    "SupportedContentTypes": ["application/x-npy"],
    "SupportedResponseMIMETypes": ["application/json"],
}


async def no_aws(service: str, operation: str, parameters: Any = None) -> dict[str, Any]:
    raise AssertionError(f"{service} {operation} was called")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "stagegate.db")
    yield store
    store.close()


@pytest.fixture
def announced() -> list[Announcement]:
    return []


@pytest.fixture
def registry(store: Store, tmp_path: Path, announced: list[Announcement]) -> Registry:
    runtime = Runtime(store=store, aws=no_aws, data=tmp_path, endpoint_url="http://127.0.0.1:1")
    runtime.listeners.append(announced.append)
    return Registry(runtime)


@pytest.fixture
def group(registry: Registry) -> str:
    registry.create_model_package_group(ModelPackageGroupName="scenes", ModelPackageGroupDescription="Six")
    return "scenes"


def register(registry: Registry, group: str, **members: Any) -> str:
    answer = registry.create_model_package(
        ModelPackageGroupName=group, InferenceSpecification=SPECIFICATION, **members
    )
    return str(answer["ModelPackageArn"])


def message_of(error: pytest.ExceptionInfo[AWSError]) -> tuple[str, str]:
    return error.value.code, error.value.message


def test_a_group_is_described_as_it_was_created(registry: Registry, group: str) -> None:
    described = registry.describe_model_package_group(ModelPackageGroupName=group)

    created = described.pop("CreationTime")
    assert (datetime.now(UTC) - created).total_seconds() < 60
    assert described == {
        "ModelPackageGroupName": "scenes",
        "ModelPackageGroupArn": f"{ARN}:model-package-group/scenes",
        "ModelPackageGroupDescription": "Six",
        "ModelPackageGroupStatus": "Completed",
        "CreatedBy": {},
    }
    by_arn = registry.describe_model_package_group(ModelPackageGroupName=f"{ARN}:model-package-group/scenes")
    assert by_arn == {**described, "CreationTime": created}


def test_a_group_exists_once(registry: Registry, group: str) -> None:
    with pytest.raises(AWSError) as error:
        registry.create_model_package_group(ModelPackageGroupName=group)

    assert message_of(error) == (
        "ValidationException",
        f"Model Package Group already exists: {ARN}:model-package-group/scenes",
    )


def test_a_group_that_does_not_exist_is_named_by_its_arn(registry: Registry) -> None:
    with pytest.raises(AWSError) as error:
        registry.describe_model_package_group(ModelPackageGroupName="none")

    assert message_of(error) == (
        "ValidationException",
        f"ModelPackageGroup {ARN}:model-package-group/none does not exist.",
    )


def test_a_name_that_sagemaker_refuses_is_refused(registry: Registry) -> None:
    with pytest.raises(AWSError, match="Value 'a_b' at 'modelPackageGroupName' failed to satisfy constraint"):
        registry.create_model_package_group(ModelPackageGroupName="a_b")


def test_versions_are_numbered_within_their_group(registry: Registry, group: str) -> None:
    registry.create_model_package_group(ModelPackageGroupName="other")

    arns = [register(registry, group), register(registry, "other"), register(registry, group)]
    registry.delete_model_package(ModelPackageName=arns[2])

    assert arns == [f"{ARN}:model-package/{name}" for name in ("scenes/1", "other/1", "scenes/2")]
    assert register(registry, group) == f"{ARN}:model-package/scenes/3"


def test_a_package_is_described_with_all_that_was_given(registry: Registry, group: str) -> None:
    given = {
        "ModelPackageDescription": "Run r-1",
        "ModelMetrics": {"ModelQuality": {"Statistics": {"ContentType": "a/b", "S3Uri": "s3://b/e.json"}}},
        "MetadataProperties": {"CommitId": "abc"},
        "CustomerMetadataProperties": {"RunId": "r-1"},
        "SourceUri": "s3://b/source",
        "DriftCheckBaselines": {"ModelQuality": {}},
    }

    described = registry.describe_model_package(ModelPackageName=register(registry, group, **given))

    described.pop("CreationTime")
    assert described == {
        **given,
        "InferenceSpecification": SPECIFICATION,
        "ModelPackageName": "scenes",
        "ModelPackageGroupName": "scenes",
        "ModelPackageVersion": 1,
        "ModelPackageArn": f"{ARN}:model-package/scenes/1",
        "ModelApprovalStatus": "PendingManualApproval",
        "ModelPackageRegistrationType": "Registered",
        "ModelPackageStatus": "Completed",
        "ModelPackageStatusDetails": {"ValidationStatuses": [], "ImageScanStatuses": []},
        "CertifyForMarketplace": False,
        "CreatedBy": {},
    }


def test_creation_and_approval_are_announced(
    registry: Registry, group: str, announced: list[Announcement]
) -> None:
    arn = register(
        registry,
        group,
        CustomerMetadataProperties={"RunId": "r-1"},
        Tags=[{"Key": "team", "Value": "vision"}],
    )
    registry.update_model_package(
        ModelPackageArn=arn,
        ModelApprovalStatus="Approved",
        ApprovalDescription="Ada: better on glaciers",
        CustomerMetadataProperties={"DecidedBy": "Ada"},
    )

    assert [event.detail_type for event in announced] == ["SageMaker Model Package State Change"] * 2
    assert [event.resources for event in announced] == [(arn,)] * 2
    assert [event.detail["ModelApprovalStatus"] for event in announced] == [
        "PendingManualApproval",
        "Approved",
    ]
    detail = dict(announced[1].detail)
    for time in ("CreationTime", "LastModifiedTime"):
        datetime.strptime(detail.pop(time), "%Y-%m-%dT%H:%M:%SZ")
    assert detail == {
        "ModelPackageName": "scenes",
        "ModelPackageGroupName": "scenes",
        "ModelPackageVersion": 1,
        "ModelPackageArn": arn,
        "ModelPackageRegistrationType": "Registered",
        "ModelPackageStatus": "Completed",
        "ModelPackageStatusDetails": {"ValidationStatuses": [], "ImageScanStatuses": []},
        "ModelApprovalStatus": "Approved",
        "ApprovalDescription": "Ada: better on glaciers",
        "InferenceSpecification": SPECIFICATION,
        "CustomerMetadataProperties": {"RunId": "r-1", "DecidedBy": "Ada"},
        "CertifyForMarketplace": False,
        "CreatedBy": {},
        "LastModifiedBy": {},
        "Tags": {"team": "vision"},
        "UpdatedModelPackageFields": [
            *("ModelApprovalStatus", "ApprovalDescription", "CustomerMetadataProperties"),
        ],
    }
    assert "UpdatedModelPackageFields" not in announced[0].detail


def test_customer_metadata_is_merged_and_removed(registry: Registry, group: str) -> None:
    arn = register(registry, group, CustomerMetadataProperties={"a": "1", "b": "2"})

    registry.update_model_package(
        ModelPackageArn=arn,
        CustomerMetadataProperties={"b": "3", "c": "4"},
        CustomerMetadataPropertiesToRemove=["a"],
    )

    described = registry.describe_model_package(ModelPackageName=arn)
    assert described["CustomerMetadataProperties"] == {"b": "3", "c": "4"}
    assert described["ModelApprovalStatus"] == "PendingManualApproval"


def test_packages_are_filtered_sorted_and_paged(registry: Registry, group: str) -> None:
    arns = [register(registry, group) for _ in range(5)]
    for arn in arns[1:4]:
        registry.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved")
    registry.create_model_package(ModelPackageName="alone", InferenceSpecification=SPECIFICATION)

    first = registry.list_model_packages(
        ModelPackageGroupName=group, ModelApprovalStatus="Approved", SortOrder="Descending", MaxResults=2
    )
    second = registry.list_model_packages(
        ModelPackageGroupName=group,
        ModelApprovalStatus="Approved",
        SortOrder="Descending",
        MaxResults=2,
        NextToken=first["NextToken"],
    )

    listed = first["ModelPackageSummaryList"] + second["ModelPackageSummaryList"]
    assert [package["ModelPackageArn"] for package in listed] == [arns[3], arns[2], arns[1]]
    assert "NextToken" not in second
    assert set(listed[0]) == {
        "ModelPackageName",
        "ModelPackageGroupName",
        "ModelPackageVersion",
        "ModelPackageArn",
        "CreationTime",
        "ModelPackageStatus",
        "ModelApprovalStatus",
        "ModelPackageRegistrationType",
    }
    [alone] = registry.list_model_packages()["ModelPackageSummaryList"]
    assert alone["ModelPackageArn"] == f"{ARN}:model-package/alone"
    both = registry.list_model_packages(ModelPackageType="Both", NameContains="SCEN")
    assert len(both["ModelPackageSummaryList"]) == 5


def test_a_group_is_deleted_only_when_it_is_empty(registry: Registry, group: str) -> None:
    arn = register(registry, group)

    with pytest.raises(AWSError) as error:
        registry.delete_model_package_group(ModelPackageGroupName=group)

    assert error.value.code == "ConflictException"
    registry.delete_model_package(ModelPackageName=arn)
    registry.delete_model_package_group(ModelPackageGroupName=group)
    assert registry.list_model_package_groups() == {"ModelPackageGroupSummaryList": []}


def test_a_package_that_does_not_exist_is_named_by_its_arn(registry: Registry, group: str) -> None:
    arn = f"{ARN}:model-package/scenes/7"

    for call in (
        lambda: registry.describe_model_package(ModelPackageName="scenes/7"),
        lambda: registry.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved"),
        lambda: registry.delete_model_package(ModelPackageName=arn),
    ):
        with pytest.raises(AWSError) as error:
            call()
        assert message_of(error) == ("ValidationException", f"ModelPackage {arn} does not exist.")


def test_what_is_not_done_is_refused_by_name(registry: Registry, group: str) -> None:
    with pytest.raises(AWSError, match="CreateModelPackage: ValidationSpecification is not supported"):
        register(registry, group, ValidationSpecification={"ValidationRole": "r", "ValidationProfiles": []})


def test_a_client_token_creates_one_version(registry: Registry, group: str) -> None:
    assert register(registry, group, ClientToken="t-1") == register(registry, group, ClientToken="t-1")
    assert register(registry, group, ClientToken="t-2") == f"{ARN}:model-package/scenes/2"


def test_the_registry_is_the_same_after_a_restart(registry: Registry, group: str, tmp_path: Path) -> None:
    arn = register(registry, group)
    registry.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Rejected")
    before = registry.describe_model_package(ModelPackageName=arn)
    registry.runtime.store.commit()

    store = Store(tmp_path / "stagegate.db")
    again = Registry(Runtime(store=store, aws=no_aws, data=tmp_path, endpoint_url="http://127.0.0.1:1"))

    assert again.describe_model_package(ModelPackageName=arn) == before
    assert register(again, group) == f"{ARN}:model-package/scenes/2"
    store.close()


def test_an_unversioned_package_has_no_approval_status(registry: Registry) -> None:
    arn = registry.create_model_package(
        ModelPackageName="alone",
        ModelApprovalStatus="PendingManualApproval",  # the Python SDK gives it always
        InferenceSpecification=SPECIFICATION,
    )["ModelPackageArn"]

    assert "ModelApprovalStatus" not in registry.describe_model_package(ModelPackageName=arn)


def test_a_group_keeps_its_policy_until_it_is_deleted(registry: Registry, group: str) -> None:
    policy = '{"Version": "2012-10-17", "Statement": []}'

    registry.put_model_package_group_policy(ModelPackageGroupName=group, ResourcePolicy=policy)
    kept = registry.get_model_package_group_policy(ModelPackageGroupName=group)
    registry.delete_model_package_group_policy(ModelPackageGroupName=group)

    assert kept == {"ResourcePolicy": policy}
    for ask in (registry.get_model_package_group_policy, registry.delete_model_package_group_policy):
        with pytest.raises(AWSError, match="Cannot find resource policy for model package group: scenes"):
            ask(ModelPackageGroupName=group)
    with pytest.raises(AWSError, match="not a JSON policy document"):
        registry.put_model_package_group_policy(ModelPackageGroupName=group, ResourcePolicy="allow")
