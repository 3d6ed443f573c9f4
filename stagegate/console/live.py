"""Pages that stay up to date: the parts of them that have changed are sent again, as server-sent events.

Those who follow the same address share what is read for it, so that AWS is not asked more often for them all.
"""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from weakref import WeakValueDictionary

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import StreamingResponse

from stagegate.aws import explained
from stagegate.console.pages import UNANSWERED, Console, address_of
from stagegate.console.patience import Trouble, longer_pause, title_of
from stagegate.errors import StagegateError

_LOOK_SECONDS = {"local": 1.0, "aws": 5.0}
_REST = 4
"""A look that takes long is followed by a rest of so many times that."""
_SHARED_FOR = 0.5
"""Of the pause: what is not older is not read again for another one."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a page shows now: HTML by the name of the part that it replaces, and data for its script."""

    parts: Mapping[str, str]
    data: Mapping[str, Any] | None = None
    is_final: bool = False
    """Nothing will change any more."""
    is_partial: bool = False
    """There is more to read at once."""

    def since(self, before: "Shown | None") -> dict[str, Any]:
        """The parts that are not as they were, and the data if they are not."""
        parts = {
            name: html
            for name, html in self.parts.items()
            if before is None or before.parts.get(name) != html
        }
        is_new = self.data is not None and (before is None or before.data != self.data)
        return {"parts": parts, **({"data": self.data} if is_new else {})}


class Looks:
    """What is read for an address, by and for all who follow it."""

    def __init__(self, console: Console, look: Callable[[], Shown]) -> None:
        self._config = console.services.config
        self._look = look
        self._usual = _LOOK_SECONDS["local" if self._config.is_local else "aws"]
        self._looking = threading.Lock()
        self._latest: Shown | StagegateError | None = None
        self._at = self._took = 0.0
        self._failures = 0
        self._since = datetime.now(UTC)

    @property
    def pause(self) -> float:
        """Seconds until the next look: more where AWS does not answer, the more the longer it does not."""
        return longer_pause(max(self._usual, _REST * self._took), self._failures)

    def latest(self, seen: Shown | None) -> Shown:
        """Perhaps what another one has just read; after a part of it, more. Raises what reading it raises."""
        with self._looking:
            is_read_on = isinstance(self._latest, Shown) and self._latest.is_partial and self._latest is seen
            is_old = time.monotonic() - self._at > _SHARED_FOR * self.pause
            if self._latest is None or is_old or is_read_on:
                begun = time.monotonic()
                self._latest = self._read()
                self._at = time.monotonic()
                self._took = 0.0 if self._failures else self._at - begun  # boto3 has waited already
            if isinstance(self._latest, StagegateError):
                raise self._latest
            return self._latest

    def trouble(self, error: StagegateError) -> Trouble:
        return Trouble(title=title_of(error), why=str(error), since=self._since, pause=round(self.pause))

    def _read(self) -> Shown | StagegateError:
        try:
            with explained(self._config):
                shown = self._look()
        except UNANSWERED as error:
            self._since = datetime.now(UTC) if self._failures == 0 else self._since
            self._failures += 1
            return error
        self._failures = 0
        return shown


_FOLLOWED: WeakValueDictionary[tuple[int, str], Looks] = WeakValueDictionary()
_FOLLOWING = threading.Lock()


def stream(console: Console, request: Request, look: Callable[[], Shown]) -> StreamingResponse:
    """What `look` gives, again and again; it may wait for AWS, and so may this.

    Where AWS does not answer, the stream says so and goes on; what else `look` raises at first is raised.
    """
    address = (id(console), address_of(request))
    with _FOLLOWING:
        looks = _FOLLOWED.setdefault(address, Looks(console, look))
    try:
        first: Shown | StagegateError = looks.latest(None)
    except UNANSWERED as error:
        first = error
    return StreamingResponse(_events(console, looks, first), media_type="text/event-stream")


async def _events(console: Console, looks: Looks, found: Shown | StagegateError) -> AsyncIterator[str]:
    before: Shown | None = None
    is_troubled = False
    while True:
        if isinstance(found, Shown):
            changes = found.since(before)
            if is_troubled:
                changes["parts"]["notice"] = ""
            # A comment tells the server whether somebody still listens.
            yield _event("shown", changes) if changes != _NOTHING else ":\n\n"
            if found.is_final:
                break
            before, is_troubled = found, False
        else:
            is_troubled = True
            yield _event("problem", {"parts": {"notice": _notice(console, looks.trouble(found))}})
        if not (isinstance(found, Shown) and found.is_partial):
            await asyncio.sleep(looks.pause)
        try:
            found = await run_in_threadpool(looks.latest, before)
        except StagegateError as error:
            found = error
        except HTTPException as error:
            found = StagegateError(error.detail)
    yield _event("final", "")


_NOTHING: dict[str, Any] = {"parts": {}}


def _notice(console: Console, trouble: Trouble) -> str:
    return console.part("notice.html", trouble=trouble, missing=[], read=None, asks_again=True, address="")


def _event(name: str, data: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
