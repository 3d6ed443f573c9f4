"""CodeCommit's API over HTTP: repositories, branches, commits, files, and what is refused in AWS's words."""

import uuid

import pytest
from botocore.exceptions import ClientError

ARN = "arn:aws:codecommit:us-east-1:111111111111:"


@pytest.fixture
def client(shared_local):
    return shared_local.client("codecommit")


@pytest.fixture
def name(client):
    """A repository of the test's own, without commits."""
    name = f"models-{uuid.uuid4().hex[:8]}"
    client.create_repository(repositoryName=name)
    return name


@pytest.fixture
def first(client, name):
    """The id of its first commit."""
    return client.create_commit(
        repositoryName=name,
        branchName="main",
        authorName="Ada",
        email="ada@example.com",
        commitMessage="First\n",
        putFiles=[
            {"filePath": "README.md", "fileContent": b"# Models\n"},
            {"filePath": "train/train.py", "fileContent": b"print(1)\n", "fileMode": "EXECUTABLE"},
        ],
    )["commitId"]


def refused(call, **members):
    with pytest.raises(ClientError) as caught:
        call(**members)
    return caught.value.response["Error"]["Code"]


def test_a_repository_is_described_and_listed(client, shared_local):
    client.create_repository(repositoryName="b.models", repositoryDescription="All", tags={"team": "ml"})
    client.create_repository(repositoryName="a.models")

    found = client.get_repository(repositoryName="b.models")["repositoryMetadata"]
    several = client.batch_get_repositories(repositoryNames=["a.models", "absent"])
    listed = [pair["repositoryName"] for pair in client.list_repositories()["repositories"]]
    descending = client.list_repositories(sortBy="repositoryName", order="descending")["repositories"]

    host = shared_local.endpoint_url.removeprefix("http://")
    assert found.pop("creationDate") == found.pop("lastModifiedDate")
    assert uuid.UUID(found.pop("repositoryId"))
    assert found == {
        "accountId": "111111111111",
        "repositoryName": "b.models",
        "repositoryDescription": "All",
        "Arn": f"{ARN}b.models",
        "cloneUrlHttp": f"http://{host}/v1/repos/b.models",
        "cloneUrlSsh": f"ssh://{host}/v1/repos/b.models",
    }
    assert [one["repositoryName"] for one in several["repositories"]] == ["a.models"]
    assert several["repositoriesNotFound"] == ["absent"]
    assert several["errors"][0]["errorCode"] == "RepositoryDoesNotExistException"
    assert listed == sorted(listed) and {"a.models", "b.models"} <= set(listed)
    assert [pair["repositoryName"] for pair in descending] == listed[::-1]


def test_a_repository_is_renamed_described_anew_and_deleted(client, name, first):
    old = client.get_repository(repositoryName=name)["repositoryMetadata"]
    client.update_repository_description(repositoryName=name, repositoryDescription="Renamed")
    client.update_repository_name(oldName=name, newName=f"{name}-2")

    new = client.get_repository(repositoryName=f"{name}-2")["repositoryMetadata"]
    file = client.get_file(repositoryName=f"{name}-2", filePath="README.md")

    assert (new["repositoryId"], new["repositoryDescription"]) == (old["repositoryId"], "Renamed")
    assert file["fileContent"] == b"# Models\n"
    assert refused(client.get_repository, repositoryName=name) == "RepositoryDoesNotExistException"
    deleted = client.delete_repository(repositoryName=f"{name}-2")
    assert deleted["repositoryId"] == old["repositoryId"]
    assert "repositoryId" not in client.delete_repository(repositoryName=f"{name}-2")
    client.create_repository(repositoryName=name)
    assert client.list_branches(repositoryName=name)["branches"] == []


@pytest.mark.parametrize("wrong", ["../models", "..", "a/b", "a b", "models.git", "x" * 101, "modèle"])
def test_a_name_that_is_none_is_refused(client, wrong):
    assert refused(client.create_repository, repositoryName=wrong) == "InvalidRepositoryNameException"
    assert refused(client.get_repository, repositoryName=wrong) == "InvalidRepositoryNameException"


def test_a_repository_is_refused_where_its_name_is_taken(client, name):
    other = f"{name}-other"
    client.create_repository(repositoryName=other)

    assert refused(client.create_repository, repositoryName=name) == "RepositoryNameExistsException"
    assert (
        refused(client.update_repository_name, oldName=other, newName=name) == "RepositoryNameExistsException"
    )
    assert (
        refused(client.create_repository, repositoryName=f"{name}-3", repositoryDescription="x" * 1001)
        == "InvalidRepositoryDescriptionException"
    )
    assert refused(client.list_repositories, sortBy="size") == "InvalidSortByException"


