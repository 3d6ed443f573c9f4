"""What `stagegate local prune` takes away: old executions, folders of jobs and builds, data of metrics.

What runs is never touched. Jobs and builds can still be described: only their folders go.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from stagegate.local.states import execution as executions
from stagegate.local.states import map_run
from stagegate.local.states.execution import stream_of
from stagegate.local.states.journal import numbered_events
from stagegate.local.states.records import EXECUTION, MACHINE, REVISION, VERSION
from stagegate.local.store import Store

_AT_ONCE = 200  # executions in one transaction
_FOLDERS = (  # kind of document, its folder, the member that names it, and the one that says when it ended
    ("sagemaker/training-job", "jobs/training-job", "TrainingJobName", "TrainingEndTime"),
    ("sagemaker/processing-job", "jobs/processing-job", "ProcessingJobName", "ProcessingEndTime"),
    ("codebuild/build", "builds", "id", "endTime"),
)


@dataclass
class Pruned:
    """What was taken away, or would be."""

    executions: int = 0
    events: int = 0
    revisions: int = 0
    folders: int = 0
    folder_bytes: int = 0
    datapoints: int = 0
    database_bytes: int = 0


def prune(store: Store, data: Path, *, before: datetime, is_dry: bool) -> Pruned:
    """Take away what ended before a moment; a dry run only counts. The server must not run.

    An execution goes with its history, its Map Runs and their children.
    """
    pruned = Pruned()
    # The folders first: on a full disk the rest needs their room.
    for folder in _ended_folders(store, data, before):
        pruned.folders += 1
        pruned.folder_bytes += sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        if not is_dry:
            shutil.rmtree(folder)
    for count, arn in enumerate(_ended_executions(store, before), start=1):
        pruned.executions += 1
        pruned.events += sum(1 for _ in numbered_events(store, stream_of(arn), reverse=False, beyond=None))
        _forget(store, arn)
        if count % _AT_ONCE == 0 and not is_dry:
            store.commit()
    for revision in _unused_revisions(store):
        pruned.revisions += 1
        store.delete(REVISION, revision)
    pruned.datapoints = store.delete_points(before=before.timestamp())
    if is_dry:
        store.roll_back()
    else:
        store.commit()
    if not is_dry:
        pruned.database_bytes = store.shrink()
    return pruned


def _forget(store: Store, arn: str) -> None:
    if (execution := store.get(EXECUTION, arn)) is not None:
        map_run.forget(store, execution)
        executions.forget(store, arn)


def _ended_executions(store: Store, before: datetime) -> list[str]:
    """Those that somebody started; the children of a Map Run go with their parent."""
    return [
        execution["executionArn"]
        for _, execution in store.newest(EXECUTION)
        if execution["status"] != "RUNNING"
        and execution.get("stopDate", before) < before
        and "mapRunArn" not in execution
    ]


def _unused_revisions(store: Store) -> list[str]:
    """What state machines were once, and neither they, nor a version, nor an execution refers to."""
    used = {machine["revisionId"] for machine in store.list(MACHINE)}
    used |= {version["revisionId"] for version in store.list(VERSION)}
    used |= {execution["revision"] for _, execution in store.newest(EXECUTION)}
    return [revision["revisionId"] for revision in store.list(REVISION) if revision["revisionId"] not in used]


def _ended_folders(store: Store, data: Path, before: datetime) -> Iterator[Path]:
    for kind, place, name, ended in _FOLDERS:
        for document in store.list(kind):
            folder = data / place / str(document[name]).replace(":", "-")
            if document.get(ended) is not None and document[ended] < before and folder.is_dir():
                yield folder
