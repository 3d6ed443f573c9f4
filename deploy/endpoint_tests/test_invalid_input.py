"""What is wrong with a request is the caller's fault (4xx), never an error of the endpoint's own (5xx)."""

import io
import struct
import zlib

import numpy as np
import pytest
from endpoint import NPY, Endpoint, Sample, npy
from PIL import Image

BODY_BYTES = 6 * 1024 * 1024
"""SageMaker takes no longer body."""


def picture(kind: str) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (64, 64), "green").save(content, kind)
    return content.getvalue()


def objects() -> bytes:
    content = io.BytesIO()
    np.save(content, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return content.getvalue()


def archive() -> bytes:
    content = io.BytesIO()
    np.savez(content, np.zeros((64, 64, 3), np.uint8))
    return content.getvalue()


def bomb(side: int = 60_000) -> bytes:
    """A PNG file of a few bytes that says that it has billions of pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


def boast() -> bytes:
    """An array that says that it has petabytes, and has nothing."""
    content = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": (10**8, 10**8, 3)}
    np.lib.format.write_array_header_1_0(content, header)
    return content.getvalue()


IMAGE = np.zeros((64, 64, 3), np.uint8)
INVALID = {
    "an empty body": (b"", "image/jpeg"),
    "an empty array body": (b"", NPY),
    "text as an image": (b"not an image", "image/jpeg"),
    "text as a PNG image": ("Grüße".encode(), "image/png"),
    "text as an array": (b"[[1, 2], [3, 4]]", NPY),
    "bytes without meaning": (bytes(range(256)) * 8, "image/jpeg"),
    "half a PNG image": (picture("PNG")[:40], "image/png"),
    "half a JPEG image": (picture("JPEG")[:300], "image/jpeg"),
    "PNG said to be JPEG": (picture("PNG"), "image/jpeg"),
    "JPEG said to be PNG": (picture("JPEG"), "image/png"),
    "GIF said to be PNG": (picture("GIF"), "image/png"),
    "an image said to be an array": (picture("PNG"), NPY),
    "an array said to be an image": (npy(IMAGE), "image/png"),
    "an image of billions of pixels": (bomb(), "image/png"),
    "no array": (b"\x93NUMPY", NPY),
    "half an array": (npy(IMAGE)[:-100], NPY),
    "an array of petabytes": (boast(), NPY),
    "an archive of arrays": (archive(), NPY),
    "an array of objects": (objects(), NPY),
    "an array of a single value": (npy(np.uint8(1)), NPY),
    "an array of two dimensions": (npy(IMAGE[..., 0]), NPY),
    "an array of five dimensions": (npy(IMAGE[None, None]), NPY),
    "an array of four channels": (npy(np.zeros((64, 64, 4), np.uint8)), NPY),
    "an array of fractions": (npy(IMAGE.astype(np.float32)), NPY),
    "an array of NaN": (npy(np.full((64, 64, 3), np.nan, np.float32)), NPY),
    "an array of 64-bit integers": (npy(IMAGE.astype(np.int64)), NPY),
    "an array of complex numbers": (npy(IMAGE.astype(np.complex64)), NPY),
    "an empty batch": (npy(IMAGE[None][:0]), NPY),
    "an image without pixels": (npy(IMAGE[:0]), NPY),
    "JSON": (b"{}", "application/json"),
    "CSV": (b"1,2,3", "text/csv"),
    "an unknown content type": (picture("PNG"), "image/x-unknown"),
    "a content type that is none": (picture("PNG"), "nonsense"),
    "a body that is too long": (bytes(BODY_BYTES + 1), NPY),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_input_is_the_callers_fault(endpoint: Endpoint, name: str) -> None:
    body, content_type = INVALID[name]

    status = endpoint.status_of(body, content_type)

    assert 400 <= status < 500, f"{name}, sent as {content_type}, is answered with {status} and not with 4xx"


def test_an_accept_that_cannot_be_met_is_no_fault_of_the_endpoint(endpoint: Endpoint, sample: Sample) -> None:
    status = endpoint.status_of(npy(sample.images[0]), NPY, accept="application/xml")

    # A server may refuse (406), or answer in the form that it has.
    assert status == 200 or 400 <= status < 500, f"Accept: application/xml is answered with {status}"


def test_the_endpoint_serves_on_after_invalid_input(endpoint: Endpoint, sample: Sample) -> None:
    for body, content_type in (INVALID["text as an image"], INVALID["an image of billions of pixels"]):
        endpoint.status_of(body, content_type)

    assert endpoint.status_of(npy(sample.images[0]), NPY) == 200