def test_tags_are_kept(client, name):
    arn = f"{ARN}{name}"
    client.tag_resource(resourceArn=arn, tags={"team": "ml", "stage": "test"})
    client.untag_resource(resourceArn=arn, tagKeys=["stage"])

    assert client.list_tags_for_resource(resourceArn=arn)["tags"] == {"team": "ml"}
    assert (
        refused(client.tag_resource, resourceArn=arn, tags={"aws:x": ""}) == "InvalidSystemTagUsageException"
    )
    assert refused(client.list_tags_for_resource, resourceArn=name) == "InvalidResourceArnException"
    assert (
        refused(client.list_tags_for_resource, resourceArn=f"{arn}-absent")
        == "RepositoryDoesNotExistException"
    )


def test_the_first_commit_makes_the_default_branch(client, name, first):
    metadata = client.get_repository(repositoryName=name)["repositoryMetadata"]
    commit = client.get_commit(repositoryName=name, commitId=first)["commit"]

    date = commit["author"].pop("date")
    assert metadata["defaultBranch"] == "main"
    assert date.endswith(" +0000")
    assert commit["committer"].pop("date") == date
    assert len(commit.pop("treeId")) == 40
    assert commit == {
        "commitId": first,
        "parents": [],
        "message": "First\n",
        "author": {"name": "Ada", "email": "ada@example.com"},
        "committer": {"name": "Ada", "email": "ada@example.com"},
        "additionalData": "",
    }


def test_a_commit_puts_copies_moves_deletes_and_sets_modes(client, name, first):
    made = client.create_commit(
        repositoryName=name,
        branchName="main",
        parentCommitId=first,
        keepEmptyFolders=True,
        putFiles=[
            {"filePath": "/README.md", "fileContent": b"# All models\n"},
            {"filePath": "src/train.py", "sourceFile": {"filePath": "train/train.py", "isMove": True}},
        ],
    )

    def paths(member):
        return [(file["absolutePath"], file["fileMode"]) for file in made[member]]

    assert paths("filesAdded") == [("src/train.py", "EXECUTABLE"), ("train/.gitkeep", "NORMAL")]
    assert paths("filesUpdated") == [("README.md", "NORMAL")]
    assert paths("filesDeleted") == [("train/train.py", "EXECUTABLE")]
    again = client.create_commit(
        repositoryName=name,
        branchName="main",
        parentCommitId=made["commitId"],
        deleteFiles=[{"filePath": "README.md"}],
        setFileModes=[{"filePath": "src/train.py", "fileMode": "NORMAL"}],
    )
    folder = client.get_folder(repositoryName=name, folderPath="/")
    moved = client.get_file(repositoryName=name, filePath="src/train.py")
    assert [folder["commitId"], folder["treeId"]] == [again["commitId"], again["treeId"]]
    assert [sub["absolutePath"] for sub in folder["subFolders"]] == ["src", "train"]
    assert folder["files"] == []
    assert (moved["fileContent"], moved["fileMode"], moved["fileSize"]) == (b"print(1)\n", "NORMAL", 9)


def test_files_are_put_and_deleted_one_by_one(client, name, first):
    on_main = {"repositoryName": name, "branchName": "main"}
    put = client.put_file(
        **on_main, filePath="a/ä.txt", fileContent=b"\xff\x00", parentCommitId=first, name="Ada"
    )

    assert client.get_blob(repositoryName=name, blobId=put["blobId"])["content"] == b"\xff\x00"
    assert client.get_folder(repositoryName=name, folderPath="a")["files"] == [
        {
            "blobId": put["blobId"],
            "absolutePath": "a/ä.txt",
            "relativePath": "ä.txt",
            "fileMode": "NORMAL",
        }
    ]
    same = {**on_main, "filePath": "a/ä.txt", "fileContent": b"\xff\x00", "parentCommitId": put["commitId"]}
    assert refused(client.put_file, **same) == "SameFileContentException"
    outdated = {**same, "fileContent": b"", "parentCommitId": first}
    assert refused(client.put_file, **outdated) == "ParentCommitIdOutdatedException"
    gone = client.delete_file(**on_main, filePath="a/ä.txt", parentCommitId=put["commitId"])
    assert (gone["filePath"], gone["blobId"]) == ("a/ä.txt", put["blobId"])
    assert refused(client.get_file, repositoryName=name, filePath="a/ä.txt") == "FileDoesNotExistException"
    assert refused(client.get_folder, repositoryName=name, folderPath="a") == "FolderDoesNotExistException"


