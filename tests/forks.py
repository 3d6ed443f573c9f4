"""Runtimes as forks of a process that has imported them: tests start hundreds, and the import takes longest.

A fork runs `python -m stagegate.local` with its own arguments, environment and output. It ends with the
process that it is a fork of, and that with the tests.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parent.parent
_REQUEST_BYTES = 1_000_000


class Fork:
    """As much of `subprocess.Popen` as the tests need."""

    def __init__(self, pid: int, stdout: int, status: int) -> None:
        self.pid = pid
        self.stdout = os.fdopen(stdout, "rb")
        self._status = os.fdopen(status, "rb")
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, or the signal's number with a minus."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"fork {self.pid}", timeout or 0.0)
            self.returncode = int(self._status.read())
            self._status.close()
        return self.returncode

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended, and its status is on its way
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(arguments: Sequence[str], environment: Mapping[str, str], *, errors: int) -> Fork:
    """`python -m stagegate.local` with these arguments; what it says of errors goes to that file."""
    (stdout, output), (status, told) = os.pipe(), os.pipe()
    request = json.dumps({"arguments": list(arguments), "environment": dict(environment)}).encode()
    server = _server()
    socket.send_fds(server, [request], [output, errors, told])
    os.close(output)
    os.close(told)
    return Fork(int(server.recv(20)), stdout, status)


@cache
def _server() -> socket.socket:
    """One for each process of tests, with which it ends."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _REQUEST_BYTES)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())], cwd=ROOT, pass_fds=[theirs.fileno()]
        )
    atexit.register(_end, ours, process)
    return ours


def _end(server: socket.socket, process: "subprocess.Popen[bytes]") -> None:
    server.close()
    process.wait(10)


def _serve(requests: socket.socket) -> None:
    """Fork for each request; ends when nobody can ask any more."""
    _import_what_forks_need()
    statuses: dict[int, int] = {}
    bell, ring = os.pipe()
    os.set_blocking(ring, False)
    signal.set_wakeup_fd(ring)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    while True:
        for ready in select.select([requests, bell], [], [])[0]:
            if ready == bell:
                os.read(bell, 4_096)
                _tell(statuses)
                continue
            request, files, _, _ = socket.recv_fds(requests, _REQUEST_BYTES, 3)
            if not request:
                return
            output, errors, told = files
            if (pid := os.fork()) == 0:
                for inherited in (requests.fileno(), bell, ring, *statuses.values(), told):
                    os.close(inherited)
                _run(json.loads(request), output, errors)
            statuses[pid] = told
            os.close(output)
            os.close(errors)
            requests.send(str(pid).encode())


def _import_what_forks_need() -> None:
    """The runtime, and what it would import and read when it is first asked for something."""
    import stagegate.local.server  # noqa: F401
    from stagegate.local import apis
    from stagegate.local.moto_services import MOTO_BEHIND

    services = [f"{service}.urls" for service in MOTO_BEHIND]
    for name in ["core.parse", "core.serialize", "iam.models", *services]:
        importlib.import_module(f"moto.{name}")
    for service in apis.APIS:
        apis.model(service)
    gc.freeze()


def _tell(statuses: dict[int, int]) -> None:
    """Those who wait for forks that have ended."""
    while statuses:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        told = statuses.pop(pid)
        with os.fdopen(told, "wb") as file:
            file.write(str(os.waitstatus_to_exitcode(status)).encode())


def _run(request: dict[str, Any], output: int, errors: int) -> NoReturn:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    end_with_parent()
    os.dup2(output, 1)
    os.dup2(errors, 2)
    os.close(output)
    os.close(errors)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv[1:] = request["arguments"]
    try:
        runpy.run_module("stagegate.local", run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def end_with_parent() -> None:
    """So that nothing is left where the tests themselves are killed (prctl(2), PR_SET_PDEATHSIG)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    end_with_parent()
    _serve(socket.socket(fileno=int(sys.argv[1])))
