"""Who waits for the end of which job. Woken by the announcements of the services that run the jobs."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from stagegate.local.service import Announcement
from stagegate.local.states.integrations import OPTIMISED


class JobEnds:
    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], set[asyncio.Event]] = {}
        self._jobs = {
            optimised.job.detail_type: optimised.job
            for optimised in OPTIMISED.values()
            if optimised.job is not None
        }

    @contextmanager
    def waiting(self, detail_type: str, name: str) -> Iterator[asyncio.Event]:
        """An event that is set each time the job's status changes."""
        event = asyncio.Event()
        events = self._waiting.setdefault((detail_type, name), set())
        events.add(event)
        try:
            yield event
        finally:
            events.discard(event)
            if not events:
                self._waiting.pop((detail_type, name), None)

    def hear(self, announcement: Announcement) -> None:
        if (job := self._jobs.get(announcement.detail_type)) is not None:
            name = job.announced_name(announcement.detail)
            for event in self._waiting.get((announcement.detail_type, name), ()):
                event.set()
