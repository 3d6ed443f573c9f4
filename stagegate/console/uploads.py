"""A form of ours with a picture in it (multipart/form-data, RFC 7578)."""

import hmac
import re
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request

from stagegate.console.pages import Console

LARGEST = 6_291_456
"""Bytes that InvokeEndpoint takes."""
_ROOM = 65_536
"""For the form's other fields."""
_NAME = re.compile(rb'[; ]name="([^"\r\n]*)"')
_FILE = re.compile(rb'filename="((?:[^"\\\r\n]|\\.)*)"')


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A file, under the name that it has on the machine of whoever sent it."""

    name: str
    content: bytes


async def uploaded(request: Request, field: str) -> Upload:
    """The file in `field`. Raises HTTPException for a form that is not our own, and for one without it."""
    console: Console = request.app.state.console
    if int(request.headers.get("content-length", LARGEST + _ROOM + 1)) > LARGEST + _ROOM:
        raise HTTPException(413, f"An endpoint takes at most {LARGEST:,} bytes.")
    boundary = re.search(
        r'multipart/form-data;.*boundary="?([^";]+)', request.headers.get("content-type", "")
    )
    if boundary is None:
        raise HTTPException(400, "A file is sent as multipart/form-data.")
    parts = parse(await request.body(), boundary[1].encode("latin-1"))
    token = parts.get("form_token", Upload(name="", content=b"")).content
    is_ours = hmac.compare_digest(token, console.form_token.encode())
    if not is_ours or request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise HTTPException(403, "The form is not from this console's own page: open the page again.")
    if field not in parts or not parts[field].content:
        raise HTTPException(400, "Choose a picture first.")
    return parts[field]


def parse(body: bytes, boundary: bytes) -> dict[str, Upload]:
    """The parts by their names; of several of one name the last."""
    found = {}
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary)[1:]:
        head, _, content = part.partition(b"\r\n\r\n")
        if name := _NAME.search(head):
            file = _FILE.search(head)
            file_name = file[1].decode(errors="replace") if file else ""
            found[name[1].decode(errors="replace")] = Upload(name=file_name, content=content)
    return found
