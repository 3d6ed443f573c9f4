"""Every feature of a buildspec that AWS documents, with its documented result."""

import io
import time
import zipfile

import pytest

from tests.local.build_runs import BUCKET, PATIENCE, Builds, message, statuses


@pytest.fixture(scope="module")
def builds(shared_local):
    return Builds(shared_local)


def in_build(*commands, version="0.2", **phase):
    """A buildspec with the commands in its build phase, as JSON is YAML too."""
    return {"version": version, "phases": {"build": {"commands": list(commands), **phase}}}


def keys(builds, prefix):
    found = builds.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}/").get("Contents", [])
    return [entry["Key"].removeprefix(f"{prefix}/") for entry in found]


def to_s3(name, **members):
    return {"type": "S3", "location": BUCKET, "name": name, **members}


def test_in_version_0_1_each_command_has_a_shell_of_its_own(builds):
    commands = ("cd /tmp", "export WORD=kept", 'echo "$(basename "$(pwd)") ${WORD:-unset}"')

    assert builds.log(builds.build(in_build(*commands, version="0.1"))) == ["src unset"]
    assert builds.log(builds.build(in_build(*commands))) == ["tmp kept"]


def test_version_0_1_has_its_variables_under_their_older_name(builds):
    spec = in_build("echo $WORD", version=0.1) | {"environment_variables": {"plaintext": {"WORD": "plain"}}}

    assert builds.log(builds.build(spec)) == ["plain"]


def test_the_shell_is_the_one_of_env(builds):
    spec = in_build('[[ "a" == a* ]] && echo ${BASH_VERSION:+bash}') | {"env": {"shell": "bash"}}

    assert builds.log(builds.build(spec)) == ["bash"]


def test_a_command_that_ends_the_shell_fails_its_phase_and_the_rest_keeps_its_environment(builds):
    build = builds.build(
        {
            "version": 0.2,
            "phases": {
                "build": {
                    "commands": ["cd /tmp", "export WORD='it''s kept'", "exit 3", "echo never"],
                    "finally": ['echo "$WORD in $(pwd)"'],
                },
                "post_build": {"commands": ["echo post $CODEBUILD_BUILD_SUCCEEDING"]},
            },
        }
    )

    assert build["buildStatus"] == "FAILED"
    assert builds.log(build) == ["its kept in /tmp", "post 0"]
    assert message(build, "BUILD") == "Error while executing command: exit 3. Reason: exit status 3"
    assert statuses(build)["POST_BUILD"] == "SUCCEEDED"


def test_a_failing_command_of_finally_fails_the_phase(builds):
    build = builds.build(in_build("echo fine", **{"finally": ["false"]}))

    assert (build["buildStatus"], statuses(build)["BUILD"]) == ("FAILED", "FAILED")
    assert message(build, "BUILD") == "Error while executing command: false. Reason: exit status 1"


def test_output_without_a_line_end_hides_no_phase(builds):
    build = builds.build(in_build("printf half", "printf whole"))

    assert statuses(build)["POST_BUILD"] == "SUCCEEDED"
    assert builds.log(build) == ["half", "whole"]


@pytest.mark.parametrize(
    ("on_failure", "attempts"),
    [("RETRY-1", 2), ("RETRY-2-status 1$", 3), ("RETRY-status 9", 1), ("ABORT", 1)],
)
def test_on_failure_retry_starts_the_build_again(builds, on_failure, attempts):
    build = builds.build(in_build("false", **{"on-failure": on_failure}))

    arns = [build["arn"]]
    while len(arns) < attempts:
        deadline = time.monotonic() + PATIENCE
        while "nextAutoRetry" not in (config := builds.describe(build["id"]).get("autoRetryConfig", {})):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert config["autoRetryNumber"] == len(arns) - 1
        build = builds.ended(config["nextAutoRetry"].rpartition("build/")[2])
        assert build["autoRetryConfig"]["previousAutoRetry"] == arns[-1]
        arns.append(build["arn"])
    assert "nextAutoRetry" not in build.get("autoRetryConfig", {})


