"""The handlers of a model server; the process itself is tested through the endpoints that it serves."""

import io
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from stagegate.local.sagemaker.model_server import CSV, JSON, NPY, Answer, Handlers, load_module


def module(**functions: Any) -> ModuleType:
    made = ModuleType("inference")
    made.__dict__.update(functions)
    return made


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.fixture
def doubling() -> Handlers:
    """Nothing but a model: the rest is the toolkit's defaults."""
    return Handlers(module(model_fn=lambda model_dir: lambda data: data * 2), model_dir="/model")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (JSON, b"[[1, 2], [3, 4]]"),
        (f"{JSON}; charset=utf-8", b"[[1, 2], [3, 4]]"),
        (CSV, b"1,2\n3,4\n"),
        (NPY, npy([[1, 2], [3, 4]])),
    ],
)
def test_arrays_are_read_by_default(doubling: Handlers, content_type: str, body: bytes) -> None:
    answer = doubling.answer(body, content_type=content_type, accept=JSON)

    assert (answer.status, answer.content_type) == (200, JSON)
    assert json.loads(answer.body) == [[2, 4], [6, 8]]


def test_arrays_are_written_by_default(doubling: Handlers) -> None:
    as_csv = doubling.answer(b"[[1, 2], [3, 4]]", content_type=JSON, accept=CSV)
    as_npy = doubling.answer(b"[[1, 2], [3, 4]]", content_type=JSON, accept=NPY)

    assert as_csv == Answer(status=200, content_type=CSV, body=b"2,4\n6,8\n")
    assert np.load(io.BytesIO(as_npy.body)).tolist() == [[2, 4], [6, 8]]


@pytest.mark.parametrize(
    ("content_type", "accept", "body", "status", "message"),
    [
        ("image/gif", JSON, b"GIF", 415, "Content type image/gif is not supported"),
        (JSON, "image/gif", b"[1]", 406, "Accept image/gif is not supported"),
        (JSON, JSON, b"{", 400, "The body is not valid application/json"),
        (JSON, JSON, b"\xff", 400, "The body is said to be application/json but is not UTF-8"),
        (NPY, JSON, b"junk", 400, "The body is not valid application/x-npy"),
    ],
)
def test_what_the_defaults_cannot_read_is_a_client_error(
    doubling: Handlers, content_type: str, accept: str, body: bytes, status: int, message: str
) -> None:
    answer = doubling.answer(body, content_type=content_type, accept=accept)

    assert answer.status == status
    assert answer.body.decode().startswith(message)


def test_a_handler_that_takes_one_more_gets_the_context() -> None:
    handlers = Handlers(
        module(
            model_fn=lambda model_dir, context: context.system_properties["model_dir"],
            transform_fn=lambda model, data, content_type, accept: (f"{model} {data}", "text/plain"),
        ),
        model_dir="/model",
    )

    assert handlers.answer(b"x", content_type=JSON, accept=JSON) == Answer(
        status=200, content_type="text/plain", body=b"/model x"
    )


def test_without_a_model_fn_the_error_says_how_to_write_one() -> None:
    with pytest.raises(NotImplementedError, match="has no model_fn: write one"):
        Handlers(None, model_dir="/model")


def test_an_output_that_is_no_text_is_a_server_error() -> None:
    handlers = Handlers(
        module(model_fn=lambda model_dir: sum, output_fn=lambda prediction, accept: prediction),
        model_dir="/model",
    )

    answer = handlers.answer(b"[1, 2]", content_type=JSON, accept=JSON)

    assert answer.status == 500
    assert answer.body.decode().startswith("output_fn gave int64; it should give str or bytes\nTraceback")


def test_the_users_module_finds_its_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "neighbour_of_serving.py").write_text("NAME = 'next door'")
    (tmp_path / "serving_here.py").write_text("from neighbour_of_serving import NAME")

    loaded = load_module(tmp_path, "serving_here.py")

    assert loaded is not None
    assert loaded.NAME == "next door"
    assert load_module(tmp_path, "none.py") is None
