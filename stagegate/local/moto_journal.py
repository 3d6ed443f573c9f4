"""The journal of what moto was asked to change: enough to ask it again after a restart.

An entry is the request with its moment. Large bodies lie in files named after their content, below DATA/moto;
everything else is a row in the store.
"""

import asyncio
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stagegate.local.apis import Target
from stagegate.local.messages import HttpRequest
from stagegate.local.moto_moment import Moment
from stagegate.local.store import Store

_STREAM = "moto"
_KEPT_IN_ROW = 4096  # bytes; a larger body of S3 goes into a file
_KEPT_HEADERS = (
    "content-type",
    "content-encoding",
    "content-md5",
    "x-amz-",
    "authorization",
    "smithy-protocol",
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    target: Target
    request: HttpRequest
    moment: Moment

    @classmethod
    def of(cls, target: Target, request: HttpRequest, moment: Moment) -> "Entry":
        return cls(target=target, request=request, moment=moment)


class Journal:
    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    async def add(self, entry: Entry) -> None:
        """Write `entry` to the store; it is on disk when the store has committed."""
        document = {
            "service": entry.target.service,
            "operation": entry.target.operation,
            "protocol": entry.target.protocol,
            "method": entry.request.method,
            "path": entry.request.path,
            "query": entry.request.query,
            "headers": {
                name: value for name, value in entry.request.headers.items() if name.startswith(_KEPT_HEADERS)
            },
            "time": entry.moment.time,
            "seed": entry.moment.seed,
        }
        body = entry.request.body
        if len(body) > _KEPT_IN_ROW:
            document["file"] = await asyncio.to_thread(self._keep, body)
        else:
            document["body"] = _as_text(body)
        self._store.append(_STREAM, document)

    def entries(self) -> Iterator[Entry]:
        for document in self._store.read(_STREAM):
            yield self._entry(document)

    def _entry(self, document: dict[str, Any]) -> Entry:
        body = (self._folder / document["file"]).read_bytes() if "file" in document else document["body"]
        return Entry(
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
        )

    def _keep(self, body: bytes) -> str:
        """The name of the file that holds `body`; whole, or not there at all."""
        name = hashlib.sha256(body).hexdigest()
        path = self._folder / name
        if not path.exists():
            unfinished = path.with_suffix(".part")
            unfinished.write_bytes(body)
            unfinished.replace(path)
        return name


def _as_text(body: bytes) -> str | bytes:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body
