"""The model registry: model package groups, and the model packages that wait there for a decision.

Every change of a package is announced as "SageMaker Model Package State Change", as on AWS also its creation.
"""

import json
from datetime import UTC, datetime
from typing import Any

from stagegate.local.sagemaker.resources import (
    check_name,
    invalid,
    order,
    page,
    pick,
    put_tags,
    refuse,
    select,
    tags_of,
)
from stagegate.local.service import Announcement, AWSError, Service

GROUP = "sagemaker/model-package-group"
PACKAGE = "sagemaker/model-package"

_GROUP = (
    "ModelPackageGroupName",
    "ModelPackageGroupArn",
    "ModelPackageGroupDescription",
    "CreationTime",
    "ModelPackageGroupStatus",
)
_GIVEN_BACK = (  # members of CreateModelPackage that DescribeModelPackage gives as they were
    "ModelPackageDescription",
    "InferenceSpecification",
    "SourceAlgorithmSpecification",
    "MetadataProperties",
    "ModelMetrics",
    "Domain",
    "Task",
    "SamplePayloadUrl",
    "CustomerMetadataProperties",
    "DriftCheckBaselines",
    "AdditionalInferenceSpecifications",
    "SkipModelValidation",
    "SourceUri",
    "SecurityConfig",
    "ModelCard",
    "ModelLifeCycle",
    "ModelPackageRegistrationType",
)
_SUMMARY = (
    "ModelPackageName",
    "ModelPackageGroupName",
    "ModelPackageVersion",
    "ModelPackageArn",
    "ModelPackageDescription",
    "CreationTime",
    "ModelPackageStatus",
    "ModelApprovalStatus",
    "ModelLifeCycle",
    "ModelPackageRegistrationType",
)
_MAX_PROPERTIES = 50
_CREATED_BY: dict[str, Any] = {}  # there is no Studio user here


