"""What is put right in moto itself, because it cannot be from outside: by service, when moto loads it."""

import json
from collections.abc import Callable, Mapping
from typing import Any


def repair(service: str) -> None:
    if put_right := _REPAIRS.get(service):
        put_right()


def _judge_no_conditions() -> None:
    """moto takes a statement whose condition does not hold for a refusal, also where it says what is denied:
    a bucket that is reached over TLS only could not be reached at all. It judges by the others."""
    from moto.iam.access_control import IAMPolicy, PermissionResult
    from moto.s3.models import FakeBucket

    def get_permission(bucket: FakeBucket, action: str, resource: str) -> PermissionResult:
        if bucket.policy is None:
            return PermissionResult.NEUTRAL
        policy = json.loads(bucket.policy)
        statements = policy["Statement"] if isinstance(policy["Statement"], list) else [policy["Statement"]]
        judged = {**policy, "Statement": [it for it in statements if "Condition" not in it]}
        return IAMPolicy(json.dumps(judged)).is_action_permitted(action, resource)

    FakeBucket.get_permission = get_permission


def _keep_policies_of_queues() -> None:
    """SetQueueAttributes sets what it is given; moto drops the queue's policy where it is not among that."""
    from moto.sqs.models import Queue

    set_all = Queue._set_attributes

    def set_given(queue: Queue, attributes: dict[str, Any], now: float | None = None) -> None:
        kept = {"Policy": queue.policy} if hasattr(queue, "policy") and "Policy" not in attributes else {}
        set_all(queue, {**attributes, **kept}, now)

    if set_all.__name__ != set_given.__name__:
        Queue._set_attributes = set_given


_REPAIRS: Mapping[str, Callable[[], None]] = {
    "s3": _judge_no_conditions,
    "sqs": _keep_policies_of_queues,
}
