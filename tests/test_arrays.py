"""NumPy's archives, read without NumPy."""

import io

import numpy as np
import pytest

from stagegate.arrays import parse, read_archive


def archive(**arrays: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    return content.getvalue()


def test_what_numpy_has_written_is_read() -> None:
    content = archive(table=np.array([[0.5, 0.25], [1, 2]], dtype=np.float32), labels=np.array([3, 4]))

    found = read_archive(content, "table", "labels")

    assert list(found["table"].row(1)) == [1.0, 2.0]
    assert (found["labels"].rows, found["labels"].columns, list(found["labels"].values)) == (2, 1, [3, 4])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no archive", "no NumPy archive with table"),
        (archive(other=np.zeros(1)), "no NumPy archive with table"),
        (archive(table=np.array(["a"])), "expected numbers"),
        (archive(table=np.zeros((1, 2, 3))), "expected numbers in one or two dimensions"),
        (archive(table=np.asfortranarray(np.zeros((2, 3)))), "expected numbers"),
    ],
)
def test_what_is_none_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_archive(content, "table")


@pytest.mark.parametrize(
    "header",
    [
        "__import__('os')",
        "{'descr': '<f4', 'fortran_order': False}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (9,)}",
        "{'descr': [], 'fortran_order': False, 'shape': 9}",
        "(" * 5000,
    ],
)
def test_a_header_is_data_and_is_believed_only_where_it_is_right(header: str) -> None:
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + b"\0\0\0\0"

    with pytest.raises(ValueError):
        parse(content)
