"""The events that archives keep: each in its archive's stream, as long as the archive's RetentionDays say."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from stagegate.local import event_patterns
from stagegate.local.service import Runtime
from stagegate.local.store import Store

ARCHIVE = "events/archive"

Document = dict[str, Any]


def keep(runtime: Runtime, event: Document, *, bus: str) -> None:
    """Add the event to each archive of the bus that wants it; none keeps what is replayed."""
    if "replay-name" in event:
        return
    for archive in runtime.store.list(ARCHIVE):
        pattern = archive.get("EventPattern")
        if archive["bus"] == bus and (pattern is None or event_patterns.matches(json.loads(pattern), event)):
            _forget_old(runtime.store, archive)
            runtime.store.append(archive["stream"], {"event": event})


def kept(store: Store, archive: Document) -> Iterator[tuple[int, Document]]:
    """The archive's events with their numbers, in the order in which they came."""
    oldest = _oldest(archive)
    for number, entry in store.read_from(archive["stream"]):
        if entry["event"]["time"] >= oldest:
            yield number, entry["event"]


def event_time(moment: datetime) -> str:
    """As an event has it: these texts are in the order of the times."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _forget_old(store: Store, archive: Document) -> None:
    oldest = _oldest(archive)
    for number, entry in store.read_from(archive["stream"]):
        if entry["event"]["time"] >= oldest:
            return
        store.delete_entry(archive["stream"], number)


def _oldest(archive: Document) -> str:
    days = archive["RetentionDays"]
    return event_time(datetime.now(UTC) - timedelta(days=days)) if days else ""
