"""Bare git repositories by git's own plumbing: objects, trees and references, as plain functions that block.

Nothing of the user's or the machine's git configuration counts, no hook runs, and nothing that a caller names
is handed to git as a revision: objects are asked for by their ids alone.
"""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
"""The id of a tree without entries, which git knows in every repository."""
OBJECT_ID = re.compile(r"[0-9a-f]{40}")
FILE, EXECUTABLE, LINK, SUBMODULE, FOLDER = "100644", "100755", "120000", "160000", "040000"

_LOCKED = ("HEAD", "packed-refs", "config")
_CONFIGURATION = {
    "safe.directory": "*",  # the data directory may be another user's, as a volume's is
    "core.hooksPath": "/dev/null",
    "gc.autoDetach": "false",  # no process outlives the request that it came with
    "maintenance.autoDetach": "false",
    "uploadpack.allowFilter": "true",
    "receive.denyDeleteCurrent": "refuse",
    "advice.defaultBranchName": "false",
}


class GitError(Exception):
    """git did not do what it was asked, and says why."""


class NoGit(GitError):
    """There is no git on the path."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A branch or a tag by its full name; an annotated tag is an object of its own."""

    name: str
    object_id: str
    commit_id: str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What a tree has under a path."""

    mode: str
    object_id: str


class GitRepository:
    """One bare repository, as a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self) -> None:
        _run(["init", "--quiet", "--bare", "--template=", "--initial-branch=main", str(self.folder)])

    def references(self) -> dict[str, Reference]:
        """Branches and tags, in the order of their names."""
        line = "%(refname)%00%(objectname)%00%(*objectname)"
        listed = self._git("for-each-ref", f"--format={line}", "refs/heads", "refs/tags").decode()
        rows = [row.split("\0") for row in listed.splitlines()]
        return {
            name: Reference(name=name, object_id=object_id, commit_id=peeled or object_id)
            for name, object_id, peeled in rows
        }

    def read(self, object_id: str) -> tuple[str, bytes] | None:
        """The object's kind ("commit", "tree", "blob", "tag") and what it holds; None where there is none."""
        head, _, content = self._git("cat-file", "--batch", given=f"{object_id}\n".encode()).partition(b"\n")
        _, kind, *size = head.decode().split(" ")
        return (kind, content[: int(size[0])]) if size else None

    def size(self, object_id: str) -> int | None:
        """The object's size in bytes; None where there is none."""
        told = self._git("cat-file", "--batch-check=%(objectsize)", given=f"{object_id}\n".encode()).decode()
        return None if told.endswith(" missing\n") else int(told)

    def files(self, object_id: str) -> dict[str, Entry]:
        """All files of a tree, or a commit's, by their paths; links and submodules too."""
        return self._entries("-r", object_id)

    def children(self, object_id: str) -> dict[str, Entry]:
        """What is directly in a tree, or a commit's, by its names."""
        return self._entries(object_id)

    def find(self, object_id: str, path: str) -> Entry | None:
        """What a tree, or a commit's, has at `path`."""
        return self._entries(object_id, "--", path).get(path)

    def _entries(self, *arguments: str) -> dict[str, Entry]:
        entries = {}
        for row in self._git("ls-tree", "-z", *arguments).split(b"\0")[:-1]:
            head, _, path = row.partition(b"\t")
            mode, _, found = head.decode().split(" ")
            entries[os.fsdecode(path)] = Entry(mode=mode, object_id=found)
        return entries

    def write(self, kind: str, content: bytes) -> str:
        """Keep an object; gives its id. Raises GitError where `content` is not of that kind."""
        return self._git("hash-object", "-w", "-t", kind, "--stdin", given=content).decode().strip()

    def write_tree(self, entries: Mapping[str, Entry]) -> str:
        """Keep a tree with these files, and no other, at their paths; gives its id."""
        rows = (f"{entry.mode} {entry.object_id}\t{path}" for path, entry in entries.items())
        listed = b"".join(os.fsencode(row) + b"\0" for row in rows)
        with tempfile.TemporaryDirectory() as scratch:
            index = {"GIT_INDEX_FILE": f"{scratch}/index"}
            self._git("update-index", "-z", "--index-info", given=listed, environment=index)
            return self._git("write-tree", environment=index).decode().strip()

    def update(self, reference: str, *, to: str | None, was: str | None) -> None:
        """Move a reference, make it (`was` None) or take it away (`to` None).

        Raises GitError where it is not what it was said to be.
        """
        none = "0" * 40
        if to is None:
            self._git("update-ref", "-d", reference, was or none)
        else:
            self._git("update-ref", reference, to, was or none)

    def point_head_to(self, branch: str) -> None:
        """Have clones check out `branch`."""
        self._git("symbolic-ref", "HEAD", f"refs/heads/{branch}")

    def tidy(self) -> None:
        """Take away what a git that was killed leaves: locks of references, objects of half a push.

        Waits until no process writes to it that an earlier runtime began.
        """
        with self.locked():
            left = [*self.folder.glob("refs/**/*.lock"), *(self.folder / f"{of}.lock" for of in _LOCKED)]
            for lock in left:
                lock.unlink(missing_ok=True)
            for objects in self.folder.glob("objects/tmp_objdir-*"):
                shutil.rmtree(objects)

    @contextmanager
    def locked(self) -> Iterator[int]:
        """The one who writes; a process that is given the descriptor is that as long as it runs."""
        with (self.folder / "stagegate.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield lock.fileno()

    def _git(
        self, *arguments: str, given: bytes = b"", environment: Mapping[str, str] | None = None
    ) -> bytes:
        where = f"--git-dir={self.folder}"
        return _run([where, *arguments], given=given, environment=environment)


def is_reference_name(name: str) -> bool:
    """Whether git takes it for the full name of a reference."""
    try:
        _run(["check-ref-format", name])
    except NoGit:
        raise
    except (GitError, ValueError):  # a zero byte in it is none that a process can be given
        return False
    return True


@cache
def git_environment() -> Mapping[str, str]:
    """All that a git of ours sees of the world."""
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
    settings = {
        name: text
        for number, (key, value) in enumerate(_CONFIGURATION.items())
        for name, text in ((f"GIT_CONFIG_KEY_{number}", key), (f"GIT_CONFIG_VALUE_{number}", value))
    }
    return {
        **kept,
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_COUNT": str(len(_CONFIGURATION)),
        **settings,
    }


def _run(arguments: list[str], *, given: bytes = b"", environment: Mapping[str, str] | None = None) -> bytes:
    try:
        done = subprocess.run(
            ["git", *arguments],
            input=given,
            capture_output=True,
            env={**git_environment(), **(environment or {})},
            check=False,
        )
    except FileNotFoundError as error:
        raise NoGit("The program git is not on the path of the local runtime: install it.") from error
    if done.returncode != 0:
        raise GitError(done.stderr.decode(errors="replace").strip())
    return done.stdout
