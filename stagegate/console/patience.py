"""When AWS does not answer: how long the console asks, what a page says of it, and what it shows meanwhile.

boto3 itself asks again, a little later each time. What fails in spite of that is said on the page, with what
was read before where there is something, and the page asks again by itself, later each time.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime

from botocore.config import Config as ClientConfig
from starlette.responses import HTMLResponse

from stagegate.errors import NotReachable, NotSignedIn, SlowedDown, StagegateError

CALLS = ClientConfig(
    # At most seven seconds of waiting for each call, three and a half on average.
    retries={"mode": "standard", "total_max_attempts": 4},
    connect_timeout=5,
    read_timeout=20,
    max_pool_connections=25,
)
"""How the console calls AWS: as long as a person waits for a page."""

_FIRST_PAUSE = 5
_LONGEST_PAUSE = 60
_PAGES = 32
_PAGE_BYTES = 2_000_000
_ADDRESSES = 256


def longer_pause(first: float, failures: int) -> float:
    """Before what has failed so many times in a row is asked for again."""
    return max(first, min(first * 2.0 ** min(failures, 10), _LONGEST_PAUSE))


def title_of(error: StagegateError) -> str:
    titles = {
        NotSignedIn: "AWS does not take our credentials",
        NotReachable: "AWS cannot be reached",
        SlowedDown: "AWS slows us down",
    }
    return titles.get(type(error), "That did not work")


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """AWS does not answer what a page asks."""

    title: str
    why: str
    since: datetime
    pause: int
    """Seconds until it is asked again."""


class Troubles:
    """Since when each address has had some, and how often in a row."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[datetime, int]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, address: str, error: StagegateError) -> Trouble:
        with self._lock:
            since, failures = self._known.pop(address, (datetime.now(UTC), 0))
            self._known[address] = (since, failures + 1)
            while len(self._known) > _ADDRESSES:
                self._known.popitem(last=False)
        pause = int(longer_pause(_FIRST_PAUSE, failures))
        return Trouble(title=title_of(error), why=str(error), since=since, pause=pause)

    def end(self, address: str) -> None:
        with self._lock:
            self._known.pop(address, None)


class Pages:
    """The latest of each address, as far as there is room: to be shown where AWS does not answer."""

    def __init__(self) -> None:
        self._pages: OrderedDict[str, tuple[HTMLResponse, datetime]] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, address: str, page: HTMLResponse) -> None:
        if len(page.body) > _PAGE_BYTES:
            return
        with self._lock:
            self._pages.pop(address, None)
            self._pages[address] = (page, datetime.now(UTC))
            while len(self._pages) > _PAGES:
                self._pages.popitem(last=False)

    def latest(self, address: str) -> tuple[HTMLResponse, datetime] | None:
        """With the time at which it was read."""
        with self._lock:
            return self._pages.get(address)
