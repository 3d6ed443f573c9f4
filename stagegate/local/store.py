"""SQLite: the one place where our services keep state, durable with commits in groups.

Everything is written in the event loop's thread and seen at once; what is written in one round of the loop is
committed together. It is on disk when `committed()` returns: the server awaits that before it answers a
request, and a service before it acts on the outside world.
"""

import asyncio
import contextlib
import json
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from stagegate.errors import StagegateError

log = logging.getLogger(__name__)

_CHECKPOINT_CHANGES = 5_000  # rows written: some 25 MB of log
_LONGEST_LOG = 64 * 2**20  # bytes

_UPWARDS = """SELECT number, entry FROM entries WHERE stream = :stream AND number BETWEEN :least AND :most
              ORDER BY number"""
_DOWNWARDS = f"{_UPWARDS} DESC"


class UnreadableStore(StagegateError):
    """The database is damaged, is none, or was written by a newer Stagegate."""


class Store:
    """Documents (`put`, `get`, `list`), streams of entries (`append`, `read`), series of points in time
    (`put_point`, `points`), counters (`next_number`)."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _check(path)
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._database.execute("PRAGMA journal_mode = WAL")
            # A commit survives the end of this process, however it ends; not that of the machine's power.
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute("PRAGMA wal_autocheckpoint = 0")  # see _start_checkpoint
            self._migrate(path)
        except sqlite3.DatabaseError as error:
            self._database.close()
            raise _unreadable(path, error) from error
        except UnreadableStore:
            self._database.close()
            raise
        self.path = path
        self.on_failure: Callable[[Exception], None] = _raise
        """Called when what is kept can't be read or written any more: a full disk, a broken file.

        What was written since the last commit may be gone then, and whoever wrote it does not know. So the
        server ends here, and goes on from what is on disk when it is started again.
        """
        self._commit: asyncio.Future[None] | None = None
        self._timer: asyncio.Handle | None = None
        self._before_commit: list[Callable[[], None]] = []
        self._checkpoint = threading.Thread()
        self._log_is_long = False
        self._changes_in_database = -_CHECKPOINT_CHANGES  # first of all what an earlier life left in the log

    def put(self, kind: str, key: str, document: dict[str, Any]) -> None:
        """Keep `document` under `kind` ("sagemaker/training-job") and `key`, in place of the one before."""
        self._write(
            """INSERT INTO documents (kind, key, document) VALUES (:kind, :key, :document)
               ON CONFLICT (kind, key) DO UPDATE SET document = excluded.document""",
            {"kind": kind, "key": key, "document": encode(document)},
        )

    def get(self, kind: str, key: str) -> dict[str, Any] | None:
        row = self._select(
            "SELECT document FROM documents WHERE kind = :kind AND key = :key", {"kind": kind, "key": key}
        ).fetchone()
        return decode(row[0]) if row else None

    def delete(self, kind: str, key: str) -> bool:
        """Whether there was something to delete."""
        return bool(
            self._write("DELETE FROM documents WHERE kind = :kind AND key = :key", {"kind": kind, "key": key})
        )

    def list(self, kind: str, *, prefix: str = "") -> list[dict[str, Any]]:
        """The documents of `kind` whose keys begin with `prefix`, in the order in which they first came."""
        rows = self._select(
            """SELECT document FROM documents
               WHERE kind = :kind AND key >= :prefix AND key < :prefix || char(1114111) ORDER BY id""",
            {"kind": kind, "prefix": prefix},
        )
        return [decode(document) for (document,) in rows]

    def newest(
        self, kind: str, *, prefix: str = "", before: int | None = None
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """The same, the last that came first, each with its place; only those that came before a place.

        What is not asked for is not read.
        """
        rows = self._select(
            """SELECT id, document FROM documents INDEXED BY documents_in_order
               WHERE kind = :kind AND id < :before AND key >= :prefix AND key < :prefix || char(1114111)
               ORDER BY id DESC""",
            {"kind": kind, "prefix": prefix, "before": 2**62 if before is None else before},
        )
        return ((place, decode(document)) for place, document in rows)

    def append(self, stream: str, entry: dict[str, Any]) -> int:
        """Add `entry` to the end of `stream`; gives its number: from 1, one more than the last has."""
        (number,) = self._select(
            "SELECT coalesce(max(number), 0) + 1 FROM entries WHERE stream = :stream", {"stream": stream}
        ).fetchone()
        self._write(
            "INSERT INTO entries (stream, number, entry) VALUES (:stream, :number, :entry)",
            {"stream": stream, "number": number, "entry": encode(entry)},
        )
        return int(number)

    def read(self, stream: str, *, after: int = 0) -> Iterator[dict[str, Any]]:
        """The entries of `stream` with numbers above `after`, in order."""
        return (entry for _, entry in self.read_numbered(stream, after=after))

    def read_numbered(self, stream: str, *, after: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        """The same, each entry with its number."""
        rows = self._select(
            "SELECT number, entry FROM entries WHERE stream = :stream AND number > :after ORDER BY number",
            {"stream": stream, "after": after},
        )
        return ((number, decode(entry)) for number, entry in rows.fetchall())

    def entry(self, stream: str, number: int) -> dict[str, Any] | None:
        """The entry of this number."""
        row = self._select(
            "SELECT entry FROM entries WHERE stream = :stream AND number = :number",
            {"stream": stream, "number": number},
        ).fetchone()
        return decode(row[0]) if row else None

    def read_from(
        self, stream: str, *, at: int | None = None, descending: bool = False
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """The entries of `stream` from the number `at` on; what is not asked for is not read."""
        bounds = {"least": 0, "most": 2**62} | ({} if at is None else {"most" if descending else "least": at})
        rows = self._select(_DOWNWARDS if descending else _UPWARDS, {"stream": stream, **bounds})
        return ((number, decode(entry)) for number, entry in rows)

    def delete_entry(self, stream: str, number: int) -> None:
        self._write(
            "DELETE FROM entries WHERE stream = :stream AND number = :number",
            {"stream": stream, "number": number},
        )

    def delete_stream(self, stream: str) -> None:
        self._write("DELETE FROM entries WHERE stream = :stream", {"stream": stream})

    def put_point(self, series: str, at: float, point: dict[str, Any]) -> None:
        """Keep what `series` was at a moment, in seconds since 1970, in place of the one before."""
        (number,) = self._execute(
            """INSERT INTO series (name, latest) VALUES (:series, :at)
               ON CONFLICT (name) DO UPDATE SET latest = max(latest, excluded.latest) RETURNING id""",
            {"series": series, "at": at},
        ).fetchone()
        given = {"number": number, "at": at, "point": encode(point)}
        if not self._write("UPDATE points SET point = :point WHERE series = :number AND at = :at", given):
            self._write("INSERT INTO points (series, at, point) VALUES (:number, :at, :point)", given)

    def points(self, prefix: str, *, start: float, end: float) -> Sequence[tuple[float, dict[str, Any]]]:
        """Of the series whose names begin so, from `start` on and before `end`, the oldest first."""
        rows = self._select(
            """SELECT at, point FROM points
               WHERE series IN
                 (SELECT id FROM series WHERE name >= :prefix AND name < :prefix || char(1114111))
               AND at >= :start AND at < :end ORDER BY at, series""",
            {"prefix": prefix, "start": start, "end": end},
        )
        return [(at, decode(point)) for at, point in rows]

    def series(self, *, since: float) -> Sequence[str]:
        """The names of those with a point since then, in the order in which they first came."""
        rows = self._select("SELECT name FROM series WHERE latest >= :since ORDER BY id", {"since": since})
        return [name for (name,) in rows]

    def delete_points(self, *, before: float) -> int:
        """Of all series, and the series that have none since; gives how many points."""
        # By the index, series by series: there is none of the moments alone.
        deleted = self._write(
            """DELETE FROM points WHERE rowid IN
               (SELECT points.rowid FROM series JOIN points ON series = series.id AND at < :before)""",
            {"before": before},
        )
        self._write("DELETE FROM series WHERE latest < :before", {"before": before})
        return deleted

    def next_number(self, counter: str) -> int:
        """1, then 2, … for each `counter`; never the same again, also after a restart."""
        (number,) = self._execute(
            """INSERT INTO counters (name, number) VALUES (:name, 1)
               ON CONFLICT (name) DO UPDATE SET number = number + 1 RETURNING number""",
            {"name": counter},
        ).fetchone()
        return int(number)

    async def committed(self) -> None:
        """Return when all that has been written so far is on disk; raise sqlite3.Error where that failed."""
        if self._commit is not None:
            await asyncio.shield(self._commit)

    def before_commit(self, write: Callable[[], None]) -> None:
        """Have `write` called when all is committed that is written now, so that it is one with it."""
        self._before_commit.append(write)
        self._schedule_commit()

    def commit(self) -> None:
        """Commit now: at the end, and where there is no event loop."""
        failure: sqlite3.DatabaseError | None = None
        try:
            while self._before_commit:
                self._before_commit.pop()()
            if self._database.in_transaction:
                self._database.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            if self.on_failure is not _raise:
                self.on_failure(error)
            failure = error
        waiting, self._commit = self._commit, None
        if waiting is None or waiting.done():
            if failure is not None:
                raise failure
        elif failure is None:
            waiting.set_result(None)
        else:
            # A full disk, say. Where the transaction stays open, the next commit tries all of it again.
            log.error("what was written could not be committed: %s", failure)
            waiting.set_exception(failure)
            waiting.exception()  # it is logged; whether somebody waits for it is theirs to know
        if failure is None:  # what is committed is committed, whatever comes of this
            self._start_checkpoint()

    def roll_back(self) -> None:
        """Undo what was written since the last commit. Nothing else may run."""
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")

    def shrink(self) -> int:
        """Give the space of what was deleted back to the disk; gives how many bytes. Nothing else may run."""
        before = self.path.stat().st_size
        self.commit()
        try:
            self._database.execute("VACUUM")
        except sqlite3.OperationalError as error:  # it needs as much room again for a while
            log.warning("%s stays as large as it is; what is free in it is used again: %s", self.path, error)
        self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return before - self.path.stat().st_size

    def close(self) -> None:
        try:
            self.commit()
        finally:
            if self._timer is not None:
                self._timer.cancel()
            if self._checkpoint.is_alive():
                self._checkpoint.join()
            self._database.close()

    def _start_checkpoint(self) -> None:
        """Copy the log into the database in a thread, so that the event loop waits for no fsync."""
        if self._checkpoint.is_alive():
            return
        if self._log_is_long:
            # By itself the log begins anew only where nobody writes for a moment. What the thread has left of
            # it to copy is little.
            self._log_is_long = False
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return
        changes = self._database.total_changes
        if changes - self._changes_in_database < _CHECKPOINT_CHANGES:
            return
        self._changes_in_database = changes
        log_file = Path(f"{self.path}-wal")
        self._log_is_long = log_file.exists() and log_file.stat().st_size > _LONGEST_LOG
        self._checkpoint = threading.Thread(target=_checkpoint, args=[self.path], name="checkpoint")
        self._checkpoint.start()

    def _write(self, statement: str, parameters: dict[str, Any]) -> int:
        return self._execute(statement, parameters).rowcount

    def _execute(self, statement: str, parameters: dict[str, Any]) -> sqlite3.Cursor:
        if not self._database.in_transaction:
            self._select("BEGIN IMMEDIATE", {})
        cursor = self._select(statement, parameters)
        self._schedule_commit()
        return cursor

    def _select(self, statement: str, parameters: dict[str, Any]) -> sqlite3.Cursor:
        try:
            return self._database.execute(statement, parameters)
        except sqlite3.DatabaseError as error:
            self.on_failure(error)
            raise

    def _schedule_commit(self) -> None:
        if self._commit is not None:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # outside the server, as in a test or a tool: whoever writes also commits
            return
        self._commit = loop.create_future()
        self._timer = loop.call_soon(self.commit)

    def _migrate(self, path: Path) -> None:
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        migrations = sorted(
            (
                file
                for file in (files("stagegate.local") / "migrations").iterdir()
                if file.name.endswith(".sql")
            ),
            key=lambda entry: entry.name,
        )
        if version > len(migrations):
            raise UnreadableStore(f"The database {path} was written by a newer version of Stagegate.")
        for number, migration in enumerate(migrations, start=1):
            if number > version:
                self._database.executescript(
                    f"BEGIN; {migration.read_text()}; PRAGMA user_version = {number}; COMMIT;"
                )


def _checkpoint(path: Path) -> None:
    try:
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA wal_checkpoint(PASSIVE)")
    except (
        sqlite3.DatabaseError
    ) as error:  # a full disk, say: what is in the log stays there, and is read there
        log.warning("what is in the log of %s could not be brought into it: %s", path, error)


def _check(path: Path) -> None:
    """Raise UnreadableStore for a damaged database. By a reader, which leaves it as it is, its log too."""
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        raise _unreadable(path, error) from error
    if found != "ok":
        raise _unreadable(path, " ".join(found.split()))


def _unreadable(path: Path, why: sqlite3.DatabaseError | str) -> UnreadableStore:
    remedy = "Nothing was written to it. Put a copy of it back, or begin with another data directory."
    if isinstance(why, sqlite3.OperationalError):
        remedy = "See that the disk has room and works, then start again."
    return UnreadableStore(f"The database {path} cannot be read: {why}. {remedy}")


def _raise(error: Exception) -> None:
    """Outside the server: who reads or writes sees the error."""


def encode(document: dict[str, Any]) -> str:
    """JSON, with times and bytes marked so that `decode` gives them back."""
    return json.dumps(document, default=_mark, separators=(",", ":"), ensure_ascii=False)


def decode(text: str) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(text, object_hook=_unmark)
    except ValueError as error:  # SQLite has no checksums: a flipped bit shows here
        raise UnreadableStore(f"The database is damaged: {text[:100]!r} is no JSON.") from error
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
