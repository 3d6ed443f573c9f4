"""What is wrong with a request is the caller's fault (4xx), never an error of the endpoint's own (5xx)."""

import io

import numpy as np
import pytest
from endpoint import Endpoint, Sample, npy
from PIL import Image


def png() -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (64, 64), "green").save(content, "PNG")
    return content.getvalue()


def objects() -> bytes:
    content = io.BytesIO()
    np.save(content, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return content.getvalue()


INVALID = {
    "no image": (b"not an image", "image/jpeg"),
    "half an image": (png()[:40], "image/png"),
    "another format than said": (png(), "image/jpeg"),
    "no array": (b"\x93NUMPY", "application/x-npy"),
    "an array of objects": (objects(), "application/x-npy"),
    "an array of two dimensions": (npy(np.zeros((64, 64), np.uint8)), "application/x-npy"),
    "an array of fractions": (npy(np.zeros((64, 64, 3), np.float32)), "application/x-npy"),
    "an empty batch": (npy(np.zeros((0, 64, 64, 3), np.uint8)), "application/x-npy"),
    "an unknown content type": (b"{}", "application/json"),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_input_is_the_callers_fault(endpoint: Endpoint, name: str) -> None:
    body, content_type = INVALID[name]

    assert 400 <= endpoint.status_of(body, content_type) < 500


def test_the_endpoint_serves_on_after_invalid_input(endpoint: Endpoint, sample: Sample) -> None:
    endpoint.status_of(b"not an image", "image/jpeg")

    assert endpoint.status_of(npy(sample.images[0]), "application/x-npy") == 200
