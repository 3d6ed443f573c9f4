"""SQLite: the one place where our services keep state, durable with commits in groups.

Everything is written in the event loop's thread and seen at once. It is on disk when `committed()` returns:
the server awaits that before it answers a request, and a service before it acts on the outside world.
"""

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

_GROUP_SECONDS = 0.002  # commits are grouped over this time: durable, at a cost shared by all who wait


class Store:
    """Documents (`put`, `get`, `list`), streams of entries (`append`, `read`) and counters (`next_number`)."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._migrate()
        self._commit: asyncio.Future[None] | None = None

    def put(self, kind: str, key: str, document: dict[str, Any]) -> None:
        """Keep `document` under `kind` ("sagemaker/training-job") and `key`; a later `put` replaces it in place."""
        self._write(
            """INSERT INTO documents (kind, key, document) VALUES (:kind, :key, :document)
               ON CONFLICT (kind, key) DO UPDATE SET document = excluded.document""",
            {"kind": kind, "key": key, "document": encode(document)},
        )

    def get(self, kind: str, key: str) -> dict[str, Any] | None:
        row = self._database.execute(
            "SELECT document FROM documents WHERE kind = :kind AND key = :key", {"kind": kind, "key": key}
        ).fetchone()
        return decode(row[0]) if row else None

    def delete(self, kind: str, key: str) -> bool:
        """Whether there was something to delete."""
        return bool(
            self._write("DELETE FROM documents WHERE kind = :kind AND key = :key", {"kind": kind, "key": key})
        )

    def list(self, kind: str, *, prefix: str = "") -> list[dict[str, Any]]:
        """The documents of `kind` whose keys begin with `prefix`, in the order in which they were first put."""
        rows = self._database.execute(
            """SELECT document FROM documents
               WHERE kind = :kind AND substr(key, 1, length(:prefix)) = :prefix ORDER BY id""",
            {"kind": kind, "prefix": prefix},
        )
        return [decode(document) for (document,) in rows]

    def append(self, stream: str, entry: dict[str, Any]) -> int:
        """Add `entry` to the end of `stream`; gives its number, from 1, without gaps."""
        (number,) = self._database.execute(
            "SELECT coalesce(max(number), 0) + 1 FROM entries WHERE stream = :stream", {"stream": stream}
        ).fetchone()
        self._write(
            "INSERT INTO entries (stream, number, entry) VALUES (:stream, :number, :entry)",
            {"stream": stream, "number": number, "entry": encode(entry)},
        )
        return int(number)

    def read(self, stream: str, *, after: int = 0) -> Iterator[dict[str, Any]]:
        """The entries of `stream` with numbers above `after`, in order."""
        rows = self._database.execute(
            "SELECT entry FROM entries WHERE stream = :stream AND number > :after ORDER BY number",
            {"stream": stream, "after": after},
        )
        return (decode(entry) for (entry,) in rows.fetchall())

    def delete_stream(self, stream: str) -> None:
        self._write("DELETE FROM entries WHERE stream = :stream", {"stream": stream})

    def next_number(self, counter: str) -> int:
        """1, then 2, … for each `counter`; never the same again, also after a restart."""
        (number,) = self._execute(
            """INSERT INTO counters (name, number) VALUES (:name, 1)
               ON CONFLICT (name) DO UPDATE SET number = number + 1 RETURNING number""",
            {"name": counter},
        ).fetchone()
        return int(number)

    async def committed(self) -> None:
        """Return when all that has been written so far is on disk."""
        if self._commit is not None:
            await asyncio.shield(self._commit)

    def commit(self) -> None:
        """Commit now: at the end, and where there is no event loop."""
        if self._database.in_transaction:
            self._database.execute("COMMIT")
        if self._commit is not None and not self._commit.done():
            self._commit.set_result(None)
        self._commit = None

    def close(self) -> None:
        self.commit()
        self._database.close()

    def _write(self, statement: str, parameters: dict[str, Any]) -> int:
        return self._execute(statement, parameters).rowcount

    def _execute(self, statement: str, parameters: dict[str, Any]) -> sqlite3.Cursor:
        if not self._database.in_transaction:
            self._database.execute("BEGIN IMMEDIATE")
        cursor = self._database.execute(statement, parameters)
        self._schedule_commit()
        return cursor

    def _schedule_commit(self) -> None:
        if self._commit is not None:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # outside the server, as in a test or a tool: whoever writes also commits
            return
        self._commit = loop.create_future()
        loop.call_later(_GROUP_SECONDS, self.commit)

    def _migrate(self) -> None:
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        migrations = sorted(
            (entry for entry in (files("stagegate.local") / "migrations").iterdir() if entry.name.endswith(".sql")),
            key=lambda entry: entry.name,
        )
        for number, migration in enumerate(migrations, start=1):
            if number > version:
                self._database.executescript(
                    f"BEGIN; {migration.read_text()}; PRAGMA user_version = {number}; COMMIT;"
                )


def encode(document: dict[str, Any]) -> str:
    """JSON, with times and bytes marked so that `decode` gives them back."""
    return json.dumps(document, default=_mark, separators=(",", ":"), ensure_ascii=False)


def decode(text: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(text, object_hook=_unmark)
    return document


def _mark(value: Any) -> Any:
    if isinstance(value, datetime):
        return {"$time": value.astimezone(UTC).isoformat()}
    if isinstance(value, bytes):
        return {"$bytes": value.hex()}
    raise TypeError(f"{type(value).__name__} cannot be stored: {value!r}")


def _unmark(value: dict[str, Any]) -> Any:
    if len(value) == 1:
        if isinstance(text := value.get("$time"), str):
            return datetime.fromisoformat(text)
        if isinstance(text := value.get("$bytes"), str):
            return bytes.fromhex(text)
    return value
