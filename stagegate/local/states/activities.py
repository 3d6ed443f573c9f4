"""Activities, as operations: workers anywhere fetch tasks and answer them by their tokens.

https://docs.aws.amazon.com/step-functions/latest/dg/concepts-activities.html
"""

from typing import Any

from stagegate.local.service import AWSError, Runtime, ends_with_its_client
from stagegate.local.states.execution import Engine
from stagegate.local.states.records import ACTIVITY
from stagegate.local.states.requests import check_arn, check_encryption, check_name, check_tags, now, page
from stagegate.local.states.tags import Tags
from stagegate.local.store import Store

POLL_SECONDS = 60.0
"""How long GetActivityTask waits for a task."""


class Activities(Tags):
    """CreateActivity, DescribeActivity, ListActivities, DeleteActivity, GetActivityTask."""

    runtime: Runtime
    store: Store
    engine: Engine
    poll_seconds = POLL_SECONDS

    def create_activity(
        self,
        *,
        name: str,
        tags: list[dict[str, str]] | None = None,
        encryptionConfiguration: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Idempotent for the same name and encryption."""
        check_name(name)
        arn = self.runtime.arn("states", f"activity:{name}")
        check_tags(arn, tags or [])
        encryption = check_encryption(encryptionConfiguration)
        if (activity := self.store.get(ACTIVITY, arn)) is not None:
            if activity["encryptionConfiguration"] != encryption:
                raise AWSError("ActivityAlreadyExists", f"Activity Already Exists: '{arn}'")
        else:
            activity = {
                "activityArn": arn,
                "name": name,
                "creationDate": now(),
                "encryptionConfiguration": encryption,
            }
            self.store.put(ACTIVITY, arn, activity)
            if tags:
                self.tag_resource(resourceArn=arn, tags=tags)
        return {"activityArn": arn, "creationDate": activity["creationDate"]}

    def describe_activity(self, *, activityArn: str) -> dict[str, Any]:
        return self._activity(activityArn)

    def list_activities(self, *, maxResults: int = 100, nextToken: str | None = None) -> dict[str, Any]:
        members = ("activityArn", "name", "creationDate")
        listed = [{member: activity[member] for member in members} for activity in self.store.list(ACTIVITY)]
        return page("activities", listed, maxResults, nextToken)

    def delete_activity(self, *, activityArn: str) -> dict[str, Any]:
        """Deleting what is not there is no error."""
        check_arn(activityArn, "states", "activity")
        self.store.delete(ACTIVITY, activityArn)
        self.forget_tags(activityArn)
        return {}

    @ends_with_its_client
    async def get_activity_task(self, *, activityArn: str, workerName: str | None = None) -> dict[str, Any]:
        """The next task; after a minute without one an answer without a token."""
        self._activity(activityArn)
        task = await self.engine.activities.take(activityArn, seconds=self.poll_seconds)
        if task is None:
            return {}
        self.engine.tokens.take(task.token, workerName)
        task.taken.set()
        return {"taskToken": task.token, "input": task.input}

    def _activity(self, arn: str) -> dict[str, Any]:
        check_arn(arn, "states", "activity")
        if (activity := self.store.get(ACTIVITY, arn)) is None:
            raise AWSError("ActivityDoesNotExist", f"Activity Does Not Exist: '{arn}'")
        return activity
