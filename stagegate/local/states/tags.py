"""The tags of state machines and activities."""

from typing import Any

from stagegate.local.service import AWSError
from stagegate.local.states.records import ACTIVITY, MACHINE, TAGS
from stagegate.local.states.requests import check_arn, check_tags
from stagegate.local.store import Store


class Tags:
    """TagResource, UntagResource, ListTagsForResource."""

    store: Store

    def tag_resource(self, *, resourceArn: str, tags: list[dict[str, str]]) -> dict[str, Any]:
        self._check_is_there(resourceArn)
        kept = self._tags(resourceArn) | {tag["key"]: tag.get("value", "") for tag in tags}
        check_tags(resourceArn, [{"key": key} for key in kept])
        self.store.put(TAGS, resourceArn, {"tags": kept})
        return {}

    def untag_resource(self, *, resourceArn: str, tagKeys: list[str]) -> dict[str, Any]:
        self._check_is_there(resourceArn)
        kept = {key: value for key, value in self._tags(resourceArn).items() if key not in tagKeys}
        self.store.put(TAGS, resourceArn, {"tags": kept})
        return {}

    def list_tags_for_resource(self, *, resourceArn: str) -> dict[str, Any]:
        self._check_is_there(resourceArn)
        return {"tags": [{"key": key, "value": value} for key, value in self._tags(resourceArn).items()]}

    def forget_tags(self, arn: str) -> None:
        self.store.delete(TAGS, arn)

    def _tags(self, arn: str) -> dict[str, str]:
        return (self.store.get(TAGS, arn) or {"tags": {}})["tags"]  # type: ignore[no-any-return]

    def _check_is_there(self, arn: str) -> None:
        check_arn(arn, "states", "stateMachine", "activity")
        if self.store.get(ACTIVITY if ":activity:" in arn else MACHINE, arn) is None:
            raise AWSError("ResourceNotFound", f"Resource not found: '{arn}'", resourceName=arn)
