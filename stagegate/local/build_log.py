"""The log of a build: without its secrets, and without what its script says of itself."""

import secrets
from collections.abc import Callable, Iterable

from stagegate.local.log_stream import LogStream
from stagegate.local.service import Runtime

_HIDDEN = "***"


class BuildLog(LogStream):
    """What follows `mark` in a line is not for the log: it says where the script is."""

    def __init__(
        self, runtime: Runtime, *, group: str, stream: str, said: Callable[[list[str]], None]
    ) -> None:
        super().__init__(runtime.aws, group=group, stream=stream)
        self.mark = secrets.token_hex(16)
        self._said = said
        self._hidden: tuple[str, ...] = ()

    def hide(self, values: Iterable[str]) -> None:
        """Strings of the parameter store and of secrets are hidden ("Build specification reference", env)."""
        lines = {line for value in values for line in value.splitlines() if line.strip()}
        self._hidden = tuple(sorted(lines, key=len, reverse=True))

    def write(self, line: str) -> None:
        before, mark, said = line.partition(self.mark)
        if before or not mark:
            for value in self._hidden:
                before = before.replace(value, _HIDDEN)
            super().write(before)
        if mark:
            self._said(said.split())


class Told(LogStream):
    """The output of a command that is not part of the build, kept."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime.aws, group="", stream="")
        self.lines: list[str] = []

    def write(self, line: str) -> None:
        self.lines.append(line)
