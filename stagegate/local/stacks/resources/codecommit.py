"""AWS::CodeCommit: repositories, with what they begin with."""

import io
import zipfile
from typing import Any

from stagegate.local.service import AWSError
from stagegate.local.stacks.resources.kind import (
    Attributes,
    Context,
    Properties,
    ResourceType,
    picked,
    properties,
    renamed,
    update_tags,
)

_FILES = 100
"""The files of a commit: CodeCommit takes no more."""


async def _create(context: Context, wanted: Properties) -> Attributes:
    answer = await context(
        "codecommit",
        "CreateRepository",
        tags=context.tag_map(wanted),
        **renamed(
            wanted,
            RepositoryName="repositoryName",
            RepositoryDescription="repositoryDescription",
            KmsKeyId="kmsKeyId",
        ),
    )
    repository: dict[str, Any] = answer["repositoryMetadata"]
    context.made(repository["repositoryId"])
    if code := wanted.get("Code"):
        await _fill(context, wanted["RepositoryName"], code)
    return _attributes(repository)


def _attributes(repository: dict[str, Any]) -> Attributes:
    return renamed(
        repository,
        Arn="Arn",
        cloneUrlHttp="CloneUrlHttp",
        cloneUrlSsh="CloneUrlSsh",
        repositoryName="Name",
        repositoryId="RepositoryId",
    )


async def _fill(context: Context, name: str, code: Properties) -> None:
    """The files of the zip archive, on the branch that is the default one then."""
    place = picked(code["S3"], "Bucket Key")
    version = renamed(code["S3"], ObjectVersion="VersionId")
    content = (await context("s3", "GetObject", **place, **version))["Body"]
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            files = [
                {"filePath": entry.filename, "fileContent": archive.read(entry)}
                for entry in archive.infolist()
                if not entry.is_dir()
            ]
    except zipfile.BadZipFile as error:
        raise AWSError(
            "InvalidRequest", f"Code: s3://{place['Bucket']}/{place['Key']} is no zip archive."
        ) from error
    commit: dict[str, str] = {}
    for start in range(0, len(files), _FILES):
        answer = await context(
            "codecommit",
            "CreateCommit",
            repositoryName=name,
            branchName=code.get("BranchName", "main"),
            commitMessage="Initial commit by AWS CloudFormation",
            putFiles=files[start : start + _FILES],
            **commit,
        )
        commit = {"parentCommitId": answer["commitId"]}


async def _update(context: Context, repository_id: str, old: Properties, new: Properties) -> Attributes:
    """`Code` counts when a repository is made, and never again."""
    name = new["RepositoryName"]
    if old["RepositoryName"] != name:
        await context("codecommit", "UpdateRepositoryName", oldName=old["RepositoryName"], newName=name)
    if old.get("RepositoryDescription") != new.get("RepositoryDescription"):
        await context(
            "codecommit",
            "UpdateRepositoryDescription",
            repositoryName=name,
            repositoryDescription=new.get("RepositoryDescription", ""),
        )
    if "KmsKeyId" in new and old.get("KmsKeyId") != new["KmsKeyId"]:
        await context(
            "codecommit", "UpdateRepositoryEncryptionKey", repositoryName=name, kmsKeyId=new["KmsKeyId"]
        )
    found = await context("codecommit", "GetRepository", repositoryName=name)
    repository: dict[str, Any] = found["repositoryMetadata"]
    arn = repository["Arn"]
    await update_tags(
        context,
        old,
        new,
        put=lambda tags: context("codecommit", "TagResource", resourceArn=arn, tags=tags),
        remove=lambda keys: context("codecommit", "UntagResource", resourceArn=arn, tagKeys=keys),
    )
    return _attributes(repository)


async def _delete(context: Context, repository_id: str | None, had: Properties) -> None:
    await context("codecommit", "DeleteRepository", repositoryName=had["RepositoryName"])


TYPES = (
    ResourceType(
        name="AWS::CodeCommit::Repository",
        supported=properties("Code KmsKeyId RepositoryDescription RepositoryName Tags"),
        create=_create,
        update=_update,
        delete=_delete,
    ),
)
