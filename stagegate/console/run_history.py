"""An execution's history, read as it grows: as much at once as there is time for."""

import math
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from botocore.exceptions import ClientError

from stagegate.aws import Services, error_code
from stagegate.console.run_definition import UNANSWERED
from stagegate.console.visits import Event, Reader, Story, details_of, read_end
from stagegate.console.words import SHOWN_CHARACTERS, shortened

KEPT_CHARACTERS = 50_000_000
"""Of a history. Where it has more, its later texts are cut at `SHORT_CHARACTERS`."""
SHORT_CHARACTERS = 1_000
_LONG = ("input", "output", "cause", "parameters")
_PAGE = 1_000
_LATEST = 300
"""As many as are read of an end at first: most runs have fewer, and so short an answer comes at once."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What is known of a history: its events from the first on, and what they say of the states."""

    events: Sequence[Event]
    story: Story
    latest: Sequence[Event]
    """Later ones, known too, that do not join those yet; none where everything is known."""
    is_kept: bool = True
    """Express executions, which a Map Run may have, leave no history."""

    @property
    def is_whole(self) -> bool:
        return not self.latest and (bool(self.events) or not self.is_kept)

    @cached_property
    def latest_story(self) -> Story:
        """What can be said of the latest by themselves."""
        return read_end(self.latest)

    @property
    def count(self) -> int:
        """Of all events that there are."""
        newest = self.latest or self.events
        return newest[-1]["id"] if newest else 0


class History:
    """The events of one execution.

    The newest come first, since they say what failed; then what is before them: from the first event on, or,
    where much has come since the last look, backwards to what is known.
    """

    def __init__(self, services: Services, execution_arn: str) -> None:
        self._client = services("stepfunctions")
        self._arn = execution_arn
        self._events: list[Event] = []
        self._reader = Reader()
        self._latest: list[Event] = []  # the newest first
        self._size = _LATEST
        self._goes_forwards = True
        self._token = ""  # of the page to read next
        self._characters = 0
        self._is_kept = True
        self._reading = threading.Lock()
        self._telling = threading.Lock()

    def read(self) -> Told:
        """All of it."""
        self.look(seconds=math.inf)
        return self.read_on(seconds=math.inf)

    def look(self, *, seconds: float) -> Told:
        """What one call of AWS adds. Where others read, it waits for them at most so long."""
        self._read_page(seconds)
        return self.told()

    def read_on(self, *, seconds: float) -> Told:
        """What can be read in that time of what is known to be there; the last call may take longer."""
        deadline = time.monotonic() + seconds
        while self._latest and (left := deadline - time.monotonic()) > 0:
            self._read_page(left)
        return self.told()

    def told(self) -> Told:
        """What has been read till now."""
        with self._telling:
            return Told(
                events=tuple(self._events),
                story=self._reader.story(),
                latest=tuple(self._latest[::-1]),
                is_kept=self._is_kept,
            )

    def _read_page(self, seconds: float) -> None:
        if not self._reading.acquire(timeout=min(seconds, threading.TIMEOUT_MAX)):
            return
        try:
            if not self._latest:
                self._read_newest()
            elif self._goes_forwards:
                self._read_forwards()
            else:
                self._read_backwards(self._token)
        except ClientError as error:
            if ":express:" in self._arn and error_code(error) in UNANSWERED:
                self._is_kept = False
                return
            if error_code(error) == "InvalidToken":  # it is over after a day: begin anew with the newest
                self._latest = []
            raise
        finally:
            self._reading.release()

    def _read_newest(self) -> None:
        self._goes_forwards = not self._events
        self._read_backwards("")

    def _read_backwards(self, token: str) -> None:
        answer = self._ask(token, reverseOrder=True, maxResults=self._size)
        known = self._known
        fresh = [self._cut(event) for event in answer["events"] if event["id"] > known]
        self._token = "" if self._goes_forwards else answer.get("nextToken", "")
        with self._telling:
            self._latest += fresh
            if not answer.get("nextToken") or answer["events"][-1]["id"] <= known + 1:
                self._join()

    def _read_forwards(self) -> None:
        answer = self._ask(self._token, maxResults=_PAGE)
        self._token = answer.get("nextToken", "")
        oldest = self._latest[-1]["id"]
        with self._telling:
            self._tell(self._cut(event) for event in answer["events"] if event["id"] < oldest)
            if not self._token or self._known >= oldest - 1:
                self._join()

    def _cut(self, event: Event) -> Event:
        """25,000 events stay in memory, with no longer texts than a person reads."""
        details = details_of(event)
        for name in _LONG:
            text = details.get(name) or ""
            shown = SHOWN_CHARACTERS if self._characters < KEPT_CHARACTERS else SHORT_CHARACTERS
            if len(text) > shown:
                details[name] = shortened(text, shown)
            self._characters += min(len(text), shown)
        return event

    def _ask(self, token: str, **members: Any) -> dict[str, Any]:
        more = {"nextToken": token} if token else {}
        answer: dict[str, Any] = self._client.get_execution_history(executionArn=self._arn, **members, **more)
        return answer

    @property
    def _known(self) -> int:
        """The number of the last event that is told."""
        number: int = self._events[-1]["id"] if self._events else 0
        return number

    def _join(self) -> None:
        """Nothing is left between what was told and the latest."""
        fresh, self._latest = self._latest[::-1], []
        self._size = _LATEST if len(fresh) <= _LATEST else _PAGE
        self._tell(fresh)

    def _tell(self, events: Iterable[Event]) -> None:
        for event in events:
            self._events.append(event)
            self._reader.read(event)


@lru_cache(maxsize=8)
def history_of(services: Services, execution_arn: str) -> History:
    return History(services, execution_arn)
