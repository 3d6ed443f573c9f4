"""EventBridge Scheduler's groups of schedules, and their tags; schedules themselves have none."""

from datetime import UTC, datetime
from typing import Any

from stagegate.local.pages import page
from stagegate.local.service import AWSError, Service
from stagegate.local.store import Store

GROUP = "scheduler/group"
SCHEDULE = "scheduler/schedule"
DEFAULT = "default"

_PAGE = 100

Document = dict[str, Any]


class ScheduleGroups(Service):
    """The group `default` is there always."""

    async def start(self) -> None:
        if self.runtime.store.get(GROUP, DEFAULT) is None:
            self.runtime.store.put(GROUP, DEFAULT, self._new(DEFAULT, tags=[], token=None))

    def create_schedule_group(
        self, *, Name: str, Tags: list[dict[str, str]] | None = None, ClientToken: str | None = None
    ) -> Document:
        before = self.runtime.store.get(GROUP, Name)
        if before is not None and (ClientToken is None or before["ClientToken"] != ClientToken):
            raise AWSError("ConflictException", f"Schedule group {Name} already exists.", status=409)
        created = before or self._new(Name, tags=Tags or [], token=ClientToken)
        self.runtime.store.put(GROUP, Name, created)
        return {"ScheduleGroupArn": created["Arn"]}

    def get_schedule_group(self, *, Name: str) -> Document:
        return _described(group(self.runtime.store, Name))

    def list_schedule_groups(
        self, *, NamePrefix: str = "", MaxResults: int = _PAGE, NextToken: str | None = None
    ) -> Document:
        found = [_described(it) for it in self.runtime.store.list(GROUP, prefix=NamePrefix)]
        found.sort(key=lambda it: (it["Name"] != DEFAULT, it["Name"]))
        return page("ScheduleGroups", found, NextToken, MaxResults)

    def delete_schedule_group(self, *, Name: str, ClientToken: str | None = None) -> Document:
        """Its schedules go with it."""
        group(self.runtime.store, Name)
        if Name == DEFAULT:
            raise AWSError("ValidationException", "The default schedule group cannot be deleted.")
        for schedule in self.runtime.store.list(SCHEDULE, prefix=f"{Name}/"):
            self.runtime.store.delete(SCHEDULE, f"{Name}/{schedule['Name']}")
        self.runtime.store.delete(GROUP, Name)
        return {}

    def list_tags_for_resource(self, *, ResourceArn: str) -> Document:
        return {"Tags": self._tagged(ResourceArn)["Tags"]}

    def tag_resource(self, *, ResourceArn: str, Tags: list[dict[str, str]]) -> Document:
        tagged = self._tagged(ResourceArn)
        tags = {tag["Key"]: tag for tag in [*tagged["Tags"], *Tags]}
        self.runtime.store.put(GROUP, tagged["Name"], tagged | {"Tags": list(tags.values())})
        return {}

    def untag_resource(self, *, ResourceArn: str, TagKeys: list[str]) -> Document:
        tagged = self._tagged(ResourceArn)
        left = [tag for tag in tagged["Tags"] if tag["Key"] not in TagKeys]
        self.runtime.store.put(GROUP, tagged["Name"], tagged | {"Tags": left})
        return {}

    def _tagged(self, arn: str) -> Document:
        return group(self.runtime.store, arn.rsplit("/", 1)[-1])

    def _new(self, name: str, *, tags: list[dict[str, str]], token: str | None) -> Document:
        now = datetime.now(UTC)
        return {
            "Arn": self.runtime.arn("scheduler", f"schedule-group/{name}"),
            "Name": name,
            "State": "ACTIVE",
            "CreationDate": now,
            "LastModificationDate": now,
            "Tags": tags,
            "ClientToken": token,
        }


def group(store: Store, name: str) -> Document:
    """The group of this name; ResourceNotFoundException where there is none."""
    found = store.get(GROUP, name)
    if found is None:
        raise AWSError("ResourceNotFoundException", f"Schedule group {name} does not exist.", status=404)
    return found


def _described(found: Document) -> Document:
    return {name: value for name, value in found.items() if name not in ("Tags", "ClientToken")}
