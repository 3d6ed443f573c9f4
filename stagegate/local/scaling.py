"""Application Auto Scaling of SageMaker's endpoint variants: what may scale and by which policies.

It is kept and checked, and nothing scales: a variant is one process on this machine, whatever its count.
"""

import re
import uuid
from datetime import UTC, datetime
from typing import Any

from stagegate.local.pages import page
from stagegate.local.service import AWSError, Service

TARGET = "application-autoscaling/target"
POLICY = "application-autoscaling/policy"

_VARIANT = "sagemaker:variant:DesiredInstanceCount"
_RESOURCE = re.compile(r"endpoint/([a-zA-Z0-9-]{1,63})/variant/([a-zA-Z0-9-]{1,63})")
_LINKED_ROLE = (
    "aws-service-role/sagemaker.application-autoscaling.amazonaws.com/"
    "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
)
_PAGE = 50
_INVALID_PAGE = "InvalidNextTokenException"
_ACTIVE = {
    "DynamicScalingInSuspended": False,
    "DynamicScalingOutSuspended": False,
    "ScheduledScalingSuspended": False,
}

Document = dict[str, Any]


class ApplicationAutoScaling(Service):
    """Scalable targets and their policies."""

    async def register_scalable_target(
        self,
        *,
        ServiceNamespace: str,
        ResourceId: str,
        ScalableDimension: str,
        MinCapacity: int | None = None,
        MaxCapacity: int | None = None,
        RoleARN: str | None = None,
        SuspendedState: Document | None = None,
        Tags: dict[str, str] | None = None,
    ) -> Document:
        """A target that is there already gets what is given, and keeps the rest."""
        await self._check_variant(ServiceNamespace, ResourceId, ScalableDimension)
        before = self.runtime.store.get(TARGET, ResourceId)
        if before is not None and Tags:
            raise _invalid("Tags can only be given for a new scalable target; use TagResource")
        least = before["MinCapacity"] if before and MinCapacity is None else MinCapacity
        most = before["MaxCapacity"] if before and MaxCapacity is None else MaxCapacity
        if least is None or most is None:
            raise _invalid("MinCapacity and MaxCapacity are required to register a new scalable target")
        if not 0 <= least <= most:
            raise _invalid(
                f"MinCapacity is {least} and MaxCapacity {most}; MinCapacity should be 0 or more, and "
                "MaxCapacity as much at least"
            )
        target = before or {
            "ServiceNamespace": ServiceNamespace,
            "ResourceId": ResourceId,
            "ScalableDimension": ScalableDimension,
            "RoleARN": RoleARN or f"arn:aws:iam::{self.runtime.account_id}:role/{_LINKED_ROLE}",
            "CreationTime": datetime.now(UTC),
            "SuspendedState": _ACTIVE,
            "ScalableTargetARN": self.runtime.arn(
                "application-autoscaling", f"scalable-target/{uuid.uuid4().hex}"
            ),
            "Tags": Tags or {},
        }
        suspended = {**target["SuspendedState"], **(SuspendedState or {})}
        changed = {**target, "MinCapacity": least, "MaxCapacity": most, "SuspendedState": suspended}
        self.runtime.store.put(TARGET, ResourceId, changed)
        return {"ScalableTargetARN": changed["ScalableTargetARN"]}

    def describe_scalable_targets(
        self,
        *,
        ServiceNamespace: str,
        ResourceIds: list[str] | None = None,
        ScalableDimension: str | None = None,
        MaxResults: int | None = None,
        NextToken: str | None = None,
    ) -> Document:
        found = [
            {name: value for name, value in target.items() if name != "Tags"}
            for target in self.runtime.store.list(TARGET)
            if target["ServiceNamespace"] == ServiceNamespace
            and (not ResourceIds or target["ResourceId"] in ResourceIds)
            and ScalableDimension in (None, target["ScalableDimension"])
        ]
        return page("ScalableTargets", found, NextToken, MaxResults or _PAGE, invalid=_INVALID_PAGE)

    def deregister_scalable_target(
        self, *, ServiceNamespace: str, ResourceId: str, ScalableDimension: str
    ) -> Document:
        """Its policies go with it."""
        self._target(ServiceNamespace, ResourceId, ScalableDimension)
        for policy in self.runtime.store.list(POLICY, prefix=f"{ResourceId}/policy/"):
            self.runtime.store.delete(POLICY, _policy_key(policy["ResourceId"], policy["PolicyName"]))
        self.runtime.store.delete(TARGET, ResourceId)
        return {}

    def put_scaling_policy(
        self,
        *,
        PolicyName: str,
        ServiceNamespace: str,
        ResourceId: str,
        ScalableDimension: str,
        PolicyType: str | None = None,
        StepScalingPolicyConfiguration: Document | None = None,
        TargetTrackingScalingPolicyConfiguration: Document | None = None,
        PredictiveScalingPolicyConfiguration: Document | None = None,
    ) -> Document:
        """Another one of the same name takes its place, and keeps its ARN."""
        self._target(ServiceNamespace, ResourceId, ScalableDimension)
        key = _policy_key(ResourceId, PolicyName)
        before = self.runtime.store.get(POLICY, key)
        kind = PolicyType or (before or {}).get("PolicyType", "StepScaling")
        given = {
            "StepScaling": StepScalingPolicyConfiguration,
            "TargetTrackingScaling": TargetTrackingScalingPolicyConfiguration,
        }
        if kind not in given or PredictiveScalingPolicyConfiguration:
            raise _invalid(f"PolicyType {kind} is not supported by the local runtime")
        if [name for name, configuration in given.items() if configuration] != [kind]:
            raise _invalid(f"A policy of PolicyType {kind} has {kind}PolicyConfiguration, and no other")
        if kind == "TargetTrackingScaling":
            _check_target_tracking(given[kind] or {})
        policy: Document = {
            "PolicyARN": before["PolicyARN"] if before else self._policy_arn(ResourceId, PolicyName),
            "PolicyName": PolicyName,
            "ServiceNamespace": ServiceNamespace,
            "ResourceId": ResourceId,
            "ScalableDimension": ScalableDimension,
            "PolicyType": kind,
            f"{kind}PolicyConfiguration": given[kind],
            "Alarms": [],
            "CreationTime": before["CreationTime"] if before else datetime.now(UTC),
        }
        self.runtime.store.put(POLICY, key, policy)
        return {"PolicyARN": policy["PolicyARN"], "Alarms": []}

    def describe_scaling_policies(
        self,
        *,
        ServiceNamespace: str,
        PolicyNames: list[str] | None = None,
        ResourceId: str | None = None,
        ScalableDimension: str | None = None,
        MaxResults: int | None = None,
        NextToken: str | None = None,
    ) -> Document:
        found = [
            policy
            for policy in self.runtime.store.list(POLICY)
            if policy["ServiceNamespace"] == ServiceNamespace
            and (not PolicyNames or {policy["PolicyName"], policy["PolicyARN"]} & set(PolicyNames))
            and ResourceId in (None, policy["ResourceId"])
            and ScalableDimension in (None, policy["ScalableDimension"])
        ]
        return page("ScalingPolicies", found, NextToken, MaxResults or _PAGE, invalid=_INVALID_PAGE)

    def delete_scaling_policy(
        self, *, PolicyName: str, ServiceNamespace: str, ResourceId: str, ScalableDimension: str
    ) -> Document:
        key = _policy_key(ResourceId, PolicyName)
        if self.runtime.store.get(POLICY, key) is None:
            raise AWSError(
                "ObjectNotFoundException",
                f"No scaling policy found for service namespace: {ServiceNamespace}, resource ID: "
                f"{ResourceId}, scalable dimension: {ScalableDimension}, policy name: {PolicyName}",
            )
        self.runtime.store.delete(POLICY, key)
        return {}

    def list_tags_for_resource(self, *, ResourceARN: str) -> Document:
        return {"Tags": self._tagged(ResourceARN)["Tags"]}

    def tag_resource(self, *, ResourceARN: str, Tags: dict[str, str]) -> Document:
        target = self._tagged(ResourceARN)
        self.runtime.store.put(TARGET, target["ResourceId"], {**target, "Tags": {**target["Tags"], **Tags}})
        return {}

    def untag_resource(self, *, ResourceARN: str, TagKeys: list[str]) -> Document:
        target = self._tagged(ResourceARN)
        left = {key: value for key, value in target["Tags"].items() if key not in TagKeys}
        self.runtime.store.put(TARGET, target["ResourceId"], {**target, "Tags": left})
        return {}

    async def _check_variant(self, namespace: str, resource_id: str, dimension: str) -> None:
        """Refuse what is no variant of an endpoint that is there."""
        match = _RESOURCE.fullmatch(resource_id)
        if namespace != "sagemaker" or dimension != _VARIANT or match is None:
            raise _invalid(
                f"{namespace}, {dimension}, {resource_id} is not supported by the local runtime: it takes "
                f"ServiceNamespace sagemaker, ScalableDimension {_VARIANT} and a ResourceId "
                "endpoint/NAME/variant/NAME"
            )
        name, variant = match.groups()
        try:
            endpoint = await self.runtime.aws("sagemaker", "DescribeEndpoint", {"EndpointName": name})
        except AWSError as error:
            raise _invalid(f"The resource {resource_id} cannot be scaled: {error.message}") from error
        variants = [it["VariantName"] for it in endpoint.get("ProductionVariants", ())]
        if variants and variant not in variants:
            raise _invalid(f"The endpoint {name} has no variant {variant}; it has {', '.join(variants)}")

    def _target(self, namespace: str, resource_id: str, dimension: str) -> Document:
        target = self.runtime.store.get(TARGET, resource_id)
        if target is None or (target["ServiceNamespace"], target["ScalableDimension"]) != (
            namespace,
            dimension,
        ):
            raise AWSError(
                "ObjectNotFoundException",
                f"No scalable target registered for service namespace: {namespace}, resource ID: "
                f"{resource_id}, scalable dimension: {dimension}",
            )
        return target

    def _tagged(self, arn: str) -> Document:
        for target in self.runtime.store.list(TARGET):
            if target["ScalableTargetARN"] == arn:
                return target
        raise AWSError(
            "ResourceNotFoundException", f"No scalable target found for the ARN {arn}", ResourceName=arn
        )

    def _policy_arn(self, resource_id: str, name: str) -> str:
        return self.runtime.arn(
            "autoscaling",
            f"scalingPolicy:{uuid.uuid4()}:resource/sagemaker/{resource_id}:policyName/{name}",
        )


def _policy_key(resource_id: str, name: str) -> str:
    return f"{resource_id}/policy/{name}"


def _check_target_tracking(configuration: Document) -> None:
    metrics = [
        member
        for member in ("PredefinedMetricSpecification", "CustomizedMetricSpecification")
        if configuration.get(member)
    ]
    if len(metrics) != 1:
        raise _invalid(
            "TargetTrackingScalingPolicyConfiguration has one of PredefinedMetricSpecification and "
            "CustomizedMetricSpecification"
        )
    predefined = configuration.get("PredefinedMetricSpecification", {}).get("PredefinedMetricType")
    if predefined not in (None, "SageMakerVariantInvocationsPerInstance"):
        raise _invalid(
            f"PredefinedMetricType {predefined} does not go with the scalable dimension {_VARIANT}"
        )


def _invalid(message: str) -> AWSError:
    return AWSError("ValidationException", message)