A = {"filePath": "a", "fileContent": b"a"}
COPY = {"sourceFile": {"filePath": "absent"}}
LARGE = {"filePath": "a", "fileContent": b"a" * (6 * 2**20 + 1)}


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({}, "FileEntryRequiredException"),
        ({"putFiles": [A, A]}, "PutFileEntryConflictException"),
        ({"putFiles": [A], "deleteFiles": [{"filePath": "a"}]}, "SamePathRequestException"),
        ({"putFiles": [{"filePath": "a"}]}, "SourceFileOrContentRequiredException"),
        ({"putFiles": [{**A, **COPY}]}, "FileContentAndSourceFileSpecifiedException"),
        ({"putFiles": [{"filePath": "a", **COPY}]}, "FileDoesNotExistException"),
        ({"putFiles": [{**A, "fileMode": "RWX"}]}, "InvalidFileModeException"),
        ({"putFiles": [{**A, "filePath": "../a"}]}, "InvalidPathException"),
        ({"putFiles": [{**A, "filePath": ".git/config"}]}, "InvalidPathException"),
        ({"putFiles": [{**A, "filePath": "a\nb"}]}, "InvalidPathException"),
        ({"putFiles": [{**A, "filePath": "/"}]}, "PathRequiredException"),
        ({"putFiles": [{**A, "filePath": "README.md/a"}]}, "DirectoryNameConflictsWithFileNameException"),
        ({"putFiles": [{**A, "filePath": "train"}]}, "FileNameConflictsWithDirectoryNameException"),
        ({"putFiles": [LARGE]}, "FileContentSizeLimitExceededException"),
        ({"putFiles": [{"filePath": "README.md", "fileContent": b"# Models\n"}]}, "NoChangeException"),
        ({"deleteFiles": [{"filePath": "absent"}]}, "FileDoesNotExistException"),
        ({"deleteFiles": [{"filePath": f"{n}"} for n in range(101)]}, "MaximumFileEntriesExceededException"),
        ({"putFiles": [A], "branchName": "absent"}, "BranchDoesNotExistException"),
        ({"putFiles": [A], "branchName": "a..b"}, "InvalidBranchNameException"),
        ({"putFiles": [A], "parentCommitId": "HEAD"}, "InvalidParentCommitIdException"),
        ({"putFiles": [A], "parentCommitId": "0" * 40}, "ParentCommitDoesNotExistException"),
    ],
)  # fmt: skip
def test_a_commit_is_refused_in_the_words_of_the_api(client, name, first, members, code):
    given = {"repositoryName": name, "branchName": "main", "parentCommitId": first, **members}

    assert refused(client.create_commit, **given) == code
    assert client.get_branch(repositoryName=name, branchName="main")["branch"]["commitId"] == first


def test_a_commit_on_a_branch_needs_its_head(client, name, first):
    given = {"repositoryName": name, "branchName": "main", "putFiles": [A]}

    assert refused(client.create_commit, **given) == "ParentCommitIdRequiredException"


def test_branches_are_made_moved_to_and_deleted(client, name, first):
    on = {"repositoryName": name}
    client.create_branch(**on, branchName="feature/x", commitId=first)
    client.update_default_branch(**on, defaultBranchName="feature/x")

    assert client.list_branches(**on)["branches"] == ["feature/x", "main"]
    assert client.get_branch(**on, branchName="feature/x")["branch"] == {
        "branchName": "feature/x",
        "commitId": first,
    }
    assert client.get_repository(**on)["repositoryMetadata"]["defaultBranch"] == "feature/x"
    assert (
        refused(client.delete_branch, **on, branchName="feature/x") == "DefaultBranchCannotBeDeletedException"
    )
    assert client.delete_branch(**on, branchName="main")["deletedBranch"]["commitId"] == first
    assert "deletedBranch" not in client.delete_branch(**on, branchName="main")
    assert refused(client.get_branch, **on, branchName="main") == "BranchDoesNotExistException"
    assert (
        refused(client.update_default_branch, **on, defaultBranchName="main") == "BranchDoesNotExistException"
    )


