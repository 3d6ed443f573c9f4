"""The journal of what moto was asked to change: enough to ask it again after a restart.

An entry is the request with its moment. Large bodies lie in files named after their content, below DATA/moto;
everything else is a row in the store.
"""

import asyncio
import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stagegate.local.apis import Target
from stagegate.local.messages import HttpRequest
from stagegate.local.moto_moment import Moment
from stagegate.local.moto_objects import Objects
from stagegate.local.store import Store

_STREAM = "moto"
_KEPT_IN_ROW = 4096  # bytes; a larger body goes into a file
_CREDENTIAL = re.compile(r"^AWS4-HMAC-SHA256 Credential=[^,]+")
_LEFT_OUT = re.compile(
    r"accept.*|amz-sdk-.*|connection|content-length|expect|host|user-agent|x-amz-date|x-amz-security-token|x-amzn-trace-id"
    r"|if-.*"  # the condition was met; the object that it was about may have left the journal
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    number: int
    target: Target
    request: HttpRequest
    moment: Moment
    file: str | None


class Journal:
    """Written by the event loop's thread alone."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._objects = Objects()
        self._file_of: dict[int, str] = {}
        self._uses: Counter[str] = Counter()
        """How many entries need each file."""
        folder.mkdir(parents=True, exist_ok=True)

    def birth(self) -> Moment:
        """When moto first started on this data directory: what it makes by itself, it made then."""
        document = self._store.get("moto", "birth")
        if document is None:
            moment = Moment.now()
            document = {"time": moment.time, "seed": moment.seed}
            self._store.put("moto", "birth", document)
        return Moment(time=document["time"], seed=document["seed"])

    def entries(self) -> Iterator[Entry]:
        """All of them, in order; `replayed` is told of each."""
        for number, document in self._store.read_numbered(_STREAM):
            yield self._entry(number, document)

    def replayed(self, entry: Entry, answer: bytes) -> None:
        """moto was asked again."""
        if entry.file is not None:
            self._uses[entry.file] += 1
        self._remember(entry.number, entry.file, entry.target, entry.request, answer)

    def tidy(self) -> None:
        """After the replay: take away files that no entry needs. A kill may have come between the two."""
        for path in self._folder.iterdir():
            if path.name not in self._uses:
                path.unlink()

    async def add(self, target: Target, request: HttpRequest, moment: Moment, answer: bytes) -> None:
        """Write down a request that has succeeded; it is on disk when the store has committed."""
        superseded: list[int] = []
        if target.service == "s3":
            superseded, needed = self._objects.superseded(target.operation, request)
            if not needed:
                self._remove(superseded, target, request)
                return
        document = _document(target, request, moment)
        file = None
        if len(request.body) > _KEPT_IN_ROW:
            file = document["file"] = await asyncio.to_thread(_content_name, request.body)
            self._uses[file] += 1  # before it is written, so that nobody takes it away
            try:
                await asyncio.to_thread(self._keep, file, request.body)
            except OSError as error:  # moto has done it already; everybody would see what a restart loses
                self._store.on_failure(error)
                raise
        else:
            document["body"] = _as_text(request.body)
        number = self._store.append(_STREAM, document)
        self._remove(superseded, target, request)
        self._remember(number, file, target, request, answer)

    def _remember(
        self, number: int, file: str | None, target: Target, request: HttpRequest, answer: bytes
    ) -> None:
        if file is not None:
            self._file_of[number] = file
        if target.service == "s3":
            self._objects.add(number, target.operation, request, answer)

    def _remove(self, numbers: list[int], target: Target, request: HttpRequest) -> None:
        for number in numbers:
            self._store.delete_entry(_STREAM, number)
            self._objects.forget(number, target.operation, request)
            file = self._file_of.pop(number, None)
            if file is not None:
                self._uses[file] -= 1
                asyncio.get_running_loop().create_task(self._take_away(file))

    async def _take_away(self, file: str) -> None:
        """The file goes once the store no longer names it, unless it came into use again."""
        await self._store.committed()
        if self._uses[file] == 0:
            del self._uses[file]
            (self._folder / file).unlink(missing_ok=True)

    def _entry(self, number: int, document: dict[str, Any]) -> Entry:
        file = document.get("file")
        body = document["body"] if file is None else (self._folder / file).read_bytes()
        return Entry(
            number=number,
            target=Target(
                service=document["service"],
                operation=document["operation"],
                protocol=document["protocol"],
                path_parameters={},
            ),
            request=HttpRequest(
                method=document["method"],
                path=document["path"],
                query=document["query"],
                headers=document["headers"],
                body=body.encode() if isinstance(body, str) else body,
            ),
            moment=Moment(time=document["time"], seed=document["seed"]),
            file=file,
        )

    def _keep(self, file: str, body: bytes) -> None:
        """Under that name, whole or not at all."""
        path = self._folder / file
        if not path.exists():
            unfinished = path.with_suffix(".part")
            unfinished.write_bytes(body)
            unfinished.replace(path)


def _document(target: Target, request: HttpRequest, moment: Moment) -> dict[str, Any]:
    headers = {name: value for name, value in request.headers.items() if not _LEFT_OUT.fullmatch(name)}
    if credential := _CREDENTIAL.match(headers.get("authorization", "")):
        headers["authorization"] = f"{credential[0]}, "
    return {
        "service": target.service,
        "operation": target.operation,
        "protocol": target.protocol,
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "headers": headers,
        "time": moment.time,
        "seed": moment.seed,
    }


def _content_name(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _as_text(body: bytes) -> str | bytes:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body
