"""AWS's event streams: messages with headers and checksums, one after the other, as botocore reads them.

https://docs.aws.amazon.com/lexv2/latest/dg/event-stream-encoding.html
"""

import contextlib
import json
import struct
from binascii import crc32
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

from stagegate.local.service import AWSError

CONTENT_TYPE = "application/vnd.amazon.eventstream"
_TEXT = 7  # the type of a header's value
_PRELUDE, _CHECKSUM = 12, 4  # bytes


async def encoded(
    shape: Any, events: AsyncGenerator[Mapping[str, Mapping[str, Any]], None]
) -> AsyncIterator[bytes]:
    """Each event, `{"PayloadPart": {"Bytes": b"…"}}`, as one message. An AWSError is the last of them."""
    try:
        async with contextlib.aclosing(events):
            async for event in events:
                for name, members in event.items():
                    yield _event(shape.members[name], name, members)
    except AWSError as error:
        content = json.dumps({"Message": error.message, **error.members}).encode()
        headers = {":message-type": "exception", ":exception-type": error.code}
        yield message({**headers, ":content-type": "application/json"}, content)


def message(headers: Mapping[str, str], payload: bytes) -> bytes:
    packed = b"".join(_header(name, value) for name, value in headers.items())
    prelude = struct.pack("!II", _PRELUDE + len(packed) + len(payload) + _CHECKSUM, len(packed))
    whole = prelude + struct.pack("!I", crc32(prelude)) + packed + payload
    return whole + struct.pack("!I", crc32(whole))


def _event(shape: Any, name: str, members: Mapping[str, Any]) -> bytes:
    headers = {":message-type": "event", ":event-type": name}
    for member, value in members.items():
        if shape.members[member].serialization.get("eventpayload"):
            return message({**headers, ":content-type": "application/octet-stream"}, value)
    return message({**headers, ":content-type": "application/json"}, json.dumps(members).encode())


def _header(name: str, value: str) -> bytes:
    text = value.encode()
    return struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", _TEXT, len(text)) + text
