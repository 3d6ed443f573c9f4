"""The arrays in a NumPy archive (.npz), read without NumPy: whoever shows an evaluation need not install it.

The format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import ast
import io
import struct
import sys
import zipfile
import zlib
from array import array
from dataclasses import dataclass
from typing import Any

LARGEST = 256 * 1024 * 1024
"""Bytes of an array when unpacked: an archive of a few bytes may say that it holds terabytes."""
_MAGIC = b"\x93NUMPY"
_TYPES = {"<f4": "f", "<f8": "d", "<i4": "i", "<i8": "q"}


@dataclass(frozen=True, kw_only=True)
class Table:
    """An array of one or two dimensions; one of one dimension has rows of one value."""

    rows: int
    columns: int
    values: "array[Any]"

    def row(self, number: int) -> "array[Any]":
        return self.values[number * self.columns : (number + 1) * self.columns]


def read_archive(content: bytes, *names: str) -> dict[str, Table]:
    """The arrays of these names. Raises ValueError where one is not there, or not of numbers."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return {name: _read(archive, name) for name in names}
    except (zipfile.BadZipFile, KeyError, zlib.error, NotImplementedError, EOFError) as error:
        raise ValueError(f"no NumPy archive with {', '.join(names)}: {error}") from error


def _read(archive: zipfile.ZipFile, name: str) -> Table:
    size = archive.getinfo(f"{name}.npy").file_size
    if size > LARGEST:
        raise ValueError(f"'{name}' has {size:,} bytes, more than {LARGEST:,}")
    return parse(archive.read(f"{name}.npy"))


def parse(content: bytes) -> Table:
    """One .npy file. Raises ValueError for what is none, and for types and shapes other than ours."""
    if content[:6] != _MAGIC or len(content) < 12:
        raise ValueError("not a .npy file")
    length, start = (
        (struct.unpack_from("<H", content, 8)[0], 10)
        if content[6] == 1
        else (struct.unpack_from("<I", content, 8)[0], 12)
    )
    try:
        header = ast.literal_eval(content[start : start + length].decode("latin-1").strip())
        kind, shape, is_fortran = header["descr"], header["shape"], header["fortran_order"]
    except (SyntaxError, KeyError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"the header of the .npy file cannot be read: {error}") from error
    is_known = kind in tuple(_TYPES) and not is_fortran and isinstance(shape, tuple) and 1 <= len(shape) <= 2
    if not is_known or not all(isinstance(length, int) for length in shape):
        raise ValueError(f"expected numbers in one or two dimensions, got {kind!r} of shape {shape!r}")
    values = array(_TYPES[kind])
    values.frombytes(content[start + length :])
    if sys.byteorder == "big":
        values.byteswap()
    rows, columns = (*shape, 1)[:2]
    if rows * columns != len(values):
        raise ValueError(f"expected {rows} × {columns} values, got {len(values)}")
    return Table(rows=rows, columns=columns, values=values)
