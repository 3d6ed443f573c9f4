"""The process that jobs and builds are forked from, in namespaces of their own: nothing outlives them.

For jobs it has torch imported already, so that they start in milliseconds.

It speaks with the server over one socket, a message each way at a time: "start this job", with the pipe for
its output, and "this job has ended". It imports nothing of ours, runs no thread and computes nothing, so
that a fork is as clean as a fresh interpreter. It ends when the server is gone, and its jobs with it.
"""

import argparse
import atexit
import contextlib
import ctypes
import gc
import importlib
import io
import json
import os
import re
import runpy
import selectors
import signal
import socket
import sys
import tempfile
import threading
import traceback
import weakref
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

MAX_MESSAGE = 65_536
NEVER_STARTED = 127  # as a shell says it

_PR_SET_PDEATHSIG = 1
_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWPID = 0x00020000, 0x10000000, 0x20000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
PASSED_ON = (signal.SIGTERM, signal.SIGINT)
_PYTHON = re.compile(r"python(3(\.\d+)?)?")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("modules", nargs="*", help="imported beforehand")
    options = parser.parse_args()
    channel = socket.socket(fileno=options.socket)
    die_with_parent()
    isolates = _can_isolate()
    for name in options.modules:
        try:
            importlib.import_module(name)
        except ImportError:  # a pipeline without torch: its jobs import what they have
            continue
    for finalizer in weakref.finalize._registry:  # type: ignore[attr-defined]
        finalizer.atexit = False  # torch taking its operators apart: 50 ms at each job's end, for nothing
    gc.freeze()  # what is imported stays shared with the jobs
    try:
        channel.send(json.dumps({"ready": True, "isolates": isolates}).encode())
    except BrokenPipeError:  # the server has ended meanwhile
        os._exit(0)
    code = 0
    if job := _serve(channel):
        try:
            _run(job)  # in the forked process, outside all of the above
        except SystemExit as end:
            code = _status(end)
    _end(code)


def _serve(channel: socket.socket) -> "dict[str, Any] | None":
    """Fork a process for each job until the server is gone. Gives the job in the job's own process."""
    awake, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    jobs: dict[int, str] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(channel, selectors.EVENT_READ)
        selector.register(awake, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is channel:
                    message, descriptors, _flags, _address = socket.recv_fds(channel, MAX_MESSAGE, 1)
                    if not message:
                        for pid in jobs:
                            os.kill(pid, signal.SIGKILL)
                        return None
                    request = json.loads(message)
                    if "signal" in request:
                        for pid in (pid for pid, job in jobs.items() if job == request["job"]):
                            os.kill(pid, request["signal"])
                        continue
                    pid = os.fork()
                    if pid == 0:
                        signal.set_wakeup_fd(-1)
                        channel.close()
                        os.close(awake)
                        os.close(wake)
                        spec: dict[str, Any] = json.loads(Path(request["spec"]).read_text())
                        return {**spec, "output": descriptors[0]}
                    os.close(descriptors[0])
                    jobs[pid] = request["job"]
                    channel.send(json.dumps({"job": request["job"], "pid": pid}).encode())
                else:
                    os.read(awake, 4096)
            _report_ended(channel, jobs)


def _report_ended(channel: socket.socket, jobs: dict[int, str]) -> None:
    while jobs:
        pid, status, used = os.wait4(-1, os.WNOHANG)
        if not pid:
            return
        if job := jobs.pop(pid, None):
            ended = {
                "job": job,
                "exit": _exit_code(status),
                "processor_seconds": used.ru_utime + used.ru_stime,
                "peak_memory": used.ru_maxrss * 1024,
            }
            channel.send(json.dumps(ended).encode())


def _run(job: dict[str, Any]) -> None:
    """Three processes: one that the launcher waits for, the first of the job's own process namespace, with
    which all in it ends, and the job's script, which this function returns into."""
    # Until each has its handlers: the first process of a namespace does not get what it does not handle.
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    die_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        if job["isolated"]:
            enter_namespaces(job["mount"] and Path(job["mount"]), Path(job["mount_at"]))
            if job["hosts"]:
                mount(job["hosts"], "/etc/hosts", None, _MS_BIND)
            _keep_installed(Path(job["home"]) / "installed")
    except OSError as error:
        os.write(job["output"], f"The job's namespaces could not be made: {error}\n".encode())
        os._exit(NEVER_STARTED)
    become_parent()
    die_with_parent()
    if job["isolated"]:
        mount("proc", "/proc", "proc", 0)
    become_parent()
    die_with_parent()
    os.setsid()
    _start(job)


def become_parent() -> None:
    """Fork; the child returns, the parent passes SIGTERM on to it, waits, and ends as it ended."""
    child = os.fork()
    if child == 0:
        return
    os.closerange(3, 4096)  # the job's output among them, which ends when the job has
    for number in PASSED_ON:
        signal.signal(number, lambda received, _frame: os.kill(child, received))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    while True:
        pid, status = os.waitpid(-1, 0)  # the first of a process namespace inherits all orphans
        if pid == child:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)  # what the script left behind
            os._exit(_exit_code(status))