def test_a_branch_is_refused_in_the_words_of_the_api(client, name, first):
    on = {"repositoryName": name}

    def code(branch, commit):
        return refused(client.create_branch, **on, branchName=branch, commitId=commit)

    assert code("main", first) == "BranchNameExistsException"
    assert code("new", "0" * 40) == "CommitDoesNotExistException"
    assert code("new", "main") == "InvalidCommitIdException"
    assert code("--force", first) == "InvalidBranchNameException"
    assert code("main/x", first) == "InvalidBranchNameException"
    assert refused(client.get_branch, branchName="main") == "RepositoryNameRequiredException"
    assert refused(client.get_branch, **on) == "BranchNameRequiredException"


def test_commits_are_found_by_id_branch_and_reference(client, name, first):
    second = client.put_file(
        repositoryName=name, branchName="main", filePath="b", fileContent=b"b", parentCommitId=first
    )["commitId"]

    def commit_of(specifier):
        return client.get_file(repositoryName=name, filePath="README.md", commitSpecifier=specifier)[
            "commitId"
        ]

    assert [commit_of(one) for one in ("main", "refs/heads/main", "HEAD", first)] == [second] * 3 + [first]
    for revision in ("main~1", "main^{tree}", ":/First", "-p", "0" * 40):
        code = refused(client.get_file, repositoryName=name, filePath="b", commitSpecifier=revision)
        assert code == "CommitDoesNotExistException"
    several = client.batch_get_commits(repositoryName=name, commitIds=[second, "0" * 40])
    assert several["commits"][0]["parents"] == [first]
    assert [error["errorCode"] for error in several["errors"]] == ["CommitIdDoesNotExistException"]
    absent = {"repositoryName": name, "commitId": "0" * 40}
    assert refused(client.get_commit, **absent) == "CommitIdDoesNotExistException"
    assert refused(client.get_commit, **{**absent, "commitId": "main"}) == "InvalidCommitIdException"
    assert refused(client.get_blob, repositoryName=name, blobId=first) == "BlobIdDoesNotExistException"


def test_differences_say_what_was_added_modified_and_deleted(client, name, first):
    second = client.create_commit(
        repositoryName=name,
        branchName="main",
        parentCommitId=first,
        putFiles=[
            {"filePath": "README.md", "fileContent": b"new"},
            {"filePath": "train/data.py", "fileContent": b"1"},
        ],
        deleteFiles=[{"filePath": "train/train.py"}],
    )["commitId"]

    def changes(**members):
        pages = client.get_paginator("get_differences").paginate(repositoryName=name, **members)
        return [
            (one["changeType"], one.get("beforeBlob", {}).get("path"), one.get("afterBlob", {}).get("path"))
            for page in pages
            for one in page["differences"]
        ]

    both = {"beforeCommitSpecifier": first, "afterCommitSpecifier": second}
    all_changes = [
        ("M", "README.md", "README.md"),
        ("A", None, "train/data.py"),
        ("D", "train/train.py", None),
    ]
    assert changes(**both) == all_changes
    assert changes(**both, PaginationConfig={"PageSize": 1}) == all_changes
    assert changes(**both, afterPath="train") == all_changes[1:]
    assert changes(afterCommitSpecifier=first) == [
        ("A", None, "README.md"),
        ("A", None, "train/train.py"),
    ]
    refusal = refused(client.get_differences, repositoryName=name, **both, afterPath="absent")
    assert refusal == "PathDoesNotExistException"


def test_pull_requests_are_refused_by_name(client):
    with pytest.raises(ClientError, match="codecommit:ListPullRequests is not implemented"):
        client.list_pull_requests(repositoryName="models")


def test_an_empty_repository_has_no_commit_to_show(client, name):
    code = refused(client.get_folder, repositoryName=name, folderPath="")

    assert code == "CommitDoesNotExistException"


def test_everything_is_the_same_after_a_kill(local):
    client = local.client("codecommit")
    client.create_repository(repositoryName="models", tags={"team": "ml"})
    made = client.put_file(repositoryName="models", branchName="dev", filePath="a", fileContent=b"a")
    before = client.get_repository(repositoryName="models")["repositoryMetadata"]

    local.restart()

    client = local.client("codecommit")
    after = client.get_repository(repositoryName="models")["repositoryMetadata"]
    assert after == before
    assert client.list_tags_for_resource(resourceArn=before["Arn"])["tags"] == {"team": "ml"}
    assert client.get_file(repositoryName="models", filePath="a")["commitId"] == made["commitId"]
