"""CodeCommit's repositories as the store has them, and the rules for names, paths and ids."""

import re
from collections.abc import Mapping
from typing import Any

from stagegate.local import pages
from stagegate.local.git_repository import OBJECT_ID, GitRepository, is_reference_name
from stagegate.local.service import AWSError, Runtime

REPOSITORY = "codecommit/repository"
HTTP_PATH = "/v1/repos/"
"""Below it our endpoint answers git, as CodeCommit's does."""

_NAME = re.compile(r"[\w.-]{1,100}", re.ASCII)
_PAGE = 1000
_LONGEST_DESCRIPTION = 1000
_MOST_TAGS = 50

Document = dict[str, Any]


def check_name(name: str | None) -> str:
    """The name of a repository, if it can be one."""
    if name is None:
        raise AWSError("RepositoryNameRequiredException", "A repository name is required.")
    if _NAME.fullmatch(name) is None or name.endswith(".git") or name in (".", ".."):
        raise AWSError(
            "InvalidRepositoryNameException",
            "The repository name is not valid. Repository names can be any valid combination of letters, "
            "numbers, periods, underscores, and dashes between 1 and 100 characters in length, and cannot "
            f"end in .git: {name[:200]}",
        )
    return name


def find_repository(runtime: Runtime, name: str | None) -> Document:
    """The repository of this name. Raises AWSError where there is none, or the name can be none's."""
    document = runtime.store.get(REPOSITORY, check_name(name))
    if document is None:
        raise AWSError("RepositoryDoesNotExistException", f"{name} does not exist")
    return document


def git_of(runtime: Runtime, document: Document) -> GitRepository:
    """Its folder has its id for a name: that can be no path, and is the same when it is renamed."""
    return GitRepository(runtime.data / "codecommit" / f"{document['repositoryId']}.git")


def metadata(runtime: Runtime, document: Document) -> Document:
    """RepositoryMetadata, as the API describes it."""
    place = f"{runtime.endpoint_url.partition('://')[2]}{HTTP_PATH}{document['repositoryName']}"
    return {
        "accountId": runtime.account_id,
        **{member: value for member, value in document.items() if member != "tags"},
        "Arn": arn_of(runtime, document["repositoryName"]),
        "cloneUrlHttp": f"http://{place}",
        "cloneUrlSsh": f"ssh://{place}",
    }


def arn_of(runtime: Runtime, name: str) -> str:
    return runtime.arn("codecommit", name)


def check_branch(name: str | None) -> str:
    """The name of a branch, if git takes it for one."""
    if name is None:
        raise AWSError("BranchNameRequiredException", "A branch name is required.")
    if not 1 <= len(name) <= 256 or name.startswith("-") or not is_reference_name(f"refs/heads/{name}"):
        raise AWSError("InvalidBranchNameException", f"The branch name is not valid: {name[:300]}")
    return name


def check_path(path: str | None) -> str:
    """A file's or folder's path, without the slash that may stand before it; "" is the root."""
    path = (path or "").strip("/")
    parts = path.split("/") if path else []
    is_odd = any(ord(character) < 32 for character in path) or len(path) > 4096
    if is_odd or any(part in ("", ".", "..") or part.lower() == ".git" for part in parts):
        raise AWSError("InvalidPathException", f"The path is not valid: {path[:200]!r}")
    return path


def check_file_path(path: str | None) -> str:
    if not (checked := check_path(path)):
        raise AWSError("PathRequiredException", "The path of a file is required.")
    return checked


def check_id(object_id: str, *, code: str) -> str:
    """The full id of an object, or an error with this code."""
    if OBJECT_ID.fullmatch(object_id) is None:
        raise AWSError(code, f"The id should be the 40 hexadecimal digits of a SHA-1: {object_id[:100]}")
    return object_id


def description_of(text: str | None) -> Document:
    if text and len(text) > _LONGEST_DESCRIPTION:
        raise AWSError(
            "InvalidRepositoryDescriptionException",
            f"The description has {len(text)} characters; {_LONGEST_DESCRIPTION} are the most.",
        )
    return {"repositoryDescription": text} if text else {}


def check_tags(tags: Mapping[str, str]) -> None:
    if len(tags) > _MOST_TAGS:
        raise AWSError("TooManyTagsException", f"A repository has at most {_MOST_TAGS} tags.")
    if any(key.lower().startswith("aws:") for key in tags):
        raise AWSError("InvalidSystemTagUsageException", "Tags that begin with aws: are AWS's own.")
    if any(not 1 <= len(key) <= 128 or len(value) > 256 for key, value in tags.items()):
        raise AWSError(
            "InvalidTagsMapException", "A tag has a key of 1 to 128 and a value of up to 256 characters."
        )


def is_commit(git: GitRepository, object_id: str) -> bool:
    found = git.read(object_id)
    return found is not None and found[0] == "commit"


def resolve(git: GitRepository, specifier: str | None, default_branch: str | None) -> str:
    """The commit that a commit's id, a branch, a tag or a reference by its full name means; by default the
    head of the default branch."""
    specifier = f"refs/heads/{default_branch}" if specifier in (None, "HEAD") else specifier
    assert specifier is not None
    if OBJECT_ID.fullmatch(specifier) is not None and is_commit(git, specifier):
        return specifier
    references = git.references()
    for prefix in ("", "refs/", "refs/tags/", "refs/heads/"):  # git's order (gitrevisions(7))
        if found := references.get(f"{prefix}{specifier}"):
            return found.commit_id
    raise AWSError("CommitDoesNotExistException", f"Could not find commit {specifier[:300]}")


def page(
    member: str, items: list[Any], token: str | None, *, size: int = _PAGE, following: str = "nextToken"
) -> Document:
    return pages.page(
        member, items, token, size, invalid="InvalidContinuationTokenException", following=following
    )