def _start(job: dict[str, Any]) -> None:
    for number in (signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)
    for standard in (1, 2):
        os.dup2(job["output"], standard)
    os.closerange(3, 4096)
    sys.stdin = open(0)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(job["environment"])
    command = job["command"]
    try:
        os.chdir(job["directory"])
        is_python = _PYTHON.fullmatch(Path(command[0]).name)
        if job["forked"] and is_python and (script := _script(command[1:])):
            _run_python(*script)
        else:
            os.execvpe(command[0], command, os.environ)  # noqa: S606
    except OSError as error:
        print(f"{command[0]}: {error.strerror or error}: {error.filename}", file=sys.stderr)
        sys.exit(NEVER_STARTED)


def _script(arguments: list[str]) -> "tuple[bool, list[str]] | None":
    """Whether it is a module, and the arguments from its name on; None for what runpy does not do (`-c`)."""
    rest = arguments[1:] if arguments[:1] == ["-u"] else arguments
    if len(rest) > 1 and rest[0] == "-m":
        return True, rest[1:]
    if rest and not rest[0].startswith("-"):
        return False, rest
    return None


def _run_python(is_module: bool, arguments: list[str]) -> None:
    """What `python3 script.py …` and `python3 -m module …` do, in this interpreter."""
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()  # or all jobs would draw the same
    script = arguments[0]
    first = str(Path.cwd() if is_module else Path(script).resolve().parent)
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    here = str(Path(__file__).parent)
    sys.path[:] = [first, *paths, *(path for path in sys.path if path not in (here, ""))]
    sys.argv = arguments
    try:
        if is_module:
            runpy.run_module(script, run_name="__main__", alter_sys=True)
        elif Path(script).exists():
            runpy.run_path(str(Path(script).absolute()), run_name="__main__")
        else:
            print(
                f"python3: can't open file '{script}': [Errno 2] No such file or directory", file=sys.stderr
            )
            sys.exit(2)
    except SystemExit:
        raise
    except ImportError as error:
        if is_module and error.name is None and script in str(error):
            print(f"python3: {error}", file=sys.stderr)
            sys.exit(1)
        _fail(error)
    except BaseException as error:
        _fail(error)


def _fail(error: BaseException) -> NoReturn:
    """Print the traceback as a fresh interpreter would, from the script's first frame on."""
    frame: TracebackType | None = error.__traceback__
    while frame and frame.tb_frame.f_code.co_filename in (__file__, runpy.__file__, "<frozen runpy>"):
        frame = frame.tb_next
    traceback.print_exception(type(error), error, frame or error.__traceback__)
    sys.exit(1)


def _status(end: SystemExit) -> int:
    """What the interpreter makes of `sys.exit(…)`."""
    if end.code is None or isinstance(end.code, int):
        return (end.code or 0) & 0xFF
    print(end.code, file=sys.stderr)
    return 1


