"""The local runtime as a process: started in the background, found again by its file, stopped by its id."""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from stagegate.config import Config
from stagegate.errors import NotInterrupted, NotReachable

_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
_LIBC = ctypes.CDLL(None)  # loaded here: a child that other threads have forked must not load anything


def is_answering(endpoint_url: str) -> bool:
    """Whether a local runtime answers there."""
    try:
        with urllib.request.urlopen(f"{endpoint_url}/_stagegate/health", timeout=5) as response:  # noqa: S310
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def console_address(endpoint_url: str) -> str:
    """Where the console of the local runtime is; "" for one without. Raises NotReachable."""
    try:
        with urllib.request.urlopen(f"{endpoint_url}/_stagegate/health", timeout=5) as response:  # noqa: S310
            return str(json.load(response).get("console", ""))
    except OSError as error:
        raise NotReachable(f"No local runtime answers at {endpoint_url}.") from error


def interrupt_training_job(endpoint_url: str, name: str, *, seconds: float) -> None:
    """Have the local runtime take a spot training job's instances away.

    Raises NotInterrupted, NotReachable.
    """
    asked = json.dumps({"TrainingJobName": name, "Seconds": seconds}).encode()
    url = f"{endpoint_url}/_stagegate/interruption"
    request = urllib.request.Request(url, data=asked, method="POST")  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=30):  # noqa: S310
            return
    except urllib.error.HTTPError as error:
        raise NotInterrupted(json.loads(error.read())["Message"]) from error
    except OSError as error:
        raise NotReachable(f"No local runtime answers at {endpoint_url}.") from error


def iam_usage(endpoint_url: str, *, clear: bool = False) -> dict[str, Any]:
    """What roles have asked the local runtime for, by its record; `clear` begins a new one first.

    Raises NotReachable.
    """
    method = "DELETE" if clear else "GET"
    request = urllib.request.Request(f"{endpoint_url}/_stagegate/iam", method=method)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            usage: dict[str, Any] = json.load(response)
            return usage
    except OSError as error:
        raise NotReachable(f"No local runtime answers at {endpoint_url}.") from error


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def start(
    config: Config, *, with_parent: bool = False, enforce_iam: bool = False
) -> "subprocess.Popen[bytes]":
    """Start the runtime of `config` in the background and wait until it is ready; gives its process.

    `with_parent` ends it with the process that started it, however that ends. Its output goes to
    `server.log` in the data directory. Raises NotReachable where it does not come up.
    """
    folder = config.data_directory
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "server.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "stagegate", "local"),
                *("--port", str(_port(config)), "--data", str(folder), "--region", config.region),
                *(["--enforce-iam"] if enforce_iam else []),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=end_with_parent if with_parent else None,
            cwd=config.root,
        )
    _pid_file(folder).write_text(str(process.pid))
    deadline = time.monotonic() + _START_SECONDS
    while not is_answering(config.endpoint_url):
        if process.poll() is not None or time.monotonic() > deadline:
            stop(folder)
            last = log.read_text(errors="replace").strip().rsplit("\n", 1)[-1]
            raise NotReachable(f"The local runtime did not start. Last line of {log}: {last}")
        time.sleep(0.05)
    return process


def stop(folder: Path) -> bool:
    """End the runtime that was started on this data directory; False where none runs."""
    file = _pid_file(folder)
    if not file.exists():
        return False
    pid = int(file.read_text())
    running = _is_ours(pid)
    if running:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        while _is_ours(pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        if _is_ours(pid):
            os.kill(pid, signal.SIGKILL)
    file.unlink()
    return running


def end_with_parent() -> None:
    """Have the kernel stop this process when its parent is gone (Linux: prctl(2), PR_SET_PDEATHSIG)."""
    _LIBC.prctl(1, signal.SIGTERM)


def _port(config: Config) -> int:
    return urlsplit(config.endpoint_url).port or 4566


def _pid_file(folder: Path) -> Path:
    return folder / "server.pid"


def _is_ours(pid: int) -> bool:
    """Whether that process still runs and is the runtime: ids are used again after a while."""
    try:
        finished, _ = os.waitpid(pid, os.WNOHANG)  # our own child stays in the table until it is waited for
        if finished:
            return False
    except ChildProcessError:
        pass  # started by another process
    try:
        return b"stagegate" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
