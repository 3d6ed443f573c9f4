"""The store: what is written is seen at once, committed in groups, and lost by nothing."""

import asyncio
import shutil
import sqlite3
import time
from datetime import UTC, datetime

import pytest

from stagegate.local.store import Store, UnreadableStore


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "stagegate.db")
    yield opened
    opened.close()


def test_documents_come_back_as_they_were(store):
    document = {
        "at": datetime(2026, 11, 23, 8, 0, 1, 500, tzinfo=UTC),
        "blob": b"\xff\x00",
        "n": [1, 2.5, None],
    }

    store.put("a/kind", "key", document)

    assert store.get("a/kind", "key") == document
    assert store.get("a/kind", "other") is None


def test_a_list_is_in_the_order_of_creation_and_by_prefix(store):
    for key in ("run/2", "run/1", "rung", "sun/1"):
        store.put("kind", key, {"key": key})
    store.put("kind", "run/2", {"key": "run/2", "changed": True})

    assert store.list("kind", prefix="run/") == [{"key": "run/2", "changed": True}, {"key": "run/1"}]
    assert [document["key"] for document in store.list("kind")] == ["run/2", "run/1", "rung", "sun/1"]
    assert store.list("other") == []


def test_delete_tells_whether_there_was_something(store):
    store.put("kind", "key", {})

    assert (store.delete("kind", "key"), store.delete("kind", "key")) == (True, False)


def test_a_stream_is_read_in_order_from_anywhere(store):
    numbers = [store.append("stream", {"n": n}) for n in range(3)]
    store.append("other", {})

    assert numbers == [1, 2, 3]
    assert list(store.read("stream", after=1)) == [{"n": 1}, {"n": 2}]
    store.delete_entry("stream", 2)
    assert list(store.read_numbered("stream")) == [(1, {"n": 0}), (3, {"n": 2})]
    store.delete_stream("stream")
    assert list(store.read("stream")) == []


def test_numbers_are_never_given_twice(tmp_path):
    first = Store(tmp_path / "db")
    given = [first.next_number("a"), first.next_number("a"), first.next_number("b")]
    first.close()

    second = Store(tmp_path / "db")
    given.append(second.next_number("a"))
    second.close()

    assert given == [1, 2, 1, 3]


async def test_what_is_committed_is_seen_by_another_connection(store, tmp_path):
    store.put("kind", "key", {"a": 1})
    other = sqlite3.connect(tmp_path / "stagegate.db")
    before = other.execute("SELECT count(*) FROM documents").fetchone()

    await store.committed()

    assert (before, other.execute("SELECT count(*) FROM documents").fetchone()) == ((0,), (1,))
    other.close()


async def test_many_who_wait_share_one_commit(store):
    commits = []
    store._database.set_trace_callback(lambda statement: commits.append(statement == "COMMIT"))

    async def write(number):
        store.put("kind", str(number), {})
        await store.committed()

    await asyncio.gather(*(write(number) for number in range(50)))

    assert sum(commits) == 1


async def test_a_full_disk_is_an_error_for_who_waits_and_no_damage(tmp_path):
    store = Store(tmp_path / "db")
    store.put("kind", "before", {})
    await store.committed()
    (pages,) = store._database.execute("PRAGMA page_count").fetchone()
    store._database.execute(f"PRAGMA max_page_count = {pages}")

    with pytest.raises(sqlite3.OperationalError, match="full"):
        store.put("kind", "large", {"text": "x" * 100_000})
        await store.committed()

    store._database.execute("PRAGMA max_page_count = 1000000")
    store.put("kind", "after", {})
    await store.committed()
    store.close()
    reopened = Store(tmp_path / "db")
    assert [reopened.get("kind", key) for key in ("before", "large", "after")] == [{}, None, {}]
    reopened.close()


async def test_a_commit_that_fails_fails_those_who_wait_and_is_tried_again(store, tmp_path):
    reader = sqlite3.connect(tmp_path / "stagegate.db", isolation_level=None)
    reader.execute("PRAGMA busy_timeout = 0")
    store._database.execute("PRAGMA busy_timeout = 0")
    store._database.execute("PRAGMA journal_mode = DELETE")  # where a reader can hold a commit up
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM documents").fetchone()

    store.put("kind", "key", {})
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        await store.committed()
    reader.execute("ROLLBACK")
    store.put("kind", "next", {})
    await store.committed()

    assert reader.execute("SELECT key FROM documents").fetchall() == [("key",), ("next",)]
    reader.close()


def test_the_log_begins_anew_so_that_it_stays_short(tmp_path, monkeypatch):
    monkeypatch.setattr("stagegate.local.store._CHECKPOINT_CHANGES", 50)
    monkeypatch.setattr("stagegate.local.store._LONGEST_LOG", 1_000_000)
    store = Store(tmp_path / "db")
    longest = 0

    for number in range(4_000):
        store.append("stream", {"number": number, "text": "x" * 2_000})
        store.commit()  # writes two pages of 4 kB at least
        longest = max(longest, (tmp_path / "db-wal").stat().st_size)

    # Of 33 MB; how far the log grows beside a checkpoint is for the machine to say.
    assert longest < 16_000_000
    assert [entry["number"] for entry in store.read("stream")] == list(range(4_000))
    store.close()
    assert not (tmp_path / "db-wal").exists()


def test_what_was_written_is_brought_into_the_database_while_others_write(tmp_path, monkeypatch):
    monkeypatch.setattr("stagegate.local.store._CHECKPOINT_CHANGES", 50)
    store = Store(tmp_path / "db")
    empty = (tmp_path / "db").stat().st_size

    deadline = time.monotonic() + 20
    while (tmp_path / "db").stat().st_size == empty:
        assert time.monotonic() < deadline
        store.append("stream", {"text": "x" * 2_000})
        store.commit()

    store.close()


def test_a_damaged_database_is_said_to_be_one(tmp_path):
    (tmp_path / "db").write_bytes(b"no database at all" * 1000)

    with pytest.raises(UnreadableStore, match="cannot be read: file is not a database"):
        Store(tmp_path / "db")


def test_a_database_of_a_newer_version_is_left_alone(tmp_path):
    Store(tmp_path / "db").close()
    newer = sqlite3.connect(tmp_path / "db")
    newer.execute("PRAGMA user_version = 999")
    newer.close()

    with pytest.raises(UnreadableStore, match="newer version"):
        Store(tmp_path / "db")


def test_the_log_does_not_grow_from_life_to_life(tmp_path):
    """Killed again and again before there is reason to bring the log into the database."""
    sizes, lives = [], []
    for life in range(6):
        path = tmp_path / f"life-{life}"
        if lives:
            shutil.copytree(lives[-1].path.parent, path)
        lives.append(Store(path / "stagegate.db"))
        for text in ("x", "x" * 200_000):
            lives[-1].put("kind", "key", {"text": text})
            lives[-1].commit()
            lives[-1]._checkpoint.join()
        sizes.append((path / "stagegate.db-wal").stat().st_size)
    for store in lives:
        store.close()

    assert max(sizes) < 2 * sizes[0]