def _end(code: int) -> NoReturn:
    """End as an interpreter does, save that it takes apart no modules: of torch that is half a second, and
    waits for threads of the launcher that a fork does not have."""
    threading._shutdown()  # type: ignore[attr-defined]  # as multiprocessing does in its forked processes
    atexit._run_exitfuncs()
    _flush_files()  # first: the collector may close a file's descriptor before its buffer is written
    gc.collect()
    _flush_files()
    os._exit(code)


def _flush_files() -> None:
    for file in gc.get_objects():
        if issubclass(type(file), io.IOBase):
            with contextlib.suppress(OSError, ValueError):  # it is closed, or nobody reads it any more
                file.flush()


def _exit_code(status: int) -> int:
    """As a container has it: 128 and the signal's number for a process that was killed."""
    return exit_code_of(os.waitstatus_to_exitcode(status))


def exit_code_of(code: int) -> int:
    """The same of what `subprocess` gives."""
    return 128 - code if code < 0 else code


def enter_namespaces(folder: "Path | None", at: Path) -> None:
    """Mounts and processes of the job's own, with `folder`, if any, where the container has `at`."""
    user, group = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _CLONE_NEWNS | _CLONE_NEWPID | (0 if user == 0 else _CLONE_NEWUSER)
    if libc.unshare(flags):
        raise OSError(ctypes.get_errno(), "unshare")
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    if folder is None:
        return
    if not at.exists():
        _make_visible(at, behind=folder.parent / "behind")
    mount(str(folder), str(at), None, _MS_BIND | _MS_REC)


def _make_visible(at: Path, *, behind: Path) -> None:
    """A folder `at` for this job alone: over its parent lies a file system in memory, with links to what
    was there, which is still to be seen at `behind`."""
    parent = at.parent
    if parent.is_dir():
        behind.mkdir(exist_ok=True)
        mount(str(parent), str(behind), None, _MS_BIND | _MS_REC)
        entries = [entry.name for entry in behind.iterdir()]
        mount("none", str(parent), "tmpfs", 0)
        for name in entries:
            (parent / name).symlink_to(behind / name)
    at.mkdir(parents=True)


def _keep_installed(folder: Path) -> None:
    """What a job installs into our virtual environment, as it may into a container's, is seen by it alone and
    goes with it: over the environment lies a file system in memory."""
    if sys.prefix == sys.base_prefix:
        return
    folder.mkdir(exist_ok=True)
    mount("none", str(folder), "tmpfs", 0)
    upper, work = folder / "upper", folder / "work"
    upper.mkdir()
    work.mkdir()
    options = f"lowerdir={sys.prefix},upperdir={upper},workdir={work}"
    with contextlib.suppress(OSError):  # a kernel without overlays: the job could install into ours
        mount("none", sys.prefix, "overlay", 0, options if os.getuid() == 0 else f"{options},userxattr")


def _can_isolate() -> bool:
    """Try it in a process that ends at once."""
    with tempfile.TemporaryDirectory() as folder:
        inside = Path(folder) / "ml"
        inside.mkdir()
        child = os.fork()
        if child == 0:
            os._exit(_try_namespaces(inside))
        return os.waitpid(child, 0)[1] == 0


def _try_namespaces(folder: Path) -> int:
    """0 where they can be made."""
    try:
        enter_namespaces(folder, Path("/opt/ml"))
        inner = os.fork()
        if inner:
            return int(os.waitpid(inner, 0)[1] != 0)
        mount("proc", "/proc", "proc", 0)
    except OSError:
        return 1
    return 0


def mount(
    source: "str | None", target: str, kind: "str | None", flags: int, options: "str | None" = None
) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    *texts, data = [text.encode() if text is not None else None for text in (source, target, kind, options)]
    if libc.mount(*texts, ctypes.c_ulong(flags), data):
        number = ctypes.get_errno()
        raise OSError(number, f"mount {target}: {os.strerror(number)}")


def die_with_parent() -> None:
    """Linux: prctl(2), _PR_SET_PDEATHSIG. The parent may have ended already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
