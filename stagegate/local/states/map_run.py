"""A Map Run: the child executions of a distributed Map, so many at once, and what they come to.

What the run works on is in the store before its first child starts. After a restart it goes on from there:
a child that has ended is not run again, and the items are not read again.
"""

import asyncio
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from stagegate.local.service import Json
from stagegate.local.states import execution as executions
from stagegate.local.states.definition import Map
from stagegate.local.states.errors import DATA_LIMIT_EXCEEDED, StateFailed
from stagegate.local.states.item_batcher import Batch
from stagegate.local.states.jsontext import to_text
from stagegate.local.states.records import EXECUTION
from stagegate.local.states.strand import MAXIMUM_DATA
from stagegate.local.store import Store

MAP_RUN = "stepfunctions/map-run"
MAXIMUM_CHILDREN = 10_000
"""How many children run at once when MaxConcurrency is 0."""

PENDING, RUNNING, SUCCEEDED, FAILED = "PENDING", "RUNNING", "SUCCEEDED", "FAILED"
TIMED_OUT, ABORTED, PENDING_REDRIVE = "TIMED_OUT", "ABORTED", "PENDING_REDRIVE"
UNSUCCESSFUL = (FAILED, TIMED_OUT, ABORTED)

_EXCEEDED = "States.ExceedToleratedFailureThreshold"
_BATCHES_IN_AN_ENTRY = 100
_STARTS_BEFORE_OTHERS = 20


def new_map_run(
    store: Store, arn: str, *, parent: dict[str, Any], state: Map, limits: dict[str, Json]
) -> dict[str, Any]:
    """The Map Run as it is kept; after a restart it is there already, perhaps with changed limits."""
    if (known := store.get(MAP_RUN, arn)) is not None:
        return known
    document = {
        "mapRunArn": arn,
        "executionArn": parent["executionArn"],
        "stateMachineArn": f"{machine_of(parent)}/{label_of(arn)}",
        "status": RUNNING,
        "startDate": _now(),
        "redriveCount": 0,
        "executionType": state.execution_type,
        "mapName": state.name,
        "children": 0,
        "files": [],
        **limits,
    }
    store.put(MAP_RUN, arn, document)
    return document


def machine_of(execution: dict[str, Any]) -> str:
    """The state machine's ARN, also of a child execution, which has its label behind a slash."""
    return str(execution["stateMachineArn"]).partition("/")[0]


def default_label(state_name: str) -> str:
    """Of a Map that names none itself; the same for each of its Map Runs."""
    return str(uuid.uuid3(uuid.NAMESPACE_URL, state_name))


def label_of(map_run_arn: str) -> str:
    return map_run_arn.rpartition("/")[2].partition(":")[0]


def child_arn(run: dict[str, Any], index: int, generation: int = 0) -> str:
    """The child of an item has a name that is always the same, so that it is found again.

    An Express execution has an id too: it can't be redriven, so that a redrive starts another one.
    """
    prefix, _, id = run["mapRunArn"].rpartition(":")
    name = uuid.uuid3(uuid.UUID(id), str(index))
    if run["executionType"] != "EXPRESS":
        return f"{prefix.replace(':mapRun:', ':execution:')}:{name}"
    return f"{prefix.replace(':mapRun:', ':express:')}:{name}:{uuid.uuid3(name, str(generation))}"


def child_of(store: Store, run: dict[str, Any], index: int) -> dict[str, Any] | None:
    """The child execution of an item, or of a batch; the latest one. None when none has started."""
    generations = range(run["redriveCount"], 0, -1) if run["executionType"] == "EXPRESS" else ()
    for generation in (*generations, 0):
        if (child := store.get(EXECUTION, child_arn(run, index, generation))) is not None:
            return child
    return None


def runs_of(store: Store, execution: dict[str, Any]) -> list[dict[str, Any]]:
    """The Map Runs of an execution, in the order in which they began."""
    prefix = f"{machine_of(execution).replace(':stateMachine:', ':mapRun:')}/"
    return [
        run for run in store.list(MAP_RUN, prefix=prefix) if run["executionArn"] == execution["executionArn"]
    ]


def abandon(engine: executions.Engine, execution: dict[str, Any]) -> None:
    """Abort the Map Runs of an execution that has ended after a restart, before it came to them again."""
    for document in runs_of(engine.runtime.store, execution):
        if document["status"] == RUNNING and document["mapRunArn"] not in engine.map_runs:
            run = MapRun(engine, execution, document["mapRunArn"])
            run.take_up(document["redriveCount"])
            run.abort()


