"""The events of a repository: "CodeCommit Repository State Change", one for each reference that was moved.

The user guide's page "Monitoring CodeCommit events" has their form.
"""

from collections.abc import Mapping

from stagegate.local.codecommit_records import Document, arn_of
from stagegate.local.service import Announcement, Runtime

ANNOUNCED = "codecommit/announced"
"""By the repository's id: the commit of each reference that its events were last sent for."""


def announce_changes(runtime: Runtime, document: Document, now: Mapping[str, str]) -> bool:
    """Tell of each reference whose commit is not what it was when last it was told of; gives whether there
    was one."""
    last = runtime.store.get(ANNOUNCED, document["repositoryId"])
    before = last["references"] if last else {}
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    for name in changed:
        runtime.announce(_event(runtime, document, name, now=now.get(name), before=before.get(name)))
    if changed:
        runtime.store.put(ANNOUNCED, document["repositoryId"], {"references": dict(now)})
    return bool(changed)


def _event(
    runtime: Runtime, document: Document, reference: str, *, now: str | None, before: str | None
) -> Announcement:
    event = "Updated" if now and before else ("Created" if now else "Deleted")
    kind, _, name = reference.removeprefix("refs/").partition("/")
    commits = {"commitId": now, "oldCommitId": before}
    return Announcement(
        source="aws.codecommit",
        detail_type="CodeCommit Repository State Change",
        detail={
            "event": f"reference{event}",
            "repositoryName": document["repositoryName"],
            "repositoryId": document["repositoryId"],
            "referenceType": "branch" if kind == "heads" else "tag",
            "referenceName": name,
            "referenceFullName": reference,
            **{member: commit_id for member, commit_id in commits.items() if commit_id},
            "callerUserArn": f"arn:aws:iam::{runtime.account_id}:root",
        },
        resources=(arn_of(runtime, document["repositoryName"]),),
    )
