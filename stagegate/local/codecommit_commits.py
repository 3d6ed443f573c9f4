"""A commit by CodeCommit's API: files put, deleted and given modes on top of a branch's head."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from stagegate.local.codecommit_records import Document, check_file_path, check_id, is_commit
from stagegate.local.git_repository import (
    EXECUTABLE,
    FILE,
    LINK,
    SUBMODULE,
    Entry,
    GitRepository,
)
from stagegate.local.service import AWSError

LARGEST_FILE = 6 * 2**20
"""Bytes: what CodeCommit's API takes and gives; git itself moves larger ones."""
MODES = {"NORMAL": FILE, "EXECUTABLE": EXECUTABLE, "SYMLINK": LINK}
MODE_NAMES = {mode: name for name, mode in MODES.items()}

_MOST_ENTRIES = 100
_LONGEST_MESSAGE = 2**20
_KEPT = ".gitkeep"


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a commit does, in the members of CreateCommit."""

    put: list[Document] = field(default_factory=list)
    delete: list[Document] = field(default_factory=list)
    modes: list[Document] = field(default_factory=list)
    keeps_empty_folders: bool = False


@dataclass(frozen=True, kw_only=True)
class Signed:
    """Who commits, and the message."""

    name: str | None
    email: str | None
    message: str | None


def commit(
    git: GitRepository, change: Change, signed: Signed, *, branch: str, parent: str | None, unchanged: str
) -> Document:
    """Commit to the branch; gives CreateCommit's answer. `unchanged` is the error where nothing changes.

    Nobody else may write to the repository meanwhile.
    """
    head = _checked_head(git, branch, parent)
    before = git.files(head) if head else {}
    after = _changed(git, before, change)
    if after == before:
        raise AWSError(unchanged, "The commit would change nothing: what it puts is there already.")
    tree = git.write_tree(after) if after else git.write("tree", b"")
    commit_id = git.write("commit", _commit_object(tree, head, signed))
    git.update(f"refs/heads/{branch}", to=commit_id, was=head)
    return {
        "commitId": commit_id,
        "treeId": tree,
        "filesAdded": [_described(path, after[path]) for path in sorted(after) if path not in before],
        "filesUpdated": [
            _described(path, after[path])
            for path in sorted(after)
            if path in before and after[path] != before[path]
        ],
        "filesDeleted": [_described(path, before[path]) for path in sorted(before) if path not in after],
    }


def _checked_head(git: GitRepository, branch: str, parent: str | None) -> str | None:
    """The branch's head, if `parent` is that; None for the first commit of an empty repository."""
    references = git.references()
    head = references.get(f"refs/heads/{branch}")
    if head is None:
        if f"refs/tags/{branch}" in references:
            raise AWSError("BranchNameIsTagNameException", f"{branch} is the name of a tag.")
        if any(name.startswith("refs/heads/") for name in references):
            raise AWSError("BranchDoesNotExistException", f"Branch {branch} does not exist")
    if parent is None:
        if head is not None:
            raise AWSError("ParentCommitIdRequiredException", "A parent commit ID is required.")
        return None
    if not is_commit(git, check_id(parent, code="InvalidParentCommitIdException")):
        raise AWSError("ParentCommitDoesNotExistException", f"The parent commit {parent} does not exist.")
    if head is None or head.commit_id != parent:
        raise AWSError(
            "ParentCommitIdOutdatedException",
            f"The parent commit ID {parent} is out of date: the head of {branch} is "
            f"{head.commit_id if head else 'not there yet'}.",
        )
    return parent


def _changed(git: GitRepository, before: Mapping[str, Entry], change: Change) -> dict[str, Entry]:
    put, deleted, modes = (
        {check_file_path(entry.get("filePath")): entry for entry in entries}
        for entries in (change.put, change.delete, change.modes)
    )
    _check_entries(change, put, deleted, modes)
    after = dict(before)
    for path in deleted:
        _existing(before, path)
        del after[path]
    for path, entry in modes.items():
        after[path] = Entry(mode=_mode(entry["fileMode"]), object_id=_existing(before, path).object_id)
    for entry in put.values():
        source = entry.get("sourceFile")
        if source is not None and source.get("isMove"):
            after.pop(check_file_path(source["filePath"]), None)
    for path, entry in put.items():
        _check_place(after, path)
        after[path] = _put(git, before, path, entry)
    if change.keeps_empty_folders:
        _keep_folders(git, before, after)
    return after


