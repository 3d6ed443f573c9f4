"""What the services of SageMaker's jobs have in common: a job is created, runs, is described and stopped."""

import asyncio
import os
from abc import abstractmethod
from datetime import datetime
from typing import Any
from weakref import WeakKeyDictionary

from stagegate.local.sagemaker.job_run import Document, JobRun, Kind, announce
from stagegate.local.sagemaker.resources import invalid, order, page, pick, put_tags, refuse, select
from stagegate.local.service import AWSError, Runtime, Service
from stagegate.local.store import Store

_ENDED = ("Completed", "Failed", "Stopped")
_TURNS: WeakKeyDictionary[Store, asyncio.Semaphore] = WeakKeyDictionary()


class JobService(Service):
    """The jobs of some kinds."""

    kinds: tuple[Kind, ...]

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        at_once = runtime.max_jobs or os.cpu_count() or 1
        self.turns = _TURNS.setdefault(runtime.store, asyncio.Semaphore(at_once))
        """Of the jobs of all kinds, in all services of a runtime, which its store stands for."""
        self.under_way: dict[tuple[str, str], JobRun[Any]] = {}

    @abstractmethod
    def new_run(self, kind: Kind, name: str) -> JobRun[Any]:
        """A job that is about to run, by its document in the store."""

    async def start(self) -> None:
        """Jobs that were under way are run again: their processes went with the server."""
        for kind in self.kinds:
            for document in self.runtime.store.list(kind.store):
                if document[kind.status] not in _ENDED:
                    run = self._begin(kind, document[kind.name])
                    if document[kind.status] == "Stopping":
                        run.request_stop()

    def created(self, kind: Kind, document: Document, tags: list[dict[str, str]] | None) -> Document:
        name = document[kind.name]
        if self.runtime.store.get(kind.store, name) is not None:
            raise AWSError(
                "ResourceInUse",
                f"{kind.title} job names must be unique within an AWS account and region, and a "
                f"{kind.title.lower()} job with this name already exists ({document[kind.arn]})",
            )
        document |= self.runtime.fate("sagemaker", f"Create{kind.title}Job", {**document, "Tags": tags})
        put_tags(self.runtime.store, document[kind.arn], tags)
        self.runtime.store.put(kind.store, name, document)
        announce(self.runtime, kind, document)
        self._begin(kind, name)
        return {kind.arn: document[kind.arn]}

    def described(self, kind: Kind, name: str) -> Document:
        document = self.runtime.store.get(kind.store, name)
        if document is None:
            raise invalid("Requested resource not found.")
        return document

    def listed(
        self,
        kind: Kind,
        summary: tuple[str, ...],
        *,
        CreationTimeAfter: datetime | None = None,
        CreationTimeBefore: datetime | None = None,
        LastModifiedTimeAfter: datetime | None = None,
        LastModifiedTimeBefore: datetime | None = None,
        NameContains: str | None = None,
        StatusEquals: str | None = None,
        SortBy: str = "CreationTime",
        SortOrder: str = "Descending",
        NextToken: str | None = None,
        MaxResults: int | None = None,
        **rest: Any,
    ) -> Document:
        refuse(rest.items(), operation=f"List{kind.title}Jobs")
        found = select(
            self.runtime.store.list(kind.store),
            name=kind.name,
            contains=NameContains,
            created_after=CreationTimeAfter,
            created_before=CreationTimeBefore,
            modified_after=LastModifiedTimeAfter,
            modified_before=LastModifiedTimeBefore,
            equal={kind.status: StatusEquals},
        )
        members = {"Name": kind.name, "Status": kind.status}
        ordered = order(found, by=members.get(SortBy, SortBy), descending=SortOrder == "Descending")
        return page(
            [pick(document, summary) for document in ordered],
            member=f"{kind.title}JobSummaries",
            token=NextToken,
            size=MaxResults,
        )

    def stopped(self, kind: Kind, name: str) -> Document:
        document = self.described(kind, name)
        run = self.under_way.get((kind.resource, name))
        if document[kind.status] in _ENDED or run is None:
            raise invalid(
                f"The request was rejected because the {kind.title.lower()} job is in status "
                f"{document[kind.status]}."
            )
        if document[kind.status] != "Stopping":
            run.save(**{kind.status: "Stopping"}, **run.stopping())
            run.request_stop()
        return {}

    def _begin(self, kind: Kind, name: str) -> JobRun[Any]:
        run = self.new_run(kind, name)
        self.under_way[kind.resource, name] = run

        async def whole() -> None:
            await self.runtime.store.committed()  # what was answered is known before it is acted upon
            try:
                await run.run()
            finally:
                del self.under_way[kind.resource, name]

        self.spawn(whole(), name=f"{kind.resource} {name}")
        return run
