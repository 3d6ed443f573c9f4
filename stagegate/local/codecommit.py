"""CodeCommit: repositories that one pushes to, their branches and tags, and the events of what was pushed.

What changes a repository does so one after the other. When it is done, the references are compared with those
that were announced last, and each difference is an event, written down in the same step: so a push that a
killed runtime did not come to announce is announced when it starts again.
"""

import asyncio
import logging
import shutil
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from stagegate.local import git_http
from stagegate.local.codecommit_commits import Change, Signed, commit
from stagegate.local.codecommit_events import ANNOUNCED, announce_changes
from stagegate.local.codecommit_records import (
    HTTP_PATH,
    REPOSITORY,
    Document,
    arn_of,
    check_branch,
    check_id,
    check_name,
    check_tags,
    description_of,
    find_repository,
    git_of,
    is_commit,
    metadata,
    page,
)
from stagegate.local.git_repository import GitError, GitRepository
from stagegate.local.service import AWSError, Runtime, Service

log = logging.getLogger(__name__)

_MOST_NAMES = 25

Answer = TypeVar("Answer")


class CodeCommit(Service):
    """Repositories, branches, tags and commits, and git over HTTP."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._turns: dict[str, asyncio.Lock] = {}

    async def start(self) -> None:
        """What an earlier runtime left half done: folders of no repository, and what was not announced."""
        documents = self.runtime.store.list(REPOSITORY)
        being_made = self._turns.keys()
        known = {document["repositoryId"] for document in documents} | being_made
        folders = list((self.runtime.data / "codecommit").glob("*.git"))
        for folder in folders:
            if folder.stem not in known:
                await asyncio.to_thread(shutil.rmtree, folder)
        for document in documents:
            try:
                await self._change(document["repositoryName"], GitRepository.tidy)
            except AWSError:
                log.info("the repository %s was deleted meanwhile", document["repositoryName"])
            except (GitError, OSError):
                log.exception("the repository %s cannot be read", document["repositoryName"])

    # Repositories

    async def create_repository(
        self,
        *,
        repositoryName: str,
        repositoryDescription: str | None = None,
        tags: dict[str, str] | None = None,
        kmsKeyId: str | None = None,
    ) -> Document:
        check_name(repositoryName)
        self._check_new(repositoryName)
        check_tags(tags or {})
        now = datetime.now(UTC)
        document: Document = {
            "repositoryId": str(uuid.uuid4()),
            "repositoryName": repositoryName,
            "creationDate": now,
            "lastModifiedDate": now,
            "tags": tags or {},
            **description_of(repositoryDescription),
            **({"kmsKeyId": kmsKeyId} if kmsKeyId else {}),
        }
        async with self._turn(document):
            await asyncio.to_thread(git_of(self.runtime, document).create)
            self._check_new(repositoryName)  # another request may have been quicker
            self.runtime.store.put(REPOSITORY, repositoryName, document)
        return {"repositoryMetadata": metadata(self.runtime, document)}

    def get_repository(self, *, repositoryName: str) -> Document:
        return {"repositoryMetadata": metadata(self.runtime, find_repository(self.runtime, repositoryName))}

    def batch_get_repositories(self, *, repositoryNames: list[str]) -> Document:
        if not repositoryNames:
            raise AWSError("RepositoryNamesRequiredException", "A list of repository names is required.")
        if len(repositoryNames) > _MOST_NAMES:
            raise AWSError("MaximumRepositoryNamesExceededException", f"{_MOST_NAMES} names are the most.")
        found = {name: self.runtime.store.get(REPOSITORY, check_name(name)) for name in repositoryNames}
        missing = [name for name, document in found.items() if document is None]
        return {
            "repositories": [metadata(self.runtime, document) for document in found.values() if document],
            "repositoriesNotFound": missing,
            "errors": [
                {
                    "repositoryName": name,
                    "errorCode": "RepositoryDoesNotExistException",
                    "errorMessage": f"{name} does not exist",
                }
                for name in missing
            ],
        }

    def list_repositories(
        self, *, sortBy: str = "repositoryName", order: str = "ascending", nextToken: str | None = None
    ) -> Document:
        if sortBy not in ("repositoryName", "lastModifiedDate"):
            raise AWSError("InvalidSortByException", f"{sortBy} is nothing to sort repositories by.")
        if order not in ("ascending", "descending"):
            raise AWSError("InvalidOrderException", f"{order} is no order: ascending and descending are.")
        documents = sorted(
            self.runtime.store.list(REPOSITORY),
            key=lambda document: document[sortBy],
            reverse=order == "descending",
        )
        pairs = [{member: one[member] for member in ("repositoryName", "repositoryId")} for one in documents]
        return page("repositories", pairs, nextToken)

    async def delete_repository(self, *, repositoryName: str) -> Document:
        """One that is not there is no error, as on AWS."""
        if (document := self.runtime.store.get(REPOSITORY, check_name(repositoryName))) is None:
            return {}
        async with self._turn(document):
            if not self.runtime.store.delete(REPOSITORY, repositoryName):
                return {}
            self.runtime.store.delete(ANNOUNCED, document["repositoryId"])
            await self.runtime.store.committed()
            await asyncio.to_thread(shutil.rmtree, git_of(self.runtime, document).folder, ignore_errors=True)
        self._turns.pop(document["repositoryId"], None)
        return {"repositoryId": document["repositoryId"]}

    async def update_repository_name(self, *, oldName: str, newName: str) -> Document:
        check_name(newName)
        async with self._turn(find_repository(self.runtime, oldName)):
            document = find_repository(self.runtime, oldName)
            self._check_new(newName)
            self.runtime.store.delete(REPOSITORY, oldName)
            self._put(document, repositoryName=newName)
        return {}

    def update_repository_description(
        self, *, repositoryName: str, repositoryDescription: str | None = None
    ) -> Document:
        document = find_repository(self.runtime, repositoryName)
        document.pop("repositoryDescription", None)
        self._put(document, **description_of(repositoryDescription))
        return {}

    def update_repository_encryption_key(self, *, repositoryName: str, kmsKeyId: str) -> Document:
        document = find_repository(self.runtime, repositoryName)
        self._put(document, kmsKeyId=kmsKeyId)
        return {
            "repositoryId": document["repositoryId"],
            "kmsKeyId": kmsKeyId,
            "originalKmsKeyId": document.get("kmsKeyId"),
        }

    # Branches

    async def create_branch(self, *, repositoryName: str, branchName: str, commitId: str) -> Document:
        check_id(commitId, code="InvalidCommitIdException")

        def create(git: GitRepository) -> None:
            name = f"refs/heads/{check_branch(branchName)}"
            if name in git.references():
                raise AWSError("BranchNameExistsException", f"Branch {branchName} already exists")
            if not is_commit(git, commitId):
                raise AWSError("CommitDoesNotExistException", f"Could not find commit {commitId}")
            try:
                git.update(name, to=commitId, was=None)
            except GitError as error:  # the branch a/b beside the branch a
                raise AWSError("InvalidBranchNameException", f"{branchName}: {error}") from error

        await self._change(repositoryName, create)
        return {}

    async def get_branch(
        self, *, repositoryName: str | None = None, branchName: str | None = None
    ) -> Document:
        git = git_of(self.runtime, find_repository(self.runtime, repositoryName))
        return {"branch": _branch(branchName, await asyncio.to_thread(_head, git, branchName))}

    async def list_branches(self, *, repositoryName: str, nextToken: str | None = None) -> Document:
        git = git_of(self.runtime, find_repository(self.runtime, repositoryName))
        references = await asyncio.to_thread(git.references)
        names = [name.removeprefix("refs/heads/") for name in references if name.startswith("refs/heads/")]
        return page("branches", names, nextToken)

    async def delete_branch(self, *, repositoryName: str, branchName: str) -> Document:
        """One that is not there is no error, as on AWS."""
        document = find_repository(self.runtime, repositoryName)
        if branchName == document.get("defaultBranch"):
            raise AWSError("DefaultBranchCannotBeDeletedException", f"{branchName} is the default branch.")

        def delete(git: GitRepository) -> str | None:
            found = git.references().get(f"refs/heads/{check_branch(branchName)}")
            if found is None:
                return None
            git.update(found.name, to=None, was=found.object_id)
            return found.commit_id

        deleted = await self._change(repositoryName, delete)
        return {"deletedBranch": _branch(branchName, deleted)} if deleted else {}

    async def update_default_branch(self, *, repositoryName: str, defaultBranchName: str) -> Document:
        def point(git: GitRepository) -> None:
            _head(git, defaultBranchName)
            git.point_head_to(defaultBranchName)

        await self._change(repositoryName, point)
        self._put(find_repository(self.runtime, repositoryName), defaultBranch=defaultBranchName)
        return {}

    # Commits

    async def create_commit(
        self,
        *,
        repositoryName: str,
        branchName: str,
        parentCommitId: str | None = None,
        authorName: str | None = None,
        email: str | None = None,
        commitMessage: str | None = None,
        keepEmptyFolders: bool = False,
        putFiles: list[Document] | None = None,
        deleteFiles: list[Document] | None = None,
        setFileModes: list[Document] | None = None,
    ) -> Document:
        change = Change(
            put=putFiles or [],
            delete=deleteFiles or [],
            modes=setFileModes or [],
            keeps_empty_folders=keepEmptyFolders,
        )
        signed = Signed(name=authorName, email=email, message=commitMessage)
        return await self._commit(repositoryName, change, signed, branch=branchName, parent=parentCommitId)

    async def put_file(
        self,
        *,
        repositoryName: str,
        branchName: str,
        fileContent: bytes,
        filePath: str,
        fileMode: str | None = None,
        parentCommitId: str | None = None,
        commitMessage: str | None = None,
        name: str | None = None,
        email: str | None = None,
    ) -> Document:
        mode = {"fileMode": fileMode} if fileMode else {}
        change = Change(put=[{"filePath": filePath, "fileContent": fileContent, **mode}])
        signed = Signed(name=name, email=email, message=commitMessage)
        made = await self._commit(
            repositoryName,
            change,
            signed,
            branch=branchName,
            parent=parentCommitId,
            unchanged="SameFileContentException",
        )
        file = (made["filesAdded"] + made["filesUpdated"])[0]
        return {"commitId": made["commitId"], "blobId": file["blobId"], "treeId": made["treeId"]}

    async def delete_file(
        self,
        *,
        repositoryName: str,
        branchName: str,
        filePath: str,
        parentCommitId: str,
        keepEmptyFolders: bool = False,
        commitMessage: str | None = None,
        name: str | None = None,
        email: str | None = None,
    ) -> Document:
        change = Change(delete=[{"filePath": filePath}], keeps_empty_folders=keepEmptyFolders)
        signed = Signed(name=name, email=email, message=commitMessage)
        made = await self._commit(repositoryName, change, signed, branch=branchName, parent=parentCommitId)
        [file] = made["filesDeleted"]
        return {
            "commitId": made["commitId"],
            "blobId": file["blobId"],
            "treeId": made["treeId"],
            "filePath": file["absolutePath"],
        }

    async def _commit(
        self,
        repository: str,
        change: Change,
        signed: Signed,
        *,
        branch: str,
        parent: str | None,
        unchanged: str = "NoChangeException",
    ) -> Document:
        def make(git: GitRepository) -> Document:
            check_branch(branch)
            return commit(git, change, signed, branch=branch, parent=parent, unchanged=unchanged)

        return await self._change(repository, make)

    # Tags

    def tag_resource(self, *, resourceArn: str, tags: dict[str, str]) -> Document:
        document = self._by_arn(resourceArn)
        check_tags(document["tags"] | tags)
        self._put(document, tags=document["tags"] | tags)
        return {}

    def untag_resource(self, *, resourceArn: str, tagKeys: list[str]) -> Document:
        document = self._by_arn(resourceArn)
        self._put(
            document, tags={key: value for key, value in document["tags"].items() if key not in tagKeys}
        )
        return {}

    def list_tags_for_resource(self, *, resourceArn: str, nextToken: str | None = None) -> Document:
        return {"tags": self._by_arn(resourceArn)["tags"]}

    # git over HTTP

    async def handle_git(self, request: Request) -> Response:
        """Answer a git client. Whatever credentials it brings, it may do everything."""
        name, _, path = request.url.path.removeprefix(HTTP_PATH).partition("/")
        try:
            document = find_repository(self.runtime, name.removesuffix(".git"))
            service = git_http.service_of(request, path)
            git = git_of(self.runtime, document)
            if request.method == "GET":
                return await git_http.advertise(git, service, request)
            body = await git_http.read_request(request, git.folder)
        except AWSError as error:
            return PlainTextResponse(f"{error.message}\n", status_code=404)
        except git_http.Refused as refused:
            return refused.response
        except ClientDisconnect:
            return Response(status_code=400)
        media_type = f"application/x-{service}-result"
        if service == git_http.UPLOAD:
            return StreamingResponse(git_http.fetch(git, request, body), media_type=media_type)
        # A task of its own: what git has begun it ends, and it is announced, though the client hangs up.
        push = self.spawn(self._push(document["repositoryName"], request, body), name=f"push to {name}")
        return Response(await asyncio.shield(push), media_type=media_type)

    async def _push(self, name: str, request: Request, body: Any) -> bytes:
        with body:
            async with self._turn(find_repository(self.runtime, name)):
                document = find_repository(self.runtime, name)
                git = git_of(self.runtime, document)
                answer = await git_http.push(git, request, body)
                await self._announce(document, git)
        await self.runtime.store.committed()
        return answer

    # What all of them need

    async def _change(self, name: str, work: Callable[[GitRepository], Answer]) -> Answer:
        """Do `work` on a repository, beside the event loop and after all that is under way there; announce
        what came of it."""
        async with self._turn(find_repository(self.runtime, name)):
            document = find_repository(self.runtime, name)
            git = git_of(self.runtime, document)
            done = await asyncio.to_thread(work, git)
            await self._announce(document, git)
            return done

    def _turn(self, document: Document) -> asyncio.Lock:
        return self._turns.setdefault(document["repositoryId"], asyncio.Lock())

    async def _announce(self, document: Document, git: GitRepository) -> None:
        """Tell of each reference that is not what it was when last it was told of. It is this one's turn."""
        now = {name: found.commit_id for name, found in (await asyncio.to_thread(git.references)).items()}
        if "defaultBranch" not in document and (branch := _first_branch(now)):
            await asyncio.to_thread(git.point_head_to, branch)
            self._put(find_repository(self.runtime, document["repositoryName"]), defaultBranch=branch)
        if announce_changes(self.runtime, document, now):
            self._put(find_repository(self.runtime, document["repositoryName"]))

    def _put(self, document: Document, **changed: Any) -> None:
        document = {**document, **changed, "lastModifiedDate": datetime.now(UTC)}
        self.runtime.store.put(REPOSITORY, document["repositoryName"], document)

    def _check_new(self, name: str) -> None:
        if self.runtime.store.get(REPOSITORY, name) is not None:
            raise AWSError("RepositoryNameExistsException", f"Repository named {name} already exists")

    def _by_arn(self, arn: str) -> Document:
        own, name = arn_of(self.runtime, ""), arn.rpartition(":")[2]
        if arn != f"{own}{name}":
            raise AWSError("InvalidResourceArnException", f"{arn} is no repository's here: {own}NAME")
        return find_repository(self.runtime, name)


def _first_branch(references: Mapping[str, str]) -> str | None:
    """Which branch becomes the default one, when there were none: the one that was pushed, or of several
    the one that is named as such."""
    branches = [name.removeprefix("refs/heads/") for name in references if name.startswith("refs/heads/")]
    for usual in ("main", "master"):
        if usual in branches:
            return usual
    return branches[0] if branches else None


def _head(git: GitRepository, branch: str | None) -> str:
    found = git.references().get(f"refs/heads/{check_branch(branch)}")
    if found is None:
        raise AWSError("BranchDoesNotExistException", f"Branch {branch} does not exist")
    return found.commit_id


def _branch(name: str | None, commit_id: str) -> Document:
    return {"branchName": name, "commitId": commit_id}