def forget(store: Store, execution: dict[str, Any]) -> None:
    """Delete what is kept of the Map Runs of an execution, and of their children."""
    for run in runs_of(store, execution):
        for index in range(run["children"]):
            if (child := child_of(store, run, index)) is not None:
                forget(store, child)
                executions.forget(store, child["executionArn"])
        store.delete_stream(items_stream(run["mapRunArn"]))
        store.delete(MAP_RUN, run["mapRunArn"])


def items_stream(map_run_arn: str) -> str:
    return f"stepfunctions/items/{map_run_arn}"


@dataclass(frozen=True)
class Progress:
    """How far each child has come, and how many items it has."""

    statuses: list[str]
    item_counts: list[int]

    @classmethod
    def of(cls, store: Store, run: dict[str, Any], generation: int) -> "Progress":
        """As the store has it. `generation`: how often the run has been redriven."""
        statuses = []
        for index in range(run["children"]):
            child = child_of(store, run, index)
            status = PENDING if child is None else child["status"]
            if child is not None and status in UNSUCCESSFUL and child["generation"] < generation:
                status = PENDING_REDRIVE
            statuses.append(status)
        entries = store.read(items_stream(run["mapRunArn"]))
        return cls(statuses, [batch["items"] for entry in entries for batch in entry["batches"]])

    def counts(self) -> dict[str, dict[str, int]]:
        """How many executions and items are in each status."""
        items: Counter[str] = Counter()
        for count, status in zip(self.item_counts, self.statuses, strict=False):
            items[status] += count
        return {"executions": dict(Counter(self.statuses)), "items": dict(items)}