class Registry(Service):
    """Model package groups and model packages."""

    def create_model_package_group(
        self,
        *,
        ModelPackageGroupName: str,
        ModelPackageGroupDescription: str | None = None,
        Tags: list[dict[str, str]] | None = None,
        ManagedConfiguration: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        refuse([("ManagedConfiguration", ManagedConfiguration)], operation="CreateModelPackageGroup")
        check_name(ModelPackageGroupName, member="modelPackageGroupName")
        arn = self.runtime.arn("sagemaker", f"model-package-group/{ModelPackageGroupName}")
        if self.runtime.store.get(GROUP, ModelPackageGroupName):
            raise invalid(f"Model Package Group already exists: {arn}")
        document = {
            "ModelPackageGroupName": ModelPackageGroupName,
            "ModelPackageGroupArn": arn,
            "ModelPackageGroupDescription": ModelPackageGroupDescription,
            "CreationTime": datetime.now(UTC),
            "ModelPackageGroupStatus": "Completed",
            "LastVersion": 0,
        }
        self.runtime.store.put(GROUP, ModelPackageGroupName, document)
        put_tags(self.runtime.store, arn, Tags)
        return {"ModelPackageGroupArn": arn}

    def describe_model_package_group(self, *, ModelPackageGroupName: str) -> dict[str, Any]:
        group = self._group(ModelPackageGroupName)
        return {**pick(group, _GROUP), "CreatedBy": _CREATED_BY}

    def list_model_package_groups(
        self,
        *,
        CreationTimeAfter: datetime | None = None,
        CreationTimeBefore: datetime | None = None,
        MaxResults: int | None = None,
        NameContains: str | None = None,
        NextToken: str | None = None,
        SortBy: str = "CreationTime",
        SortOrder: str = "Ascending",
        CrossAccountFilterOption: str = "SameAccount",
    ) -> dict[str, Any]:
        groups = select(
            self.runtime.store.list(GROUP) if CrossAccountFilterOption == "SameAccount" else [],
            name="ModelPackageGroupName",
            contains=NameContains,
            created_after=CreationTimeAfter,
            created_before=CreationTimeBefore,
        )
        by = "ModelPackageGroupName" if SortBy == "Name" else SortBy
        ordered = order(groups, by=by, descending=SortOrder == "Descending")
        return page(
            [pick(group, _GROUP) for group in ordered],
            member="ModelPackageGroupSummaryList",
            token=NextToken,
            size=MaxResults,
        )

    def put_model_package_group_policy(
        self, *, ModelPackageGroupName: str, ResourcePolicy: str
    ) -> dict[str, Any]:
        """Kept, and not judged: there is one account."""
        group = self._group(ModelPackageGroupName)
        try:
            is_policy = isinstance(json.loads(ResourcePolicy), dict)
        except ValueError:
            is_policy = False
        if not is_policy:
            raise invalid("ResourcePolicy is not a JSON policy document")
        name = group["ModelPackageGroupName"]
        self.runtime.store.put(GROUP, name, {**group, "_ResourcePolicy": ResourcePolicy})
        return {"ModelPackageGroupArn": group["ModelPackageGroupArn"]}

    def get_model_package_group_policy(self, *, ModelPackageGroupName: str) -> dict[str, Any]:
        return {"ResourcePolicy": self._group_policy(self._group(ModelPackageGroupName))}

    def delete_model_package_group_policy(self, *, ModelPackageGroupName: str) -> dict[str, Any]:
        group = self._group(ModelPackageGroupName)
        self._group_policy(group)
        kept = {member: value for member, value in group.items() if member != "_ResourcePolicy"}
        self.runtime.store.put(GROUP, group["ModelPackageGroupName"], kept)
        return {}

    def delete_model_package_group(self, *, ModelPackageGroupName: str) -> dict[str, Any]:
        group = self._group(ModelPackageGroupName)
        name, arn = group["ModelPackageGroupName"], group["ModelPackageGroupArn"]
        if self.runtime.store.list(PACKAGE, prefix=f"{name}/"):
            raise AWSError(
                "ConflictException",
                f"Model Package Group {arn} cannot be deleted because it still contains Model Packages",
            )
        self.runtime.store.delete(GROUP, name)
        put_tags(self.runtime.store, arn, None)
        return {}

    def create_model_package(
        self,
        *,
        ModelPackageName: str | None = None,
        ModelPackageGroupName: str | None = None,
        ModelApprovalStatus: str | None = None,
        Tags: list[dict[str, str]] | None = None,
        CertifyForMarketplace: bool = False,
        ValidationSpecification: dict[str, Any] | None = None,
        ManagedStorageType: str | None = None,
        ClientToken: str | None = None,
        **given: Any,
    ) -> dict[str, Any]:
        refuse(
            [
                ("ValidationSpecification", ValidationSpecification),
                ("ManagedStorageType", ManagedStorageType),
                ("CertifyForMarketplace", CertifyForMarketplace),
                *((name, value) for name, value in given.items() if name not in _GIVEN_BACK),
            ],
            operation="CreateModelPackage",
        )
        if (ModelPackageName is None) == (ModelPackageGroupName is None):
            raise invalid(
                "Either ModelPackageName or ModelPackageGroupName must be provided, but not both: "
                "a name for an unversioned model package, a group for a new version in it"
            )
        if ClientToken and (earlier := self._created_with(ClientToken)):
            return {"ModelPackageArn": earlier["ModelPackageArn"]}
        _check_containers(given.get("InferenceSpecification"))
        _check_properties(given.get("CustomerMetadataProperties", {}))

        if ModelPackageGroupName is not None:
            holder = self._group(ModelPackageGroupName)
            group, version = holder["ModelPackageGroupName"], holder["LastVersion"] + 1
            self.runtime.store.put(GROUP, group, {**holder, "LastVersion": version})
            key = f"{group}/{version}"
            identity = {
                "ModelPackageName": group,
                "ModelPackageGroupName": group,
                "ModelPackageVersion": version,
                "ModelApprovalStatus": ModelApprovalStatus or "PendingManualApproval",
                "ModelPackageRegistrationType": given.get("ModelPackageRegistrationType", "Registered"),
            }
        else:  # ModelApprovalStatus "does not apply to unversioned models"; the Python SDK sends it always
            key = str(ModelPackageName)
            check_name(key, member="modelPackageName")
            if self.runtime.store.get(PACKAGE, key):
                arn = self.runtime.arn("sagemaker", f"model-package/{key}")
                raise AWSError("ConflictException", f"Model Package already exists: {arn}")
            identity = {"ModelPackageName": key}

        arn = self.runtime.arn("sagemaker", f"model-package/{key}")
        package = {
            **pick(given, _GIVEN_BACK),
            **identity,
            "ModelPackageArn": arn,
            "CreationTime": datetime.now(UTC),
            "ModelPackageStatus": "Completed",
            "ModelPackageStatusDetails": {"ValidationStatuses": [], "ImageScanStatuses": []},
            "CertifyForMarketplace": CertifyForMarketplace,
            "ClientToken": ClientToken,
        }
        put_tags(self.runtime.store, arn, Tags)
        self._save(package)
        return {"ModelPackageArn": arn}

    def describe_model_package(
        self, *, ModelPackageName: str, IncludedData: str = "AllData"
    ) -> dict[str, Any]:
        package = self._package(ModelPackageName)
        described = {**pick(package, package), "CreatedBy": _CREATED_BY}
        described.pop("ClientToken", None)
        if "LastModifiedTime" in package:
            described["LastModifiedBy"] = _CREATED_BY
        if IncludedData == "MetadataOnly":
            described.pop("ModelCard", None)
        return described

    def update_model_package(
        self,
        *,
        ModelPackageArn: str,
        ModelApprovalStatus: str | None = None,
        ApprovalDescription: str | None = None,
        CustomerMetadataProperties: dict[str, str] | None = None,
        CustomerMetadataPropertiesToRemove: list[str] | None = None,
        AdditionalInferenceSpecificationsToAdd: list[dict[str, Any]] | None = None,
        ClientToken: str | None = None,
        **replaced: Any,
    ) -> dict[str, Any]:
        package = self._package(ModelPackageArn)
        if ModelApprovalStatus is not None and "ModelPackageVersion" not in package:
            raise invalid("ModelApprovalStatus can only be updated for a versioned model package")
        properties = {
            **package.get("CustomerMetadataProperties", {}),
            **(CustomerMetadataProperties or {}),
        }
        for name in CustomerMetadataPropertiesToRemove or ():
            properties.pop(name, None)
        _check_properties(properties)
        _check_containers(replaced.get("InferenceSpecification"))

        specifications = [
            *package.get("AdditionalInferenceSpecifications", []),
            *(AdditionalInferenceSpecificationsToAdd or []),
        ]
        changes = {
            "ModelApprovalStatus": ModelApprovalStatus,
            "ApprovalDescription": ApprovalDescription,
            "AdditionalInferenceSpecifications": specifications or None,
            **pick(replaced, _GIVEN_BACK),
        }
        package |= {name: value for name, value in changes.items() if value is not None}
        package["CustomerMetadataProperties"] = properties or None
        package["LastModifiedTime"] = datetime.now(UTC)
        given = {**changes, "CustomerMetadataProperties": CustomerMetadataProperties}
        if CustomerMetadataPropertiesToRemove:
            given["CustomerMetadataProperties"] = properties
        if not AdditionalInferenceSpecificationsToAdd:
            given["AdditionalInferenceSpecifications"] = None
        self._save(package, updated=[name for name, value in given.items() if value is not None])
        return {"ModelPackageArn": package["ModelPackageArn"]}

    def list_model_packages(
        self,
        *,
        CreationTimeAfter: datetime | None = None,
        CreationTimeBefore: datetime | None = None,
        MaxResults: int | None = None,
        NameContains: str | None = None,
        ModelApprovalStatus: str | None = None,
        ModelPackageGroupName: str | None = None,
        ModelPackageType: str | None = None,
        NextToken: str | None = None,
        SortBy: str = "CreationTime",
        SortOrder: str = "Ascending",
    ) -> dict[str, Any]:
        group = ModelPackageGroupName and self._group(ModelPackageGroupName)["ModelPackageGroupName"]
        kind = ModelPackageType or ("Versioned" if group else "Unversioned")
        packages = select(
            self.runtime.store.list(PACKAGE, prefix=f"{group}/" if group else ""),
            name="ModelPackageName",
            contains=NameContains,
            created_after=CreationTimeAfter,
            created_before=CreationTimeBefore,
            equal={"ModelApprovalStatus": ModelApprovalStatus},
        )
        of_kind = [
            package
            for package in packages
            if kind == "Both" or (kind == "Versioned") == ("ModelPackageVersion" in package)
        ]
        by = "ModelPackageName" if SortBy == "Name" else SortBy
        ordered = order(of_kind, by=by, descending=SortOrder == "Descending")
        return page(
            [pick(package, _SUMMARY) for package in ordered],
            member="ModelPackageSummaryList",
            token=NextToken,
            size=MaxResults,
        )

    def delete_model_package(self, *, ModelPackageName: str) -> dict[str, Any]:
        package = self._package(ModelPackageName)
        self.runtime.store.delete(PACKAGE, _key(package["ModelPackageArn"]))
        put_tags(self.runtime.store, package["ModelPackageArn"], None)
        return {}

    def _group(self, name_or_arn: str) -> dict[str, Any]:
        name = _key(name_or_arn)
        group = self.runtime.store.get(GROUP, name)
        if group is None:
            arn = self.runtime.arn("sagemaker", f"model-package-group/{name}")
            raise invalid(f"ModelPackageGroup {arn} does not exist.")
        return group

    def _group_policy(self, group: dict[str, Any]) -> str:
        policy: str | None = group.get("_ResourcePolicy")
        if policy is None:
            name = group["ModelPackageGroupName"]
            raise invalid(f"Cannot find resource policy for model package group: {name}")
        return policy

    def _package(self, name_or_arn: str) -> dict[str, Any]:
        key = _key(name_or_arn)
        package = self.runtime.store.get(PACKAGE, key)
        if package is None:
            raise invalid(
                f"ModelPackage {self.runtime.arn('sagemaker', f'model-package/{key}')} does not exist."
            )
        return package

    def _created_with(self, client_token: str) -> dict[str, Any] | None:
        return next(
            (
                package
                for package in self.runtime.store.list(PACKAGE)
                if package.get("ClientToken") == client_token
            ),
            None,
        )

    def _save(self, package: dict[str, Any], *, updated: list[str] | None = None) -> None:
        """Write a package and say so: the one place where a package changes.

        `updated`, the fields that an update gave, go into the event: a rule tells a decision from a note.
        """
        arn = package["ModelPackageArn"]
        self.runtime.store.put(PACKAGE, _key(arn), {k: v for k, v in package.items() if v is not None})
        detail = {
            name: value.strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(value, datetime) else value
            for name, value in self.describe_model_package(ModelPackageName=arn).items()
        }
        self.runtime.announce(
            Announcement(
                source="aws.sagemaker",
                detail_type="SageMaker Model Package State Change",
                detail={
                    **detail,
                    **({"UpdatedModelPackageFields": updated} if updated else {}),
                    "Tags": tags_of(self.runtime.store, arn),
                },
                resources=(arn,),
            )
        )


def _key(name_or_arn: str) -> str:
    """What follows the kind in an ARN: "group/3" of `arn:…:model-package/group/3`; a name is one already."""
    return name_or_arn.partition("/")[2] if name_or_arn.startswith("arn:") else name_or_arn


def _check_containers(specification: dict[str, Any] | None) -> None:
    for container in (specification or {}).get("Containers", ()):
        if "Image" not in container:
            raise invalid("InferenceSpecification.Containers: each container needs an Image")


def _check_properties(properties: dict[str, str]) -> None:
    if len(properties) > _MAX_PROPERTIES:
        raise invalid(
            f"CustomerMetadataProperties: {len(properties)} entries given, "
            f"at most {_MAX_PROPERTIES} are allowed"
        )
    for name, value in properties.items():
        if not 1 <= len(name) <= 128 or not 1 <= len(value) <= 256:
            raise invalid(
                f"CustomerMetadataProperties: '{name}' has a value of {len(value)} characters; "
                "a name has 1 to 128 characters and a value 1 to 256"
            )
