"""The console of `stagegate local`, and the port of `stagegate console`."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.conftest import ROOT
from tests.console.test_approvals import asked

STAGEGATE = str(Path(sys.executable).parent / "stagegate")


@contextlib.contextmanager
def runtime(data: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`stagegate local` as at a prompt, and its address."""
    process = subprocess.Popen(
        [STAGEGATE, "local", "--port", "0", "--data", str(data), "--preload", ""],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = re.search(r"http://[^ ]+", process.stdout.readline())
        assert address is not None
        yield process, address[0]
    finally:
        process.terminate()
        process.communicate(timeout=60)


def opened(url: str) -> Any:
    return urllib.request.urlopen(url, timeout=60)


def children(process: subprocess.Popen[str]) -> list[str]:
    """The command lines of what a process has started, other than what its jobs need."""
    tasks = Path(f"/proc/{process.pid}/task").iterdir()
    ids = [pid for task in tasks for pid in (task / "children").read_text().split()]
    lines = [Path(f"/proc/{pid}/cmdline").read_bytes().decode().replace("\0", " ") for pid in ids]
    return [line for line in lines if line.endswith(" console ")]


def test_the_local_runtime_has_a_console_which_runs_once_it_is_opened(tmp_path: Path) -> None:
    with runtime(tmp_path / "data") as (process, address):
        assert process.stdout is not None
        line = process.stdout.readline()
        with opened(f"{address}/_stagegate/health") as health:
            told = json.load(health)["console"]
        before = children(process)
        with opened(told) as first, opened(f"{told}/jobs?all=1") as second:
            pages = [first.url, second.url]
            html = first.read().decode()
        after = children(process)
    with pytest.raises(OSError):
        opened(pages[0])

    assert line == f"Its console: {told}\n"
    assert told == f"{address}/_stagegate/console"
    assert (len(before), len(after)) == (0, 1)
    assert urlsplit(pages[0]).path == "/runs" and pages[1].endswith("/jobs?all=1")
    assert urlsplit(pages[0]).netloc == urlsplit(pages[1]).netloc != urlsplit(address).netloc
    assert "on this machine" in html


def test_no_console_outlives_a_runtime_that_is_killed(tmp_path: Path) -> None:
    with runtime(tmp_path / "data") as (process, address):
        with opened(f"{address}/_stagegate/console") as answer:
            console = urlsplit(answer.url)
        with socket.create_connection((console.hostname or "", console.port or 0)) as held:
            held.settimeout(60)
            process.send_signal(signal.SIGKILL)
            assert held.recv(1) == b""  # the kernel closes what the process had


def test_two_runtimes_have_a_console_each(tmp_path: Path) -> None:
    with runtime(tmp_path / "a") as (_, first), runtime(tmp_path / "b") as (_, second):
        pages = set()
        for address in (first, second):
            with opened(f"{address}/_stagegate/console") as answer:
                pages.add(answer.url)

    assert len(pages) == 2


@contextlib.contextmanager
def console(*options: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [STAGEGATE, "console", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with console("--port", str(port)) as process:
            _, said = process.communicate(timeout=60)

    assert process.returncode == 1
    assert f"Port {port} of 127.0.0.1 cannot be used: Address already in use" in said


def test_without_a_port_a_free_one_is_taken_where_its_own_is_not() -> None:
    with console() as first, console() as second:
        addresses = [process.stdout.readline() for process in (first, second) if process.stdout]

    assert len(set(addresses)) == 2


def test_it_answers_on_ipv6_to_its_own_names() -> None:
    with console("--host", "::1", "--port", "0") as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = line.split()[-1].rstrip("/")
        own, _, _ = asked(address, "GET", "/static/console.css")
        localhost, _, _ = asked(address, "GET", "/static/console.css", headers={"Host": "localhost"})
        other, _, _ = asked(address, "GET", "/static/console.css", headers={"Host": "[2001:db8::1]"})

    assert address.startswith("http://[::1]:")
    assert (own, localhost, other) == (200, 200, 400)
