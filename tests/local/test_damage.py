"""A full disk, a torn end of the log, a broken file, a second server: said clearly, without damage."""

import contextlib
import json
import os
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from stagegate.local.store import Store, UnreadableStore
from tests.conftest import Local

ROLE = "arn:aws:iam::111111111111:role/states"
TEXT = json.dumps({"text": "x" * 5_000})


def only(state: dict[str, str]) -> dict[str, Any]:
    return {"StartAt": "State", "States": {"State": {**state, "End": True}}}


PASS = only({"Type": "Pass"})


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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 6 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> Path:
    filling = disk / "filling"
    with filling.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4_096))
    return filling


@pytest.mark.parametrize("what", ["executions", "an object"])
def test_what_waits_goes_on_when_there_is_room_again(small_disk: Path, tmp_path: Path, what: str) -> None:
    local = Local(small_disk / "data")
    local.log = tmp_path / "server.log"
    local.start()
    try:
        states, s3 = local.client("stepfunctions"), local.client("s3")
        s3.create_bucket(Bucket="bucket")
        asked = states.create_activity(name="asked")["activityArn"]
        asks, passes = (
            states.create_state_machine(name=state["Type"], definition=json.dumps(only(state)), roleArn=ROLE)
            for state in ({"Type": "Task", "Resource": asked}, {"Type": "Pass"})
        )
        waiting = states.start_execution(stateMachineArn=asks["stateMachineArn"], name="waits")
        token = states.get_activity_task(activityArn=asked)["taskToken"]

        filling = fill(small_disk)
        answered = []
        with pytest.raises((BotoCoreError, ClientError)):
            while what == "executions":
                started = states.start_execution(stateMachineArn=passes["stateMachineArn"], input=TEXT)
                answered.append(started["executionArn"])
            s3.put_object(Bucket="bucket", Key="key", Body=bytes(500_000))

        assert local.process is not None
        assert local.process.wait(20) == 1
        assert "Stagegate local ends: the database" in local.log.read_text()
        filling.unlink()
        local.restart()
        states.send_task_success(taskToken=token, output="1")
        assert ended(states, waiting["executionArn"]) == "SUCCEEDED"
        assert [ended(states, execution) for execution in answered] == ["SUCCEEDED"] * len(answered)
        assert "Contents" not in s3.list_objects_v2(Bucket="bucket")
    finally:
        local.kill()


def ended(states: Any, execution: str) -> str:
    deadline = time.monotonic() + 20
    while (status := states.describe_execution(executionArn=execution)["status"]) == "RUNNING":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return str(status)


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
        [sys.executable, "-m", "stagegate", "local", "--preload", "", "--port", "0", "--data", str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert f"Error: The database {file} cannot be read: file is not a database" in ended.stderr
    assert file.read_bytes() == b"no database at all" * 1000


def test_a_second_server_on_the_same_data_is_refused_until_the_first_is_gone(local: Local) -> None:
    command = [
        sys.executable,
        "-m",
        "stagegate",
        "local",
        "--preload",
        "",
        "--port",
        "0",
        "--data",
        str(local.data),
    ]

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