def test_secrets_are_read_by_their_key_stage_and_version(builds):
    secrets = builds.runtime.client("secretsmanager")
    first = secrets.create_secret(Name="versions", SecretString='{"word": "first"}')
    secrets.put_secret_value(SecretId="versions", SecretString='{"word": "second"}')
    spec = in_build('[ "$A $B $C $D" = \'second first first {"word": "second"}\' ] && echo as said') | {
        "env": {
            "secrets-manager": {
                "A": "versions:word",
                "B": "versions:word:AWSPREVIOUS",
                "C": f"versions:word::{first['VersionId']}",
                "D": first["ARN"],
            }
        }
    }

    assert builds.log(builds.build(spec)) == ["as said"]


def test_a_secret_that_is_not_there_fails_the_build(builds):
    build = builds.build(in_build("true") | {"env": {"secrets-manager": {"A": "absent:key"}}})

    assert statuses(build)["DOWNLOAD_SOURCE"] == "FAILED"
    assert message(build, "DOWNLOAD_SOURCE").startswith("A: absent:key cannot be read")


def test_the_variables_of_codebuild_are_set(builds):
    names = (
        *("CODEBUILD_BUILD_ID", "CODEBUILD_BUILD_ARN", "CODEBUILD_BUILD_NUMBER", "CODEBUILD_INITIATOR"),
        *("CODEBUILD_LOG_PATH", "CODEBUILD_BUILD_IMAGE", "CODEBUILD_BUILD_SUCCEEDING", "AWS_REGION"),
        *("CODEBUILD_START_TIME", "CODEBUILD_KMS_KEY_ID", "CODEBUILD_SOURCE_VERSION"),
    )
    build = builds.build(
        in_build(*(f'echo "${name}"' for name in names), '[ "$(pwd)" = "$CODEBUILD_SRC_DIR" ] && echo here'),
        encryptionKeyOverride="alias/key",
    )

    assert builds.log(build) == [
        *(build["id"], build["arn"], str(build["buildNumber"]), build["initiator"]),
        *(build["logs"]["streamName"], "aws/codebuild/standard:7.0", "1", "us-east-1"),
        *(str(int(build["startTime"].timestamp() * 1000)), "alias/key", " ", "here"),
    ]


FILES = (
    "mkdir -p my-build-1 my-build-2/my-subdirectory",
    "echo 1 > my-build-1/my-file-1.txt",
    "echo 2 > my-build-2/my-file-2.txt",
    "echo 3 > my-build-2/my-subdirectory/my-file-3.txt",
    "ln -s my-file-2.txt my-build-2/link.txt",
)


@pytest.mark.parametrize(
    ("name", "artifacts", "made"),
    [
        (
            "below",
            {"files": "*/my-file-3.txt", "base-directory": "my-build-2"},
            ["my-subdirectory/my-file-3.txt"],
        ),
        (
            "flat",
            {"files": ["**/my*"], "base-directory": "my-build*", "discard-paths": True},
            ["my-file-1.txt", "my-file-2.txt", "my-file-3.txt"],
        ),
        (
            "without",
            {"files": ["**/*"], "exclude-paths": ["my-build-2/**/*", "*.txt"]},
            ["my-build-1/my-file-1.txt"],
        ),
        ("single", {"files": ["my-build-1/my-file-1.txt"]}, ["my-build-1/my-file-1.txt"]),
        ("folder", {"files": ["my-build-2/*.txt"]}, ["my-build-2/link.txt", "my-build-2/my-file-2.txt"]),
    ],
)
def test_artifacts_are_the_files_that_the_patterns_name(builds, name, artifacts, made):
    build = builds.build(in_build(*FILES) | {"artifacts": artifacts}, artifactsOverride=to_s3(name))

    assert build["buildStatus"] == "SUCCEEDED", build
    assert keys(builds, name) == made
    written = builds.s3.head_object(Bucket=BUCKET, Key=f"{name}/{made[0]}")
    assert written["Metadata"]["codebuild-buildarn"] == build["arn"]


def test_artifacts_that_are_not_there_fail_the_build(builds):
    build = builds.build(in_build("true") | {"artifacts": {"files": ["a"]}}, artifactsOverride=to_s3("none"))

    assert message(build, "UPLOAD_ARTIFACTS") == "no matching artifact paths found"


