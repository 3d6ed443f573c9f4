"""CBOR (RFC 8949), as much of it as the smithy-rpc-v2-cbor protocol of newer AWS clients uses."""

import struct
from datetime import UTC, datetime
from typing import Any

CONTENT_TYPE = "application/cbor"

_BREAK = object()
_EPOCH_TIME = 1  # the tag of a time: seconds since 1970
_FLOATS = {25: ">e", 26: ">f", 27: ">d"}
_SIMPLE = {20: False, 21: True, 22: None, 23: None}


def encode(value: Any) -> bytes:
    """`value` of None, bool, int, float, str, bytes, datetime, list and dict."""
    out = bytearray()
    _write(out, value)
    return bytes(out)


def decode(data: bytes) -> Any:
    """The one value that `data` holds; ValueError where it is no CBOR."""
    try:
        value, end = _read(data, 0)
    except (IndexError, struct.error, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"no CBOR: {error}") from error
    if value is _BREAK or end != len(data):
        raise ValueError(f"no CBOR: {len(data) - end} bytes after the end")
    return value


def _write(out: bytearray, value: Any) -> None:
    if value is None:
        out.append(0xF6)
    elif value is True or value is False:
        out.append(0xF5 if value else 0xF4)
    elif isinstance(value, int):
        _write_head(out, 0, value) if value >= 0 else _write_head(out, 1, -1 - value)
    elif isinstance(value, float):
        out += b"\xfb" + struct.pack(">d", value)
    elif isinstance(value, str):
        text = value.encode()
        _write_head(out, 3, len(text))
        out += text
    elif isinstance(value, bytes | bytearray):
        _write_head(out, 2, len(value))
        out += value
    elif isinstance(value, datetime):
        _write_head(out, 6, _EPOCH_TIME)
        _write(out, value.timestamp())
    elif isinstance(value, dict):
        _write_head(out, 5, len(value))
        for key, item in value.items():
            _write(out, key)
            _write(out, item)
    elif isinstance(value, list | tuple):
        _write_head(out, 4, len(value))
        for item in value:
            _write(out, item)
    else:
        raise TypeError(f"{type(value).__name__} has no form in CBOR: {value!r}")


def _write_head(out: bytearray, major: int, number: int) -> None:
    if number < 24:
        out.append(major << 5 | number)
        return
    for code, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if number < 1 << (8 * size):
            out.append(major << 5 | code)
            out += number.to_bytes(size, "big")
            return
    raise ValueError(f"{number} is too large for CBOR")


def _read(data: bytes, at: int) -> tuple[Any, int]:
    major, info = data[at] >> 5, data[at] & 0x1F
    at += 1
    if major == 7:
        return _read_simple(data, at, info)
    if info == 31:
        return _read_indefinite(data, at, major)
    number, at = _read_number(data, at, info)
    if major == 0:
        return number, at
    if major == 1:
        return -1 - number, at
    if major in (2, 3):
        if at + number > len(data):
            raise ValueError("no CBOR: it ends too soon")
        content = data[at : at + number]
        return (content if major == 2 else content.decode()), at + number
    if major == 4:
        items = []
        for _ in range(number):
            item, at = _read(data, at)
            items.append(item)
        return items, at
    if major == 5:
        members = {}
        for _ in range(number):
            key, at = _read(data, at)
            members[key], at = _read(data, at)
        return members, at
    value, at = _read(data, at)
    return (datetime.fromtimestamp(value, UTC) if number == _EPOCH_TIME else value), at


def _read_number(data: bytes, at: int, info: int) -> tuple[int, int]:
    if info < 24:
        return info, at
    size = {24: 1, 25: 2, 26: 4, 27: 8}[info]
    if at + size > len(data):
        raise ValueError("no CBOR: it ends too soon")
    return int.from_bytes(data[at : at + size], "big"), at + size


def _read_simple(data: bytes, at: int, info: int) -> tuple[Any, int]:
    if info == 31:
        return _BREAK, at
    if info in _FLOATS:
        size = struct.calcsize(_FLOATS[info])
        return struct.unpack(_FLOATS[info], data[at : at + size])[0], at + size
    return _SIMPLE[info], at


def _read_indefinite(data: bytes, at: int, major: int) -> tuple[Any, int]:
    items = []
    while True:
        item, at = _read(data, at)
        if item is _BREAK:
            break
        items.append(item)
    if major == 2:
        return b"".join(items), at
    if major == 3:
        return "".join(items), at
    if major == 4:
        return items, at
    return dict(zip(items[::2], items[1::2], strict=True)), at
