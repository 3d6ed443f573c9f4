"""AWS::CodeBuild: projects."""

from typing import Any

from stagegate.local.service import AWSError
from stagegate.local.stacks.resources.kind import (
    Attributes,
    Context,
    Properties,
    ResourceType,
    lower_first,
    picked,
    properties,
)

_AS_GIVEN = (
    "Name Description Source SecondarySources SourceVersion Artifacts SecondaryArtifacts Cache Environment "
    "ServiceRole TimeoutInMinutes QueuedTimeoutInMinutes EncryptionKey VpcConfig BadgeEnabled LogsConfig "
    "ConcurrentBuildLimit AutoRetryLimit FileSystemLocations"
)
_DEFAULTS: dict[str, Any] = {
    "Description": "",
    "SourceVersion": "",
    "SecondarySources": [],
    "SecondaryArtifacts": [],
    "TimeoutInMinutes": 60,
    "QueuedTimeoutInMinutes": 480,
    "BadgeEnabled": False,
}
"""What is no longer said is so again; UpdateProject leaves what it is not told."""


def _members(context: Context, wanted: Properties) -> dict[str, Any]:
    """The members of CreateProject, which has small first letters, and `buildspec` in one word."""
    members: dict[str, Any] = lower_first(picked(wanted, _AS_GIVEN))
    for source in (members["source"], *members.get("secondarySources", ())):
        if "buildSpec" in source:
            source["buildspec"] = source.pop("buildSpec")
    return {**members, "tags": lower_first(context.merged_tags(wanted))}


async def _create(context: Context, wanted: Properties) -> Attributes:
    answer = await context("codebuild", "CreateProject", **_members(context, wanted))
    context.made(wanted["Name"])
    return {"Arn": answer["project"]["arn"], "Id": wanted["Name"]}


async def _update(context: Context, name: str, old: Properties, new: Properties) -> None:
    gone = {part: value for part, value in _DEFAULTS.items() if part in old and part not in new}
    members = _members(context, {**gone, **new})
    await context("codebuild", "UpdateProject", **{**members, "tags": members["tags"] or []})


async def _delete(context: Context, name: str | None, had: Properties) -> None:
    try:
        await context("codebuild", "DeleteProject", name=name or had["Name"])
    except AWSError as error:
        if error.code != "ResourceNotFoundException":
            raise


TYPES = (
    ResourceType(
        name="AWS::CodeBuild::Project",
        supported=properties(f"{_AS_GIVEN} Tags"),
        create=_create,
        update=_update,
        delete=_delete,
        named_by="Name",
        longest_name=150,
    ),
)
