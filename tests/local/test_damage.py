"""A full disk, a torn end of the log, a broken file, a second server: said clearly, without damage."""

import json
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from stagegate.local.store import Store, UnreadableStore
from tests.conftest import Local

ROLE = "arn:aws:iam::000000000000:role/states"
PASS = {"StartAt": "A", "States": {"A": {"Type": "Pass", "End": True}}}


def test_a_full_disk_ends_the_runtime_and_loses_nothing_that_was_answered(local: Local) -> None:
    states = local.client("stepfunctions")
    machine = states.create_state_machine(name="m", definition=json.dumps(PASS), roleArn=ROLE)
    arn = machine["stateMachineArn"]
    assert local.process is not None
    size = max(file.stat().st_size for file in local.data.glob("stagegate.db*"))
    resource.prlimit(local.process.pid, resource.RLIMIT_FSIZE, (size + 2_000_000, size + 2_000_000))

    answered: list[str] = []
    with pytest.raises((BotoCoreError, ClientError)):
        for number in range(100_000):
            text = json.dumps({"text": "x" * 5_000})
            started = states.start_execution(stateMachineArn=arn, name=f"run-{number}", input=text)
            answered.append(started["executionArn"])

    assert local.process.wait(20) == 1
    said = local.log.read_text()
    assert f"Stagegate local ends: the database {local.data / 'stagegate.db'} failed: " in said
    local.restart()
    assert len(answered) > 3
    for execution in answered:
        paginator = states.get_paginator("get_execution_history").paginate(executionArn=execution)
        events = [event["id"] for page in paginator for event in page["events"]]
        assert events == list(range(1, len(events) + 1))
        described = states.describe_execution(executionArn=execution)
        assert described["status"] in ("RUNNING", "SUCCEEDED")
    assert states.start_execution(stateMachineArn=arn, name="after")["executionArn"]


def test_a_torn_end_of_the_log_loses_only_what_was_torn(tmp_path: Path) -> None:
    store = Store(tmp_path / "stagegate.db")
    for number in range(50):
        store.append("stream", {"number": number})
        store.commit()
    chance = random.Random(7)
    whole = (tmp_path / "stagegate.db-wal").stat().st_size
    for turn in range(10):
        copy = tmp_path / f"copy-{turn}"
        copy.mkdir()
        for file in tmp_path.glob("stagegate.db*"):
            shutil.copy(file, copy / file.name)
        cut = chance.randrange(whole // 2, whole)
        with (copy / "stagegate.db-wal").open("r+b") as log:
            log.truncate(cut)
        (copy / "stagegate.db-shm").unlink(missing_ok=True)

        torn = Store(copy / "stagegate.db")
        found = [entry["number"] for entry in torn.read("stream")]
        torn.append("stream", {"number": "next"})
        torn.close()

        assert found == list(range(len(found)))
        assert len(found) >= 15
    store.close()


def test_a_broken_file_is_named_and_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "stagegate.db"
    file.write_bytes(b"no database at all" * 1000)

    with pytest.raises(UnreadableStore, match=f"The database {file} cannot be read"):
        Store(file)

    ended = subprocess.run(
        [sys.executable, "-m", "stagegate", "local", "--port", "0", "--data", str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert f"Error: The database {file} cannot be read: file is not a database" in ended.stderr
    assert file.read_bytes() == b"no database at all" * 1000


def test_a_second_server_on_the_same_data_is_refused_until_the_first_is_gone(local: Local) -> None:
    command = [sys.executable, "-m", "stagegate", "local", "--port", "0", "--data", str(local.data)]

    refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert refused.returncode == 1
    assert str(local.data) in refused.stderr and "Traceback" not in refused.stderr
    local.kill()
    local.start()  # the lock went with the process


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bytes_are_said_and_nothing_is_written(tmp_path: Path, seed: int) -> None:
    file = tmp_path / "stagegate.db"
    store = Store(file)
    for number in range(2_000):
        store.append(f"stream-{number % 50}", {"number": number, "text": "x" * 100})
    store.commit()
    store.close()
    chance = random.Random(seed)
    damaged = bytearray(file.read_bytes())
    for page in range(4_096 * 4, len(damaged), 4_096):  # the beginning of each page tells what is in it
        damaged[page + chance.randrange(8)] ^= 0xFF
    file.write_bytes(damaged)

    with pytest.raises(UnreadableStore) as refused:
        Store(file)

    assert str(refused.value).startswith(f"The database {file} cannot be read: ")
    assert str(refused.value).endswith(
        "Nothing was written to it. Put a copy of it back, or begin with another data directory."
    )
    assert file.read_bytes() == damaged


def test_a_damaged_file_is_left_with_its_log(tmp_path: Path) -> None:
    """As after `kill -9`: what is in the log alone must not be lost with the refusal."""
    store = Store(tmp_path / "stagegate.db")
    for number in range(2_000):
        store.append("stream", {"number": number})
    store.close()
    store = Store(tmp_path / "stagegate.db")
    store.append("stream", {"number": "last"})
    store.commit()
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("stagegate.db", "stagegate.db-wal"):
        shutil.copy(tmp_path / name, copy / name)
    store.close()
    (copy / "stagegate.db").write_bytes(b"no database at all" * 1000)
    log = (copy / "stagegate.db-wal").read_bytes()

    with pytest.raises(UnreadableStore):
        Store(copy / "stagegate.db")

    assert (copy / "stagegate.db-wal").read_bytes() == log


def test_a_document_that_is_no_json_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path / "stagegate.db")
    store.put("kind", "key", {"text": "whole"})
    store.commit()
    store.close()
    database = sqlite3.connect(tmp_path / "stagegate.db")
    database.execute("UPDATE documents SET document = '{\"text'")
    database.commit()
    database.close()

    store = Store(tmp_path / "stagegate.db")
    with pytest.raises(UnreadableStore) as refused:
        store.get("kind", "key")
    assert str(refused.value) == """The database is damaged: '{"text' is no JSON."""
    store.close()
