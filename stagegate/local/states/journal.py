"""What happened in one execution, in order: written down before it is acted upon, read again after a restart.

An execution has scopes: itself ("") and each branch of a Parallel and each iteration of a Map, within
which one thing happens after the other. Each entry belongs to a scope. After a restart the
interpreter runs again from the start and takes the entries of each scope in their order instead of
doing things anew, so it does not matter in which order the scopes are gone through.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from stagegate.local.service import Json
from stagegate.local.states.errors import RUNTIME, StateFailed
from stagegate.local.store import Store

MAXIMUM_EVENTS = 25_000
_UNSCOPED = "-"
"""Events of scopes that were abandoned: part of the history, not asked for in a replay."""


class Redriven(Exception):
    """RedriveExecution was called where the strand stopped: the state it was in begins anew."""


class JournalMismatch(Exception):
    """The journal does not tell the story of this definition: a defect of ours, never to be guessed at."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """One event of the execution history."""

    id: int
    previous_id: int
    type: str
    timestamp: float
    details: dict[str, Json] | None

    @staticmethod
    def from_entry(entry: dict[str, Any]) -> "Event":
        return Event(
            id=entry["i"],
            previous_id=entry["p"],
            type=entry["t"],
            timestamp=entry["w"],
            details=entry.get("d"),
        )


class Journal:
    """The journal of one execution. Entries are collected, and stored together with the next commit.

    So what happened is on disk with all that was written in the same step: a token is not gone before its
    answer stands here.
    """

    def __init__(self, store: Store, stream: str) -> None:
        self.store = store
        self.stream = stream
        self.last_id = 0
        self.is_closed = False
        self.listen: Callable[[Event], None] | None = None
        """Called with each event when it happens, not when it is read again."""
        self._unwritten: list[dict[str, Any]] = []
        self._replay: dict[str, deque[dict[str, Any]]] = {}

    @classmethod
    def load(cls, store: Store, stream: str) -> "Journal":
        """The journal that an earlier life of the server has written, ready to be replayed."""
        journal = cls(store, stream)
        for entry in entries(store, stream):
            if "i" in entry:
                journal.last_id = max(journal.last_id, entry["i"])
            if entry["s"] != _UNSCOPED:
                journal._replay.setdefault(entry["s"], deque()).append(entry)
        return journal

    def scope(self, path: str, previous_id: int) -> "Scope":
        return Scope(self, path, previous_id, self._replay.pop(path, None))

    def event(
        self,
        type: str,
        details: dict[str, Json] | None,
        *,
        previous_id: int,
        scope: str = _UNSCOPED,
    ) -> Event:
        self.last_id += 1
        event = Event(
            id=self.last_id,
            previous_id=previous_id,
            type=type,
            timestamp=round(time.time(), 3),
            details=details,
        )
        entry = {"s": scope, "i": event.id, "p": previous_id, "t": type, "w": event.timestamp}
        self.write(entry if details is None else {**entry, "d": details})
        if self.listen is not None:
            self.listen(event)
        return event

    def write(self, entry: dict[str, Any]) -> None:
        if self.is_closed:
            raise asyncio.CancelledError("the execution has ended")
        if not self._unwritten:
            self.store.before_commit(self.flush)
        self._unwritten.append(entry)

    def flush(self) -> None:
        """Hand what is collected to the store."""
        if self._unwritten:
            self.store.append(self.stream, {"e": self._unwritten})
            self._unwritten = []

    async def committed(self) -> None:
        """Return when all that has been written so far is on disk."""
        self.flush()
        await self.store.committed()


class Scope:
    """One strand of the journal; `last_id` is the event that the next one names as its previous."""

    def __init__(
        self, journal: Journal, path: str, previous_id: int, replay: deque[dict[str, Any]] | None
    ) -> None:
        self.journal = journal
        self.path = path
        self.last_id = previous_id
        self._replay = replay
        self._forks = 0

    @property
    def is_replaying(self) -> bool:
        """Whether what happens next has already happened."""
        return bool(self._replay)

    def event(
        self,
        type: str,
        details: dict[str, Json] | None = None,
        *,
        leads_on: bool = True,
    ) -> Event:
        """Record an event, or find it again; events that do not lead on are no one's previous event."""
        if self._replay:
            entry = self._next()
            if entry.get("t") != type:
                raise JournalMismatch(f"{self.journal.stream} {self.path}: {type} expected, {entry} found")
            event = Event.from_entry(entry)
        else:
            if self.journal.last_id >= MAXIMUM_EVENTS - 1:
                message = f"The execution reached the maximum number of history events ({MAXIMUM_EVENTS})."
                raise StateFailed(RUNTIME, message)
            event = self.journal.event(type, details, previous_id=self.last_id, scope=self.path)
        if leads_on:
            self.last_id = event.id
        return event

    def next_type(self) -> str | None:
        """The type of the event that comes next in a replay."""
        return self._replay[0].get("t") if self._replay else None

    def fact(self, produce: Callable[[], Json]) -> Json:
        """What `produce` gives, recorded; after a restart what it gave then."""
        if self._replay:
            return self.replayed_fact()
        value = produce()
        self.journal.write({"s": self.path, "f": value})
        return value

    def replayed_fact(self) -> Json:
        entry = self._next()
        if "f" not in entry:
            raise JournalMismatch(f"{self.journal.stream} {self.path}: a fact expected, {entry} found")
        return entry["f"]

    def _next(self) -> dict[str, Any]:
        assert self._replay
        entry = self._replay.popleft()
        if "r" in entry:
            raise Redriven
        return entry

    def take_redrive(self) -> bool:
        """Whether the execution was redriven at this point."""
        taken = False
        while self._replay and "r" in self._replay[0]:
            self._replay.popleft()
            taken = True
        return taken

    def next_fact(self, name: str) -> Json | None:
        """The recorded fact that is an object with the member `name`, when that is what comes next."""
        if self._replay and isinstance(fact := self._replay[0].get("f"), dict) and name in fact:
            return self.replayed_fact()[name]
        return None

    def fork(self, *, is_resumed: bool) -> str:
        """The path under which branches of this scope record: the next one, or the last one again."""
        self._forks += 0 if is_resumed else 1
        return f"{self.path}/{self._forks}"


def redrive(store: Store, stream: str, count: int) -> None:
    """Mark in every scope that the execution was redriven here."""
    scopes = dict.fromkeys(entry["s"] for entry in entries(store, stream) if entry["s"] != _UNSCOPED)
    store.append(stream, {"e": [{"s": scope, "r": count} for scope in scopes]})


def entries(store: Store, stream: str) -> Iterator[dict[str, Any]]:
    for batch in store.read(stream):
        yield from batch["e"]


def numbered_events(
    store: Store, stream: str, *, reverse: bool, beyond: int | None
) -> Iterator[tuple[int, Event]]:
    """The events with their places, which stay as they are; only those beyond the place `beyond`.

    A place is the number of the batch in the store, and where in the batch the event is.
    """
    batch, within = (0, -1) if beyond is None else divmod(beyond, MAXIMUM_EVENTS)
    for number, entry in store.read_from(stream, at=None if beyond is None else batch, descending=reverse):
        listed = list(enumerate(entry["e"]))
        for position, event in reversed(listed) if reverse else listed:
            if number == batch and (position >= within if reverse else position <= within):
                continue
            if "i" in event:
                yield number * MAXIMUM_EVENTS + position, Event.from_entry(event)
