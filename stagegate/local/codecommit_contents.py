"""What CodeCommit shows of a repository: its commits, files, folders and differences."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from stagegate.local.codecommit_commits import LARGEST_FILE, MODE_NAMES
from stagegate.local.codecommit_records import (
    Document,
    check_file_path,
    check_id,
    check_path,
    find_repository,
    git_of,
    page,
    resolve,
)
from stagegate.local.git_repository import FOLDER, LINK, SUBMODULE, Entry, GitRepository
from stagegate.local.service import AWSError, Service

_MOST_COMMITS = 100
_DIFFERENCES = 100

Answer = TypeVar("Answer")


class Contents(Service):
    """Reads only."""

    async def get_commit(self, *, repositoryName: str, commitId: str) -> Document:
        check_id(commitId, code="InvalidCommitIdException")
        commit = await self._read(repositoryName, lambda git, _: _commit(git, commitId))
        if commit is None:
            raise AWSError("CommitIdDoesNotExistException", f"Could not find commit {commitId}")
        return {"commit": commit}

    async def batch_get_commits(self, *, repositoryName: str, commitIds: list[str]) -> Document:
        if not commitIds:
            raise AWSError("CommitIdsListRequiredException", "A list of commit IDs is required.")
        if len(commitIds) > _MOST_COMMITS:
            raise AWSError("CommitIdsLimitExceededException", f"{_MOST_COMMITS} commit IDs are the most.")
        commits, errors = [], []
        for commit_id in commitIds:
            try:
                commits.append(
                    (await self.get_commit(repositoryName=repositoryName, commitId=commit_id))["commit"]
                )
            except AWSError as error:
                if not error.code.startswith(("CommitId", "InvalidCommitId")):
                    raise
                errors.append({"commitId": commit_id, "errorCode": error.code, "errorMessage": error.message})
        return {"commits": commits, "errors": errors}

    async def get_file(
        self, *, repositoryName: str, filePath: str, commitSpecifier: str | None = None
    ) -> Document:
        path = check_file_path(filePath)

        def read(git: GitRepository, default_branch: str | None) -> Document:
            commit_id = resolve(git, commitSpecifier, default_branch)
            entry = git.find(commit_id, path)
            if entry is None or entry.mode not in MODE_NAMES:
                raise AWSError("FileDoesNotExistException", f"Could not find path {path}")
            content = _blob(git, entry.object_id)
            return {
                "commitId": commit_id,
                "blobId": entry.object_id,
                "filePath": path,
                "fileMode": MODE_NAMES[entry.mode],
                "fileSize": len(content),
                "fileContent": content,
            }

        return await self._read(repositoryName, read)

    async def get_folder(
        self, *, repositoryName: str, folderPath: str, commitSpecifier: str | None = None
    ) -> Document:
        path = check_path(folderPath)

        def read(git: GitRepository, default_branch: str | None) -> Document:
            commit_id = resolve(git, commitSpecifier, default_branch)
            tree = (
                git.find(commit_id, path) if path else Entry(mode=FOLDER, object_id=_tree_of(git, commit_id))
            )
            if tree is None or tree.mode != FOLDER:
                raise AWSError("FolderDoesNotExistException", f"Could not find folder {path}")
            found = _sorted_out(path, git.children(tree.object_id))
            return {"commitId": commit_id, "folderPath": path, "treeId": tree.object_id, **found}

        return await self._read(repositoryName, read)

    async def get_blob(self, *, repositoryName: str, blobId: str) -> Document:
        check_id(blobId, code="InvalidBlobIdException")
        return {"content": await self._read(repositoryName, lambda git, _: _blob(git, blobId))}

    async def get_differences(
        self,
        *,
        repositoryName: str,
        afterCommitSpecifier: str,
        beforeCommitSpecifier: str | None = None,
        beforePath: str | None = None,
        afterPath: str | None = None,
        MaxResults: int = _DIFFERENCES,
        NextToken: str | None = None,
    ) -> Document:
        if MaxResults < 1:
            raise AWSError("InvalidMaxResultsException", "MaxResults should be 1 or more.")
        old, new = (
            check_path(given if given is not None else other)
            for given, other in ((beforePath, afterPath), (afterPath, beforePath))
        )

        def read(git: GitRepository, default_branch: str | None) -> list[Document]:
            after = _below(git.files(resolve(git, afterCommitSpecifier, default_branch)), new)
            before: dict[str, tuple[str, Entry]] = {}
            if beforeCommitSpecifier is not None:
                before = _below(git.files(resolve(git, beforeCommitSpecifier, default_branch)), old)
            if (old or new) and not before and not after:
                raise AWSError("PathDoesNotExistException", f"Could not find path {new or old}")
            return [
                _difference(before.get(path), after.get(path))
                for path in sorted({*before, *after})
                if _content(before.get(path)) != _content(after.get(path))
            ]

        differences = await self._read(repositoryName, read)
        return page("differences", differences, NextToken, size=MaxResults, following="NextToken")

    async def _read(self, name: str, read: Callable[[GitRepository, str | None], Answer]) -> Answer:
        """`read`, with the repository and the name of its default branch, beside the event loop."""
        document = find_repository(self.runtime, name)
        git = git_of(self.runtime, document)
        return await asyncio.to_thread(read, git, document.get("defaultBranch"))


def _blob(git: GitRepository, blob_id: str) -> bytes:
    found = git.read(blob_id) if (git.size(blob_id) or 0) <= LARGEST_FILE else ("blob", None)
    if found is None or found[0] != "blob":
        raise AWSError("BlobIdDoesNotExistException", f"Could not find blob {blob_id}")
    if found[1] is None:
        raise AWSError(
            "FileTooLargeException",
            f"The blob {blob_id} is larger than {LARGEST_FILE:,} bytes; fetch it with git.",
        )
    return found[1]


def _commit(git: GitRepository, commit_id: str) -> Document | None:
    found = git.read(commit_id)
    if found is None or found[0] != "commit":
        return None
    head, _, message = found[1].decode(errors="replace").partition("\n\n")
    known: dict[str, list[str]] = {"tree": [], "parent": [], "author": [], "committer": []}
    other: list[str] = []
    for line in head.split("\n"):
        member, _, value = line.partition(" ")
        if member in known:
            known[member].append(value)
        else:
            other.append(line)
    return {
        "commitId": commit_id,
        "treeId": known["tree"][0],
        "parents": known["parent"],
        "message": message,
        "author": _person(known["author"][0]),
        "committer": _person(known["committer"][0]),
        "additionalData": "\n".join(other),
    }


def _person(line: str) -> Document:
    name, _, rest = line.partition(" <")
    email, _, date = rest.partition("> ")
    return {"name": name, "email": email, "date": date}


def _tree_of(git: GitRepository, commit_id: str) -> str:
    commit = _commit(git, commit_id)
    assert commit is not None
    return str(commit["treeId"])


def _sorted_out(folder: str, children: dict[str, Entry]) -> Document:
    """A folder's children by their kinds, as GetFolder has them."""
    found: Document = {"subFolders": [], "files": [], "symbolicLinks": [], "subModules": []}
    for name, entry in sorted(children.items()):
        paths = {"absolutePath": f"{folder}/{name}" if folder else name, "relativePath": name}
        if entry.mode == FOLDER:
            found["subFolders"].append({"treeId": entry.object_id, **paths})
        elif entry.mode == SUBMODULE:
            found["subModules"].append({"commitId": entry.object_id, **paths})
        else:
            of_file = {"blobId": entry.object_id, **paths, "fileMode": MODE_NAMES.get(entry.mode, "NORMAL")}
            found["symbolicLinks" if entry.mode == LINK else "files"].append(of_file)
    return found


def _below(files: dict[str, Entry], path: str) -> dict[str, tuple[str, Entry]]:
    """The files at and below a path: what follows it, the whole path, and what is there."""
    return {
        whole[len(path) :]: (whole, entry)
        for whole, entry in files.items()
        if not path or whole == path or whole.startswith(f"{path}/")
    }


def _content(found: tuple[str, Entry] | None) -> Entry | None:
    return found[1] if found else None


def _difference(before: tuple[str, Entry] | None, after: tuple[str, Entry] | None) -> Document:
    sides = {
        member: {"blobId": found[1].object_id, "path": found[0], "mode": found[1].mode}
        for member, found in (("beforeBlob", before), ("afterBlob", after))
        if found is not None
    }
    return {**sides, "changeType": "M" if before and after else ("A" if after else "D")}