class MapRun:
    """A Map Run that is under way."""

    def __init__(self, engine: executions.Engine, parent: dict[str, Any], arn: str) -> None:
        self.engine = engine
        self.store = engine.runtime.store
        self.parent = parent
        self.arn = arn
        document = self.store.get(MAP_RUN, arn)
        assert document is not None
        self.document = document
        self.changed = asyncio.Event()
        """Set when a child has ended, or UpdateMapRun has changed the limits."""
        self.statuses: list[str] = []
        self.item_counts: list[int] = []
        self.counts: Counter[str] = Counter()
        self.items: Counter[str] = Counter()
        """How many children, and how many of their items, are in each status."""
        self._stream = items_stream(arn)
        self._entry: tuple[int, list[dict[str, Json]]] = (-1, [])
        engine.map_runs[arn] = self

    @property
    def is_prepared(self) -> bool:
        """Whether its items are in the store, all of them."""
        return bool(self.document.get("isPrepared"))

    async def prepare(self, batches: Iterable[Batch]) -> None:
        """Write down what each child is to work on."""
        self.store.delete_stream(self._stream)
        self.statuses, self.item_counts = [], []
        entry: list[dict[str, Json]] = []
        for batch in batches:
            text = to_text(batch.input)
            if len(text) > MAXIMUM_DATA or len(text.encode()) > MAXIMUM_DATA:
                cause = f"The input of a child execution is larger than {MAXIMUM_DATA} bytes."
                raise StateFailed(DATA_LIMIT_EXCEEDED, cause)
            entry.append({"input": text, "items": batch.item_count})
            self.statuses.append(PENDING)
            self.item_counts.append(batch.item_count)
            if len(entry) == _BATCHES_IN_AN_ENTRY:
                self.store.append(self._stream, {"batches": entry})
                entry = []
                await asyncio.sleep(0)
        if entry:
            self.store.append(self._stream, {"batches": entry})
        self.save(isPrepared=True, children=len(self.statuses))
        self._count()

    def input_of(self, index: int) -> str:
        """What a child begins with. Read when it is wanted: most children wait for others to end."""
        number = index // _BATCHES_IN_AN_ENTRY + 1
        if self._entry[0] != number:
            entry = self.store.entry(self._stream, number)
            assert entry is not None
            self._entry = (number, entry["batches"])
        text: str = self._entry[1][index % _BATCHES_IN_AN_ENTRY]["input"]
        return text

    async def perform(self, generation: int) -> None:
        """Run the children that have not succeeded. `generation`: how often the run has been redriven.

        Raises `StateFailed` when more of them have failed than are tolerated.
        """
        if self.document["redriveCount"] < generation:
            self.save(status=RUNNING, redriveCount=generation, redriveDate=_now(), stopDate=None, written=0)
        if not self.statuses:
            self.take_up(generation)
        waiting = [
            index for index, status in enumerate(self.statuses) if status in (PENDING, PENDING_REDRIVE)
        ]
        waiting.reverse()
        while True:
            self.changed.clear()
            started = 0
            while waiting and self._has_room() and not self._is_exceeded():
                self._start(waiting.pop(), generation)
                started += 1
                if started % _STARTS_BEFORE_OTHERS == 0:
                    await asyncio.sleep(0)
            if self._is_exceeded():
                self.stop_children()
                raise StateFailed(_EXCEEDED, "The specified tolerated failure threshold was exceeded")
            if not waiting and not self.counts[RUNNING]:
                return
            if not self.changed.is_set():
                await self.changed.wait()

    def take_up(self, generation: int) -> None:
        """See how far each child has come."""
        progress = Progress.of(self.store, self.document, generation)
        self.statuses, self.item_counts = progress.statuses, progress.item_counts
        self._count()

    def _count(self) -> None:
        counts = Progress(self.statuses, self.item_counts).counts()
        self.counts, self.items = Counter(counts["executions"]), Counter(counts["items"])

    def _has_room(self) -> bool:
        return self.counts[RUNNING] < (self.document["maxConcurrency"] or MAXIMUM_CHILDREN)

    def _is_exceeded(self) -> bool:
        failed = self.items[FAILED] + self.items[TIMED_OUT]  # what was aborted has not failed
        count = self.document["toleratedFailureCount"]
        percentage = self.document["toleratedFailurePercentage"]
        if count is None and percentage is None:
            return failed > 0
        if count is not None and failed > count:
            return True
        return percentage is not None and failed * 100 > percentage * self.items.total()

    def _move(self, index: int, status: str) -> None:
        for counted, number in ((self.counts, 1), (self.items, self.item_counts[index])):
            counted[self.statuses[index]] -= number
            counted[status] += number
        self.statuses[index] = status

    def _start(self, index: int, generation: int) -> None:
        is_redriven = self.statuses[index] == PENDING_REDRIVE
        self._move(index, RUNNING)
        if is_redriven and self.document["executionType"] != "EXPRESS":
            child = child_of(self.store, self.document, index)
            assert child is not None
            executions.redrive(self.engine, {**child, "generation": generation})
            return
        arn = child_arn(self.document, index, generation)
        child = {
            "executionArn": arn,
            "stateMachineArn": self.document["stateMachineArn"],
            "name": arn.split(":", 7)[7] if ":express:" in arn else arn.rpartition(":")[2],
            "status": RUNNING,
            "startDate": _now(),
            "input": self.input_of(index),
            "roleArn": self.parent["roleArn"],
            "revision": self.parent["revision"],
            "redriveCount": 0,
            "mapRunArn": self.arn,
            "itemCount": self.item_counts[index],
            "index": index,
            "generation": generation,
            "processorOf": self.document["mapName"],
        }
        executions.begin(self.engine, child)

    def child_ended(self, child: dict[str, Any]) -> None:
        if self.statuses:  # after a restart the children go on before their parent looks
            self._move(child["index"], child["status"])
        self.changed.set()

    def abort(self) -> None:
        """The parent is stopped, has failed, or has run out of time."""
        self.stop_children()
        self.end(ABORTED)

    def stop_children(self) -> None:
        cause = f"The map run execution [{self.arn}] which was managing this resource was aborted"
        for index, status in enumerate(self.statuses):
            if status != RUNNING:
                continue
            child = child_of(self.store, self.document, index)
            if child is not None and (running := self.engine.find_running(child["executionArn"])) is not None:
                running.stop(None, cause)

    def children(self) -> Iterator[dict[str, Any]]:
        """Every child, in the order of the items; of one that has not started what it would begin with."""
        for index, status in enumerate(self.statuses):
            child = None if status == PENDING else child_of(self.store, self.document, index)
            yield {"status": PENDING, "input": self.input_of(index)} if child is None else child

    def end(self, status: str, *, are_results_written: bool = False) -> None:
        self.engine.map_runs.pop(self.arn, None)
        if status == SUCCEEDED:
            self.store.delete_stream(self._stream)  # no redrive will ask for the items
        self.save(
            status=status,
            stopDate=_now(),
            counts=self.described_counts(),
            written=int(are_results_written),
        )

    def described_counts(self) -> dict[str, dict[str, int]]:
        """How many executions and items are in each status."""
        return {"executions": dict(self.counts), "items": dict(self.items)}

    def save(self, **members: Json) -> None:
        self.document = {**(self.store.get(MAP_RUN, self.arn) or self.document), **members}
        self.store.put(MAP_RUN, self.arn, self.document)


def _now() -> datetime:
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
