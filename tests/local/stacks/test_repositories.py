"""CodeCommit's repositories in a stack: made with what they begin with, renamed in place."""

import io
import zipfile

import pytest

from stagegate.local.services import SERVICES
from tests.local.stacks.conftest import resource, template

KIND = "AWS::CodeCommit::Repository"


def zipped(files):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return content.getvalue()


def repository(name, **more):
    return {
        **template(It=resource(KIND, RepositoryName=name, **more)),
        "Outputs": {
            "Id": {"Value": {"Ref": "It"}},
            "Name": {"Value": {"Fn::GetAtt": ["It", "Name"]}},
            "Url": {"Value": {"Fn::GetAtt": ["It", "CloneUrlHttp"]}},
        },
    }


@pytest.fixture
async def stacks(open_stacks):
    async with open_stacks(codecommit=SERVICES["codecommit"]) as opened:
        yield opened


async def test_a_repository_begins_with_the_files_of_its_archive(stacks):
    await stacks.call("CreateBucket", "s3", Bucket="code")
    files = {"README.md": "a pipeline", **{f"src/{number}.py": str(number) for number in range(150)}}
    await stacks.call("PutObject", "s3", Bucket="code", Key="code.zip", Body=zipped(files))
    code = {"S3": {"Bucket": "code", "Key": "code.zip"}, "BranchName": "trunk"}

    stack = await stacks.create("it", repository("pipeline", Code=code))
    found = await stacks.call("GetRepository", "codecommit", repositoryName="pipeline")
    last = await stacks.call(
        "GetFile", "codecommit", repositoryName="pipeline", filePath="src/149.py", commitSpecifier="trunk"
    )
    folder = await stacks.call("GetFolder", "codecommit", repositoryName="pipeline", folderPath="src")

    metadata = found["repositoryMetadata"]
    outputs = {it["OutputKey"]: it["OutputValue"] for it in stack["Outputs"]}
    assert outputs == {
        "Id": metadata["repositoryId"],
        "Name": "pipeline",
        "Url": "http://127.0.0.1:4566/v1/repos/pipeline",
    }
    assert metadata["defaultBranch"] == "trunk"
    assert (last["fileContent"], len(folder["files"])) == (b"149", 150)


async def test_a_repository_is_renamed_in_place_and_deleted(stacks):
    first = await stacks.create("it", repository("before", RepositoryDescription="old"))
    second = await stacks.update("it", repository("after"))
    found = await stacks.call("GetRepository", "codecommit", repositoryName="after")
    await stacks.delete("it")

    ids = [
        it["OutputValue"] for stack in (first, second) for it in stack["Outputs"] if it["OutputKey"] == "Id"
    ]
    assert ids == [found["repositoryMetadata"]["repositoryId"]] * 2
    assert "repositoryDescription" not in found["repositoryMetadata"]
    assert (await stacks.call("ListRepositories", "codecommit"))["repositories"] == []


async def test_code_that_is_no_archive_leaves_no_repository(stacks):
    await stacks.call("CreateBucket", "s3", Bucket="code")
    await stacks.call("PutObject", "s3", Bucket="code", Key="code.zip", Body=b"no zip")

    stack = await stacks.create("it", repository("x", Code={"S3": {"Bucket": "code", "Key": "code.zip"}}))
    reasons = [event[2] for event in await stacks.events("it") if event[1] == "CREATE_FAILED"]

    assert stack["StackStatus"] == "ROLLBACK_COMPLETE"
    assert "Code: s3://code/code.zip is no zip archive." in reasons[0]
    assert (await stacks.call("ListRepositories", "codecommit"))["repositories"] == []
