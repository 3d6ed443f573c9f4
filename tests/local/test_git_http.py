"""git against the runtime, as its users do it: clone, push, fetch; and the events of what was pushed."""

import fcntl
import gzip
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.requests import Request

from stagegate.local import git_http

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")

PATTERN = {"source": ["aws.codecommit"], "detail-type": ["CodeCommit Repository State Change"]}


class Git:
    """A user's git with a working copy, without any configuration of the machine's."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_AUTHOR_NAME": "Ada",
            "GIT_AUTHOR_EMAIL": "ada@example.com",
            "GIT_COMMITTER_NAME": "Ada",
            "GIT_COMMITTER_EMAIL": "ada@example.com",
        }

    def __call__(self, *arguments):
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def run(self, *arguments):
        return subprocess.run(
            ["git", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def commit(self, path, content):
        (self.folder / path).write_bytes(content)
        self("add", path)
        self("commit", "--quiet", "--message", f"Add {path}")
        return self("rev-parse", "HEAD")


@pytest.fixture
def git(tmp_path):
    git = Git(tmp_path / "work")
    git("init", "--quiet", "--initial-branch=main")
    return git


def create(runtime, name):
    made = runtime.client("codecommit").create_repository(repositoryName=name)
    return made["repositoryMetadata"]["cloneUrlHttp"]


@pytest.fixture
def name():
    return f"models-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def url(shared_local, name):
    return create(shared_local, name)


def listen(runtime, name):
    """A queue that gets the events of a repository."""
    sqs, events = runtime.client("sqs"), runtime.client("events")
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    pattern = {**PATTERN, "detail": {"repositoryName": [name]}}
    events.put_rule(Name=name, EventPattern=json.dumps(pattern))
    target = {"Id": "queue", "Arn": f"arn:aws:sqs:us-east-1:111111111111:{name}"}
    events.put_targets(Rule=name, Targets=[target])
    return queue


def until(look):
    deadline = time.monotonic() + 30
    while not (found := look()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


def is_answering(runtime):
    try:
        return runtime.get("/_stagegate/health")
    except OSError:
        return False


def next_event(runtime, queue):
    sqs = runtime.client("sqs")
    received = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=20)
    (message,) = received["Messages"]
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    return json.loads(message["Body"])


def test_what_is_pushed_is_cloned_and_fetched(shared_local, name, url, git, tmp_path):
    first = git.commit("README.md", b"# Models\n")
    git("push", "--quiet", url, "main")
    other = Git(tmp_path / "other")
    other("clone", "--quiet", url, ".")
    assert other("rev-parse", "HEAD") == first
    assert other("branch", "--show-current") == "main"

    second = other.commit("train.py", b"print(1)\n")
    other("push", "--quiet", "origin", "main")
    git("pull", "--quiet", url, "main")

    assert git("rev-parse", "HEAD") == second
    file = shared_local.client("codecommit").get_file(repositoryName=name, filePath="train.py")
    assert (file["commitId"], file["fileContent"]) == (second, b"print(1)\n")


def test_a_commit_of_the_api_is_fetched(shared_local, name, url, git):
    made = shared_local.client("codecommit").put_file(
        repositoryName=name, branchName="trunk", filePath="a", fileContent=b"a", name="Ada", commitMessage="A"
    )

    git("pull", "--quiet", url)  # HEAD

    assert git("log", "--format=%H %an %s") == f"{made['commitId']} Ada A"
    assert git("fsck", "--strict") == ""


@pytest.mark.parametrize("protocol", ["0", "1", "2"])
def test_each_protocol_is_spoken(url, git, tmp_path, protocol):
    commit = git.commit("a", b"a")
    git("-c", f"protocol.version={protocol}", "push", "--quiet", url, "main")
    other = Git(tmp_path / "other")

    other("-c", f"protocol.version={protocol}", "clone", "--quiet", "--depth", "1", f"{url}.git", ".")

    assert other("rev-parse", "HEAD") == commit


def test_a_push_larger_than_a_buffer_comes_in_pieces(url, git, tmp_path):
    content = os.urandom(5 * 2**20)
    git.commit("weights.bin", content)
    git("push", "--quiet", url, "main")  # beyond http.postBuffer: chunked, after a probe
    other = Git(tmp_path / "other")

    other("clone", "--quiet", url, ".")

    assert (other.folder / "weights.bin").read_bytes() == content


def test_many_references_make_a_packed_request(url, git, tmp_path):
    """git packs what it asks with, where that is more than a kilobyte."""
    git.commit("a", b"a")
    git("push", "--quiet", url, "main")
    other = Git(tmp_path / "other")
    other("clone", "--quiet", url, ".")
    for number in range(60):
        other("commit", "--quiet", "--allow-empty", "--message", str(number))
    latest = git.commit("b", b"b")
    git("push", "--quiet", url, "main")

    other("-c", "protocol.version=0", "fetch", "--quiet")

    assert other("rev-parse", "origin/main") == latest


def test_any_credentials_are_taken(url, git):
    git.commit("a", b"a")

    git("push", "--quiet", url.replace("http://", "http://ada-at-111111111111:secret%2F@"), "main")


def test_what_is_no_fast_forward_is_refused_unless_it_is_forced(url, git):
    first = git.commit("a", b"a")
    git("push", "--quiet", url, "main")
    git("commit", "--quiet", "--amend", "--message", "other")

    refusal = git.run("push", url, "main")
    git("push", "--quiet", "--force", url, "main")

    assert refusal.returncode == 1 and "[rejected]" in refusal.stderr
    assert git("ls-remote", url, "main").split()[0] == git("rev-parse", "HEAD") != first


def test_the_default_branch_is_not_deleted_by_a_push(url, git):
    git.commit("a", b"a")
    git("push", "--quiet", url, "main", "main:other")

    refusal = git.run("push", url, ":main")
    git("push", "--quiet", url, ":other")

    assert "deletion of the current branch prohibited" in refusal.stderr
    assert git("ls-remote", "--heads", url).endswith("refs/heads/main")


def test_a_repository_that_is_not_there_is_said_so(shared_local, git):
    refusal = git.run("clone", f"{shared_local.endpoint_url}/v1/repos/absent")

    assert refusal.returncode == 128
    assert "absent does not exist" in refusal.stderr


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("info/refs", None, 404),
        ("info/refs?service=git-shell", None, 404),
        ("HEAD", None, 404),
        ("objects/info/packs", None, 404),
        ("git-upload-pack", None, 405),
        ("../../../etc/passwd", None, 404),
        ("%2e%2e/%2e%2e/stagegate.db", None, 404),
        ("git-receive-pack", b"no gzip", 400),
        ("git-receive-pack", gzip.compress(b"0000", mtime=0)[:-9], 400),
    ],
)
def test_what_is_no_request_of_git_is_refused(url, path, body, status):
    request = urllib.request.Request(f"{url}/{path}", data=body, headers={"Content-Encoding": "gzip"})

    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)

    with caught.value as error:
        assert error.code == status


def test_a_push_starts_what_a_rule_names(shared_local, name, url, git):
    queue = listen(shared_local, name)
    repository = shared_local.client("codecommit").get_repository(repositoryName=name)["repositoryMetadata"]

    first = git.commit("a", b"a")
    git("push", "--quiet", url, "main")
    created = next_event(shared_local, queue)
    second = git.commit("b", b"b")
    git("push", "--quiet", url, "main")
    updated = next_event(shared_local, queue)
    git("tag", "--annotate", "--message", "One", "v1")
    git("push", "--quiet", url, "v1")
    tagged = next_event(shared_local, queue)
    git("push", "--quiet", url, ":v1")
    deleted = next_event(shared_local, queue)

    assert created["resources"] == [repository["Arn"]]
    assert created["detail-type"] == "CodeCommit Repository State Change"
    assert created["detail"] == {
        "event": "referenceCreated",
        "repositoryName": name,
        "repositoryId": repository["repositoryId"],
        "referenceType": "branch",
        "referenceName": "main",
        "referenceFullName": "refs/heads/main",
        "commitId": first,
        "callerUserArn": "arn:aws:iam::111111111111:root",
    }
    assert updated["detail"] == created["detail"] | {
        "event": "referenceUpdated",
        "commitId": second,
        "oldCommitId": first,
    }
    of_tag = {"referenceType": "tag", "referenceName": "v1", "referenceFullName": "refs/tags/v1"}
    assert tagged["detail"] == created["detail"] | of_tag | {"commitId": second}
    gone = created["detail"] | of_tag | {"event": "referenceDeleted", "oldCommitId": second}
    del gone["commitId"]
    assert deleted["detail"] == gone


def test_a_commit_of_the_api_is_an_event_too(shared_local, name, url):
    queue = listen(shared_local, name)
    client = shared_local.client("codecommit")

    made = client.put_file(repositoryName=name, branchName="main", filePath="a", fileContent=b"a")
    committed = next_event(shared_local, queue)["detail"]
    client.create_branch(repositoryName=name, branchName="b", commitId=made["commitId"])
    branched = next_event(shared_local, queue)["detail"]
    client.delete_branch(repositoryName=name, branchName="b")
    deleted = next_event(shared_local, queue)["detail"]

    assert (committed["event"], committed["commitId"]) == ("referenceCreated", made["commitId"])
    assert (branched["event"], branched["referenceName"]) == ("referenceCreated", "b")
    assert (deleted["event"], deleted["oldCommitId"]) == ("referenceDeleted", made["commitId"])


def test_what_was_pushed_and_not_announced_is_announced_at_the_next_start(local, git):
    """As a kill leaves it, between what git has done and what the runtime wrote down."""
    url = create(local, "models")
    queue = listen(local, "models")
    git.commit("a", b"a")
    git("push", "--quiet", url, "main")
    next_event(local, queue)
    local.kill()
    (folder,) = (local.data / "codecommit").glob("*.git")
    commit = git.commit("b", b"b")
    git("push", "--quiet", str(folder), "main")

    local.start()

    detail = next_event(local, queue)["detail"]
    assert (detail["event"], detail["commitId"]) == ("referenceUpdated", commit)
    local.restart()
    assert "Messages" not in local.client("sqs").receive_message(QueueUrl=queue)


def test_a_start_waits_for_the_push_that_an_earlier_runtime_began(local, git):
    """git ends what it has begun though the runtime was killed: here this test stands for it."""
    create(local, "models")
    queue = listen(local, "models")
    local.kill()
    (folder,) = (local.data / "codecommit").glob("*.git")
    commit = git.commit("a", b"a")

    with ThreadPoolExecutor() as pool:
        with (folder / "stagegate.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            starting = pool.submit(local.start)
            until(lambda: is_answering(local))
            git("push", "--quiet", str(folder), "main")
        starting.result(timeout=60)

        assert next_event(local, queue)["detail"]["commitId"] == commit
        local.kill()  # it would end with the thread that has started it


def test_half_a_push_has_changed_nothing(local, git):
    url = create(local, "models")
    commit = git.commit("weights.bin", os.urandom(2**20))
    git("push", "--quiet", url, "main")
    with socket.create_connection(("127.0.0.1", local.port)) as half:
        half.sendall(
            b"POST /v1/repos/models/git-receive-pack HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
            + f"00670{'0' * 39} {commit} refs/heads/half".encode()
        )
        assert git("ls-remote", "--heads", url) == f"{commit}\trefs/heads/main"
        local.kill()

    local.start()

    assert git("ls-remote", "--heads", url) == f"{commit}\trefs/heads/main"


def test_what_a_killed_git_leaves_hinders_no_push(local, git):
    url = create(local, "models")
    git.commit("a", b"a")
    git("push", "--quiet", url, "main")
    local.kill()
    (folder,) = (local.data / "codecommit").glob("*.git")
    (folder / "refs/heads/main.lock").touch()
    (folder / "packed-refs.lock").touch()
    (folder / "objects/tmp_objdir-incoming-x").mkdir()

    local.start()

    git.commit("b", b"b")
    git("push", "--quiet", url, "main")
    left = [*folder.rglob("*.lock"), *folder.glob("objects/tmp_*")]
    assert [path.name for path in left] == ["stagegate.lock"]


async def test_a_request_that_is_too_large_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(git_http, "LARGEST_REQUEST", 1000)
    pieces = [gzip.compress(bytes(100_000)), b""]

    async def receive():
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    packed = {"type": "http", "method": "POST", "headers": [(b"content-encoding", b"gzip")]}

    with pytest.raises(git_http.Refused) as caught:
        await git_http.read_request(Request(packed, receive), tmp_path)

    assert caught.value.response.status_code == 413
    assert caught.value.response.body == b"A push or fetch may send at most 1,000 bytes.\n"


def test_a_folder_that_a_kill_has_left_goes_at_the_next_start(local):
    create(local, "models")
    local.kill()
    left = local.data / "codecommit" / f"{uuid.uuid4()}.git"
    left.mkdir()

    local.start()

    assert not left.exists()
    assert local.client("codecommit").list_branches(repositoryName="models")["branches"] == []


def test_two_pushes_at_once_are_two_events(shared_local, name, url, git, tmp_path):
    queue = listen(shared_local, name)
    first = git.commit("a", b"a")
    git("push", "--quiet", url, "main")
    next_event(shared_local, queue)
    pushes = [
        subprocess.Popen(
            ["git", "push", "--quiet", url, f"{first}:refs/heads/branch-{number}"],
            cwd=git.folder,
            env=git.environment,
        )
        for number in range(4)
    ]

    assert [push.wait(timeout=60) for push in pushes] == [0, 0, 0, 0]

    names = {next_event(shared_local, queue)["detail"]["referenceName"] for _ in pushes}
    assert names == {f"branch-{number}" for number in range(4)}
