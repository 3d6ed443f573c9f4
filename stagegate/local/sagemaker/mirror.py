"""A folder of a job and a prefix in S3 in step: checkpoints, and outputs that are uploaded continuously."""

import asyncio
import contextlib
from pathlib import Path

from stagegate.local import s3
from stagegate.local.service import Aws

_SECONDS = 5.0


class Mirror:
    """Keeps a prefix in S3 in step with a folder: what is new or has changed is uploaded."""

    def __init__(self, aws: Aws, folder: Path, uri: str) -> None:
        self._aws, self._folder, self._uri = aws, folder, uri.rstrip("/")
        self._seen: dict[Path, tuple[int, int]] = {}

    async def download(self) -> None:
        """What S3 has; but what is in the folder already, left by an interrupted job, is newer."""
        self._folder.mkdir(parents=True, exist_ok=True)
        await self.upload()
        await s3.download(self._aws, f"{self._uri}/", self._folder)
        self._seen = dict(self._state())

    async def upload(self) -> None:
        if not self._folder.is_dir():
            return
        for path, state in self._state():
            if self._seen.get(path) != state:
                with contextlib.suppress(FileNotFoundError):  # the job has taken it away meanwhile
                    content = await asyncio.to_thread(path.read_bytes)
                    await s3.write(self._aws, f"{self._uri}/{path.relative_to(self._folder)}", content)
                    self._seen[path] = state

    async def keep(self) -> None:
        while True:
            await asyncio.sleep(_SECONDS)
            await self.upload()

    def _state(self) -> list[tuple[Path, tuple[int, int]]]:
        found = []
        for path in sorted(self._folder.rglob("*")):
            with contextlib.suppress(FileNotFoundError):
                if path.is_file() and path.suffix != ".partial":
                    status = path.stat()
                    found.append((path, (status.st_mtime_ns, status.st_size)))
        return found
