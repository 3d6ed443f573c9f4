"""The console beside a local runtime: a process that begins when somebody opens it, and ends with that."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from stagegate.config import Config
from stagegate.errors import NotReachable
from stagegate.local_server import end_with_parent

READY = "Stagegate console is ready at "


class ConsoleProcess:
    """`stagegate console` over the runtime. No process runs, and no port is taken, until it is asked for."""

    def __init__(self, config: Config, *, data: Path) -> None:
        self._config = config
        self._data = data
        self._starting = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._address = ""

    def address(self, endpoint_url: str) -> str:
        """Where it answers, once it does. Raises NotReachable where it does not come up."""
        with self._starting:
            if self._process is None or self._process.poll() is not None:
                self._end()
                self._process = self._start(endpoint_url)
                self._address = self._read_address()
            return self._address

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._starting:
            self._end()

    def _start(self, endpoint_url: str) -> "subprocess.Popen[str]":
        at = ("--target", "local", "--endpoint-url", endpoint_url)
        of = ("--project", self._config.project, "--region", self._config.region)
        by = ("--profile", self._config.profile) if self._config.profile else ()
        return subprocess.Popen(
            [sys.executable, "-m", "stagegate", *at, *of, *by, "console"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            cwd=self._config.root,
            env=os.environ | {"STAGEGATE_DATA": str(self._data)},
            preexec_fn=end_with_parent if sys.platform == "linux" else None,
        )

    def _read_address(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if READY in line:
                return line.partition(READY)[2].strip().rstrip("/")
        raise NotReachable("The console did not start: what the runtime printed says why.")

    def _end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.communicate()
            self._process = None
