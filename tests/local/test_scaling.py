"""Application Auto Scaling: what is registered is kept, checked against the endpoint, and told."""

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.conftest import Local
from tests.local.sagemaker.fakes import ECHO, archive, variant

WHAT = {
    "ServiceNamespace": "sagemaker",
    "ResourceId": "endpoint/scenes/variant/AllTraffic",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}
TRACKING = {
    "TargetValue": 600.0,
    "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
}


@pytest.fixture(scope="module")
def served(shared_local: Local) -> Local:
    """A runtime with an endpoint."""
    s3, sagemaker = shared_local.client("s3"), shared_local.client("sagemaker")
    s3.create_bucket(Bucket="data")
    s3.put_object(
        Bucket="data", Key="model.tar.gz", Body=archive({"code/inference.py": ECHO.format(version="one")})
    )
    container = {"Image": "pytorch:2", "ModelDataUrl": "s3://data/model.tar.gz"}
    sagemaker.create_model(ModelName="one", PrimaryContainer=container)
    sagemaker.create_endpoint_config(
        EndpointConfigName="one", ProductionVariants=[variant("one", "AllTraffic")]
    )
    sagemaker.create_endpoint(EndpointName="scenes", EndpointConfigName="one")
    waiter = sagemaker.get_waiter("endpoint_in_service")
    waiter.wait(EndpointName="scenes", WaiterConfig={"Delay": 0.1, "MaxAttempts": 300})
    return shared_local


@pytest.fixture
def scaling(served: Local) -> Iterator[Any]:
    client = served.client("application-autoscaling")
    yield client
    for target in client.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]:
        client.deregister_scalable_target(**{name: target[name] for name in WHAT})


def refused(call: Any, **members: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**members)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_a_target_is_registered_changed_and_deregistered(scaling: Any) -> None:
    arn = scaling.register_scalable_target(**WHAT, MinCapacity=1, MaxCapacity=4, Tags={"team": "vision"})
    again = scaling.register_scalable_target(**WHAT, MaxCapacity=2)
    (target,) = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    tags = scaling.list_tags_for_resource(ResourceARN=target["ScalableTargetARN"])["Tags"]
    scaling.deregister_scalable_target(**WHAT)

    assert arn["ScalableTargetARN"] == again["ScalableTargetARN"] == target["ScalableTargetARN"]
    assert (target["MinCapacity"], target["MaxCapacity"], tags) == (1, 2, {"team": "vision"})
    assert target["RoleARN"].endswith("AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint")
    assert target["SuspendedState"]["DynamicScalingInSuspended"] is False
    assert scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"] == []


def test_tags_come_and_go(scaling: Any) -> None:
    arn = scaling.register_scalable_target(**WHAT, MinCapacity=1, MaxCapacity=4)["ScalableTargetARN"]

    scaling.tag_resource(ResourceARN=arn, Tags={"a": "1", "b": "2"})
    scaling.untag_resource(ResourceARN=arn, TagKeys=["a"])

    assert scaling.list_tags_for_resource(ResourceARN=arn)["Tags"] == {"b": "2"}
    assert refused(scaling.tag_resource, ResourceARN=f"{arn}0", Tags={})[0] == "ResourceNotFoundException"


def test_a_policy_keeps_its_arn_when_it_is_put_again_and_goes_with_its_target(scaling: Any) -> None:
    scaling.register_scalable_target(**WHAT, MinCapacity=1, MaxCapacity=4)
    policy = {
        **WHAT,
        "PolicyName": "load",
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": TRACKING,
    }

    first = scaling.put_scaling_policy(**policy)["PolicyARN"]
    changed = {**policy, "TargetTrackingScalingPolicyConfiguration": TRACKING | {"TargetValue": 100.0}}
    second = scaling.put_scaling_policy(**changed)["PolicyARN"]
    (found,) = scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    scaling.deregister_scalable_target(**WHAT)

    assert first == second == found["PolicyARN"]
    assert first.endswith(":resource/sagemaker/endpoint/scenes/variant/AllTraffic:policyName/load")
    assert found["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 100
    assert scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"] == []


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"ResourceId": "endpoint/nowhere/variant/AllTraffic"}, "Could not find endpoint"),
        ({"ResourceId": "endpoint/scenes/variant/Other"}, "has no variant Other; it has AllTraffic"),
        ({"ServiceNamespace": "ecs"}, "it takes ServiceNamespace sagemaker"),
        ({"MinCapacity": 5}, "MinCapacity is 5 and MaxCapacity 4"),
        ({"MaxCapacity": None}, "MinCapacity and MaxCapacity are required"),
    ],
)
def test_what_cannot_scale_is_refused(scaling: Any, members: dict[str, Any], said: str) -> None:
    wanted = {**WHAT, "MinCapacity": 1, "MaxCapacity": 4} | members
    given = {name: value for name, value in wanted.items() if value is not None}

    code, message = refused(scaling.register_scalable_target, **given)

    assert (code, said in message) == ("ValidationException", True), message


@pytest.mark.parametrize(
    ("members", "code", "said"),
    [
        ({"ResourceId": "endpoint/x/variant/y"}, "ObjectNotFoundException", "No scalable target registered"),
        ({"PolicyType": "PredictiveScaling"}, "ValidationException", "PredictiveScaling is not supported"),
        ({"PolicyType": "StepScaling"}, "ValidationException", "has StepScalingPolicyConfiguration"),
        (
            {"TargetTrackingScalingPolicyConfiguration": {"TargetValue": 1.0}},
            "ValidationException",
            "one of PredefinedMetricSpecification",
        ),
    ],
)
def test_a_policy_that_cannot_be_is_refused(
    scaling: Any, members: dict[str, Any], code: str, said: str
) -> None:
    scaling.register_scalable_target(**WHAT, MinCapacity=1, MaxCapacity=4)
    policy = {
        **WHAT,
        "PolicyName": "load",
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": TRACKING,
    } | members

    answer = refused(scaling.put_scaling_policy, **policy)

    assert (answer[0], said in answer[1]) == (code, True), answer
    assert refused(scaling.delete_scaling_policy, **WHAT, PolicyName="load")[0] == "ObjectNotFoundException"