def test_a_bucket_that_is_not_there_fails_the_build(builds):
    build = builds.build(
        in_build("echo > a") | {"artifacts": {"files": ["a"]}},
        artifactsOverride=to_s3("made", location="absent-bucket"),
    )

    assert (build["buildStatus"], statuses(build)["UPLOAD_ARTIFACTS"]) == ("FAILED", "FAILED")
    assert message(build, "UPLOAD_ARTIFACTS").startswith(
        "Failed to upload s3://absent-bucket/made: NoSuchBucket: "
    )


def test_the_name_of_artifacts_is_of_the_shell_where_the_project_lets_it(builds):
    spec = in_build("export WORD=word", "echo > a") | {
        "artifacts": {"files": ["a"], "name": "named/$WORD-$(echo made)"}
    }

    allowed = builds.build(spec, artifactsOverride=to_s3("given", overrideArtifactName=True))
    plain = builds.build(spec, artifactsOverride=to_s3("given"))

    assert allowed["artifacts"]["location"] == f"arn:aws:s3:::{BUCKET}/named/word-made"
    assert keys(builds, "named/word-made") == ["a"]
    assert plain["artifacts"]["location"] == f"arn:aws:s3:::{BUCKET}/given"


def test_a_zip_has_the_prefix_of_the_buildspec_and_keeps_its_symbolic_links(builds):
    build = builds.build(
        in_build(*FILES)
        | {"artifacts": {"files": ["my-build-2/*.txt"], "enable-symlinks": True, "s3-prefix": "prefixed"}},
        artifactsOverride=to_s3("made", packaging="ZIP", namespaceType="BUILD_ID", path="ignored"),
    )

    key = f"prefixed/{build['id'].partition(':')[2]}/made.zip"
    assert build["artifacts"]["location"] == f"arn:aws:s3:::{BUCKET}/{key}"
    content = builds.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == ["my-build-2/link.txt", "my-build-2/my-file-2.txt"]
        assert archive.getinfo("my-build-2/link.txt").external_attr >> 28 == 0o12
        assert archive.read("my-build-2/link.txt") == b"my-file-2.txt"
    assert len(build["artifacts"]["md5sum"]) == 32
    assert len(build["artifacts"]["sha256sum"]) == 64


def test_secondary_sources_and_artifacts_have_their_identifiers(builds):
    for name in ("first", "second"):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("name.txt", name)
        builds.s3.put_object(Bucket=BUCKET, Key=f"{name}.zip", Body=buffer.getvalue())

    build = builds.build(
        in_build('cp "$CODEBUILD_SRC_DIR_other/name.txt" other.txt', "cat name.txt other.txt && echo")
        | {
            "artifacts": {
                "files": ["name.txt"],
                "secondary-artifacts": {"two": {"files": ["other.txt"], "name": "$CODEBUILD_BUILD_NUMBER"}},
            }
        },
        sourceTypeOverride="S3",
        sourceLocationOverride=f"{BUCKET}/first.zip",
        secondarySourcesOverride=[
            {"type": "S3", "location": f"{BUCKET}/second.zip", "sourceIdentifier": "other"}
        ],
        artifactsOverride=to_s3("primary"),
        secondaryArtifactsOverride=[to_s3("secondary", artifactIdentifier="two", overrideArtifactName=True)],
    )

    assert builds.log(build) == ["firstsecond"]
    assert keys(builds, "primary") == ["name.txt"]
    assert keys(builds, str(build["buildNumber"])) == ["other.txt"]
    (secondary,) = build["secondaryArtifacts"]
    assert secondary["artifactIdentifier"] == "two"
    assert secondary["location"] == f"arn:aws:s3:::{BUCKET}/{build['buildNumber']}"


CACHED = in_build(
    "cat kept/* $HOME/kept 2>/dev/null || echo nothing",
    "mkdir -p kept && echo folder > kept/a && echo home > $HOME/kept",
)


@pytest.mark.parametrize(
    "cache",
    [
        {"type": "S3", "location": f"{BUCKET}/cache"},
        {"type": "LOCAL", "modes": ["LOCAL_CUSTOM_CACHE"], "cacheNamespace": "local"},
    ],
    ids=["S3", "LOCAL"],
)
def test_a_cache_is_there_for_the_next_build(builds, cache):
    spec = CACHED | {"cache": {"paths": ["kept/**/*", "/root/kept"]}}

    assert builds.log(builds.build(spec, cacheOverride=cache)) == ["nothing"]
    assert builds.log(builds.build(spec, cacheOverride=cache)) == ["folder", "home"]
    assert builds.log(builds.build(spec)) == ["nothing"]