def _check_entries(change: Change, *by_path: Mapping[str, Document]) -> None:
    put, deleted, modes = by_path
    given = [*change.put, *change.delete, *change.modes]
    if not given:
        raise AWSError("FileEntryRequiredException", "The commit puts, deletes and sets the mode of nothing.")
    if len(given) > _MOST_ENTRIES:
        raise AWSError(
            "MaximumFileEntriesExceededException",
            f"The commit has {len(given)} file entries; {_MOST_ENTRIES} are the most.",
        )
    if len(put) < len(change.put):
        raise AWSError("PutFileEntryConflictException", "The commit puts one file more than once.")
    if len({*put, *deleted, *modes}) < len(given):
        raise AWSError("SamePathRequestException", "The commit does more than one thing to one file.")


def _put(git: GitRepository, before: Mapping[str, Entry], path: str, entry: Document) -> Entry:
    content, source = entry.get("fileContent"), entry.get("sourceFile")
    if content is None and source is None:
        raise AWSError("SourceFileOrContentRequiredException", f"{path} has neither content nor source.")
    if content is not None and source is not None:
        raise AWSError("FileContentAndSourceFileSpecifiedException", f"{path} has content and a source.")
    if source is not None:
        copied = _existing(before, check_file_path(source["filePath"]))
        mode = _mode(entry["fileMode"]) if "fileMode" in entry else copied.mode
        return Entry(mode=mode, object_id=copied.object_id)
    assert content is not None
    plain = content.encode() if isinstance(content, str) else bytes(content)
    if len(plain) > LARGEST_FILE:
        raise AWSError(
            "FileContentSizeLimitExceededException",
            f"{path} has {len(plain):,} bytes; {LARGEST_FILE:,} are the most. Push it with git.",
        )
    known = before.get(path)
    mode = _mode(entry["fileMode"]) if "fileMode" in entry else (known.mode if known else FILE)
    return Entry(mode=mode, object_id=git.write("blob", plain))


def _existing(before: Mapping[str, Entry], path: str) -> Entry:
    entry = before.get(path)
    if entry is None or entry.mode == SUBMODULE:
        raise AWSError("FileDoesNotExistException", f"Could not find path {path}")
    return entry


def _check_place(after: Mapping[str, Entry], path: str) -> None:
    """A path is a file's, a folder's or a submodule's, and no two of them."""
    parts = path.split("/")
    above = ["/".join(parts[:count]) for count in range(1, len(parts))]
    if any(after[one].mode == SUBMODULE for one in (*above, path) if one in after):
        raise AWSError(
            "FilePathConflictsWithSubmodulePathException", f"A submodule has the path of {path}, or above it."
        )
    if taken := [one for one in above if one in after]:
        raise AWSError(
            "DirectoryNameConflictsWithFileNameException", f"{path} would be below the file {taken[0]}."
        )
    if any(one.startswith(f"{path}/") for one in after):
        raise AWSError("FileNameConflictsWithDirectoryNameException", f"{path} is a folder.")


def _keep_folders(git: GitRepository, before: Mapping[str, Entry], after: dict[str, Entry]) -> None:
    """Put a file into each folder that was left without one."""
    for path in sorted(set(before) - set(after)):
        folder = path.rpartition("/")[0]
        if folder and not any(one.startswith(f"{folder}/") for one in after):
            after[f"{folder}/{_KEPT}"] = Entry(mode=FILE, object_id=git.write("blob", b""))


def _mode(name: str) -> str:
    if name not in MODES:
        raise AWSError("InvalidFileModeException", f"{name} is no file mode; {', '.join(MODES)} are.")
    return MODES[name]


def _commit_object(tree: str, parent: str | None, signed: Signed) -> bytes:
    message = signed.message or ""
    if len(message.encode()) > _LONGEST_MESSAGE:
        raise AWSError("CommitMessageLengthExceededException", "The commit message is longer than 1 MB.")
    who = f"{_plain(signed.name or 'local')} <{_plain(signed.email or '')}> {int(time.time())} +0000"
    parents = f"parent {parent}\n" if parent else ""
    return f"tree {tree}\n{parents}author {who}\ncommitter {who}\n\n{message}".encode()


def _plain(text: str) -> str:
    """Without what git's lines of people are divided by."""
    return "".join(character for character in text if character not in "<>\n\0").strip()


def _described(path: str, entry: Entry) -> Document:
    return {"absolutePath": path, "blobId": entry.object_id, "fileMode": MODE_NAMES.get(entry.mode, "NORMAL")}
