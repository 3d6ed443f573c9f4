"""What a million events cost: the database's size, the time until a server that has them answers, pruning.

One execution of ten states is really run; the others are copies of what it left in the database.

    python benchmarks/store.py                        a million events, about a minute
    python benchmarks/store.py --events 100000
"""

import argparse
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import boto3

ROLE = "arn:aws:iam::111111111111:role/engine"
STATES = 10
DEFINITION = {
    "StartAt": "State0",
    "States": {
        f"State{number}": {
            "Type": "Pass",
            "Parameters": {"dataset.$": "$.dataset", "step": number},
            **({"End": True} if number == STATES - 1 else {"Next": f"State{number + 1}"}),
        }
        for number in range(STATES)
    },
}
EVENTS = 2 * STATES + 2
INPUT = {"dataset": "s3://bucket/datasets/scenes/2026-11-23/scenes.zip"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    executions = parser.parse_args().events // EVENTS
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        empty = start(data)[1]
        database = data / "stagegate.db"
        before = database.stat().st_size
        copy_execution(database, count=executions)
        size = database.stat().st_size - before
        print(f"{executions * EVENTS:,} events of {executions:,} executions")
        print(f"  on disk         {size / 1e6:,.0f} MB, {size / executions / EVENTS:,.0f} bytes an event")
        seconds, memory = start(data, runs_one=False)
        print(f"  until it answers {seconds:.2f} s, {memory - empty:,.0f} MB more memory than without")
        print(f"  to check it all  {timed(lambda: check(database)):.2f} s")
        print(f"  pruned in        {timed(lambda: prune(data)):.2f} s, to {size_of(database)} MB")


def start(data: Path, *, runs_one: bool = True) -> tuple[float, float]:
    """Start the server, and stop it again: the seconds until it is ready, and its memory then in MB."""
    begun = time.monotonic()
    command = [sys.executable, "-m", "stagegate.local", "--port", "0", "--data", str(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            seconds = time.monotonic() - begun
            if runs_one:
                run_one(line.split()[5])
            status = Path(f"/proc/{process.pid}/status").read_text()
            memory = int(status.partition("VmRSS:")[2].split()[0]) / 1e3
        finally:
            process.send_signal(signal.SIGTERM)
    return seconds, memory


def run_one(endpoint_url: str) -> None:
    states = boto3.client(
        "stepfunctions",
        endpoint_url=endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key=os.urandom(8).hex(),
    )
    machine = states.create_state_machine(name="ten", definition=json.dumps(DEFINITION), roleArn=ROLE)
    arn = machine["stateMachineArn"]
    execution = states.start_execution(stateMachineArn=arn, name="run", input=json.dumps(INPUT))
    while states.describe_execution(executionArn=execution["executionArn"])["status"] == "RUNNING":
        time.sleep(0.05)


def copy_execution(path: Path, *, count: int) -> None:
    database = sqlite3.connect(path)
    with database:
        ((kind, key, document),) = database.execute(
            "SELECT kind, key, document FROM documents WHERE kind = 'stepfunctions/execution'"
        )
        entries = database.execute(
            "SELECT stream, number, entry FROM entries WHERE stream LIKE 'stepfunctions/journal/%'"
        ).fetchall()
        for copy in range(count - 1):
            name = f":run-{copy}"
            database.execute(
                "INSERT INTO documents (kind, key, document) VALUES (?, ?, ?)",
                (
                    kind,
                    key.replace(":run", name),
                    document.replace(":run", name).replace('"run"', f'"{name[1:]}"'),
                ),
            )
            database.executemany(
                "INSERT INTO entries VALUES (?, ?, ?)",
                [(stream.replace(":run", name), number, entry) for stream, number, entry in entries],
            )
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()


def check(path: Path) -> None:
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA quick_check").fetchone() == ("ok",)
    database.close()


def prune(data: Path) -> None:
    command = [sys.executable, "-m", "stagegate", "local", "--data", str(data), "prune", "--older-than", "0m"]
    subprocess.run(command, check=True)


def size_of(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:,.1f}"


def timed(work: Callable[[], None]) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


if __name__ == "__main__":
    main()