def test_a_build_goes_on_without_a_cache_that_is_not_there(builds):
    spec = CACHED | {"cache": {"paths": ["kept/**/*"]}}
    build = builds.build(spec, cacheOverride={"type": "S3", "location": "absent-bucket/cache"})

    assert build["buildStatus"] == "SUCCEEDED", build
    assert builds.log(build) == ["nothing"]


def test_a_cache_with_a_key_is_never_replaced_and_fallback_keys_are_beginnings(builds):
    cache = {"type": "S3", "location": f"{BUCKET}/cache", "cacheNamespace": "shared"}

    def log(key, *fallback, word="", **members):
        commands = ("cat kept 2>/dev/null || echo nothing", f"echo {word or key} > kept")
        settings = {"paths": ["kept"], "key": key, "fallback-keys": list(fallback), **members}
        return builds.log(builds.build(in_build(*commands) | {"cache": settings}, cacheOverride=cache))

    assert log("npm-$(echo 1)", word="first") == ["nothing"]
    assert log("npm-1", word="second") == ["first"]
    assert log("npm-1", word="third") == ["first"]
    assert log("npm-2", "yarn-", "npm-", word="other", action="restore") == ["first"]
    assert log("npm-2") == ["nothing"]
    assert log("npm-1", action="save") == ["nothing"]


@pytest.mark.parametrize("pattern", ["lock.json", "**/lock.json", "'*.json'"])
def test_the_hash_of_files_may_be_a_key(builds, pattern):
    space = f"hashed-{sum(pattern.encode())}"
    cache = {"type": "LOCAL", "modes": ["LOCAL_CUSTOM_CACHE"], "cacheNamespace": space}
    for content in ("one", "two"):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("lock.json", content)
        builds.s3.put_object(Bucket=BUCKET, Key=f"{content}.zip", Body=buffer.getvalue())

    def log(content):
        spec = in_build("cat kept 2>/dev/null || echo nothing", f"echo {content} > kept") | {
            "cache": {"paths": ["kept"], "key": f"npm-$(codebuild-hash-files {pattern})"}
        }
        source = {"sourceTypeOverride": "S3", "sourceLocationOverride": f"{BUCKET}/{content}.zip"}
        return builds.log(builds.build(spec, cacheOverride=cache, **source))

    assert [log("one"), log("two"), log("one"), log("two")] == [["nothing"], ["nothing"], ["one"], ["two"]]


def test_what_says_only_how_it_runs_elsewhere_is_taken(builds):
    spec = in_build("echo on") | {
        "run-as": "root",
        "proxy": {"upload-artifacts": True, "logs": True},
        "env": {"git-credential-helper": True},
    }
    spec["phases"]["install"] = {"runtime-versions": {"python": 3.12}}

    assert builds.log(builds.build(spec)) == ["on"]


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"run-as": "somebody"}, "run-as somebody is not supported by the local runtime"),
        ({"env": {"shell": "powershell.exe"}}, "env.shell powershell.exe should be sh or bash"),
        ({"reports": {"a": {"files": "a", "file-format": "CLOVERXML"}}}, "CLOVERXML is not supported"),
        ({"cache": {"action": "both"}}, "cache.action both should be restore or save"),
        ({"cache": {"key": "a", "fallback-keys": list("abcdef")}}, "should be at most 5"),
        ({"artifacts": {"file": "a"}}, "artifacts: file is not supported"),
        (
            {"phases": {"build": {"commands": ["a"], "on-failure": "STOP"}}},
            "should be ABORT, CONTINUE",
        ),
        ({"phases": {"build": {"commands": ["a"], "on-failure": "RETRY-101"}}}, "should be 0 to 100"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(builds, members, said):
    build = builds.build(in_build("true") | members)

    assert build["buildStatus"] == "FAILED"
    assert said in message(build, "DOWNLOAD_SOURCE")
