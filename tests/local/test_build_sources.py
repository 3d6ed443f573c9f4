"""Where a build's source comes from: objects and folders of S3, their versions, and CodeCommit."""

import io
import zipfile

import pytest

from tests.local.build_runs import BUCKET, Builds, message, statuses


@pytest.fixture(scope="module")
def builds(shared_local):
    return Builds(shared_local)


@pytest.fixture(scope="module")
def repository(builds):
    """A repository with two commits on main, and a branch that stays at the first; their ids."""
    client = builds.runtime.client("codecommit")
    metadata = client.create_repository(repositoryName="code")["repositoryMetadata"]
    spec = b"version: 0.2\nphases: {build: {commands: [cat word.txt && echo]}}"
    first = client.create_commit(
        repositoryName="code",
        branchName="main",
        putFiles=[
            {"filePath": "buildspec.yml", "fileContent": spec},
            {"filePath": "word.txt", "fileContent": b"first"},
        ],
    )["commitId"]
    client.create_branch(repositoryName="code", branchName="earlier", commitId=first)
    second = client.create_commit(
        repositoryName="code",
        branchName="main",
        parentCommitId=first,
        putFiles=[{"filePath": "word.txt", "fileContent": b"second"}],
    )["commitId"]
    return {"url": metadata["cloneUrlHttp"], "first": first, "second": second}


def zipped(**files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def of_s3(key, **members):
    return {"sourceTypeOverride": "S3", "sourceLocationOverride": f"{BUCKET}/{key}", **members}


def started(builds, repository, **members):
    """With the buildspec of the repository, which the project's own would be before."""
    return builds.client.start_build(
        projectName="project",
        sourceTypeOverride="CODECOMMIT",
        sourceLocationOverride=repository["url"],
        buildspecOverride="buildspec.yml",
        **members,
    )["build"]["id"]


@pytest.mark.parametrize(
    ("version", "word", "commit"),
    [
        (None, "second", "second"),
        ("earlier", "first", "first"),
        ("refs/heads/earlier", "first", "first"),
        ("first", "first", "first"),
    ],
)
def test_a_commit_of_codecommit_is_built(builds, repository, version, word, commit):
    wanted = {"sourceVersion": repository.get(version, version)} if version else {}

    build = builds.ended(started(builds, repository, **wanted))

    assert build["buildStatus"] == "SUCCEEDED", build
    assert builds.log(build) == [word]
    assert build["resolvedSourceVersion"] == repository[commit]


def test_the_resolved_version_and_the_repository_are_in_the_environment(builds, repository):
    build = builds.build(
        {
            "version": 0.2,
            "phases": {
                "build": {
                    "commands": [
                        "echo $CODEBUILD_RESOLVED_SOURCE_VERSION",
                        "echo $CODEBUILD_SOURCE_VERSION",
                        "echo $CODEBUILD_SOURCE_REPO_URL",
                        "git rev-parse HEAD",
                    ]
                }
            },
        },
        sourceTypeOverride="CODECOMMIT",
        sourceLocationOverride=repository["url"],
        sourceVersion="earlier",
        gitSubmodulesConfigOverride={"fetchSubmodules": True},
    )

    assert builds.log(build) == [repository["first"], "earlier", repository["url"], repository["first"]]


@pytest.mark.parametrize(("depth", "commits"), [(0, "2"), (1, "1")])
def test_a_clone_is_as_deep_as_the_source_says(builds, repository, depth, commits):
    build = builds.build(
        {"version": 0.2, "phases": {"build": {"commands": ["git rev-list --count HEAD"]}}},
        sourceTypeOverride="CODECOMMIT",
        sourceLocationOverride=repository["url"],
        gitCloneDepthOverride=depth,
    )

    assert builds.log(build) == [commits]


@pytest.mark.parametrize(
    ("version", "name", "said"),
    [("absent", "code", "git -C"), (None, "absent", "absent")],
    ids=["no such branch", "no such repository"],
)
def test_what_is_not_in_codecommit_fails_the_build(builds, repository, version, name, said):
    place = {"url": repository["url"].replace("/code", f"/{name}")}
    build = builds.ended(started(builds, place, **({"sourceVersion": version} if version else {})))

    assert statuses(build)["DOWNLOAD_SOURCE"] == "FAILED"
    assert said in message(build, "DOWNLOAD_SOURCE")


def test_a_version_of_an_object_is_built(builds):
    builds.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    old, new = (
        builds.s3.put_object(Bucket=BUCKET, Key="versions.zip", Body=zipped(**{"word.txt": word}))[
            "VersionId"
        ]
        for word in ("old", "new")
    )
    spec = {"version": 0.2, "phases": {"build": {"commands": ["cat word.txt && echo"]}}}

    newest = builds.build(spec, **of_s3("versions.zip"))
    oldest = builds.build(spec, **of_s3("versions.zip", sourceVersion=old))

    assert (builds.log(newest), newest["resolvedSourceVersion"]) == (["new"], new)
    assert (builds.log(oldest), oldest["resolvedSourceVersion"]) == (["old"], old)


def test_the_buildspec_may_be_an_object(builds):
    text = b"version: 0.2\nphases: {build: {commands: [echo from S3]}}"
    builds.s3.put_object(Bucket=BUCKET, Key="specs/build.yml", Body=text)

    assert builds.log(builds.build(f"arn:aws:s3:::{BUCKET}/specs/build.yml")) == ["from S3"]
    absent = builds.build(f"arn:aws:s3:::{BUCKET}/specs/absent.yml")
    assert message(absent, "DOWNLOAD_SOURCE").startswith(f"arn:aws:s3:::{BUCKET}/specs/absent.yml: ")


def test_a_source_that_is_not_there_fails_the_build(builds):
    build = builds.build({"version": 0.2}, **of_s3("absent.zip"))

    assert statuses(build)["DOWNLOAD_SOURCE"] == "FAILED"
    assert message(build, "DOWNLOAD_SOURCE").startswith(
        f"error while downloading source {BUCKET}/absent.zip: "
    )


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"sourceTypeOverride": "GITHUB"}, "Source type GITHUB is not supported"),
        ({"sourceTypeOverride": "S3", "sourceLocationOverride": "bucket"}, "a valid S3 source"),
        ({"sourceTypeOverride": "CODECOMMIT", "sourceLocationOverride": "code"}, "a valid CodeCommit"),
        ({"secondarySourcesOverride": [{"type": "S3", "location": "a/b"}]}, "wants a sourceIdentifier"),
        ({"secondaryArtifactsOverride": [{"type": "S3", "location": "a"}]}, "want an artifactIdentifier"),
        ({"cacheOverride": {"type": "S3"}}, "location must be a valid S3 bucket"),
        (
            {"cacheOverride": {"type": "LOCAL", "modes": ["LOCAL_DOCKER_LAYER_CACHE"]}},
            "LOCAL_DOCKER_LAYER_CACHE is not supported",
        ),
        (
            {"logsConfigOverride": {"s3Logs": {"status": "ENABLED", "location": "a/b"}}},
            "logsConfig.s3Logs is not supported",
        ),
        ({"debugSessionEnabled": True}, "debugSessionEnabled is not supported"),
    ],
)
def test_what_no_build_could_do_is_refused(builds, members, said):
    with pytest.raises(builds.client.exceptions.InvalidInputException, match=said):
        builds.start("version: 0.2", **members)
