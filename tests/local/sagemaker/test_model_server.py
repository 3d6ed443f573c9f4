"""The handlers of a model server; the process itself is tested through the endpoints that it serves."""

import asyncio
import io
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from stagegate.local.sagemaker.inference_handlers import CSV, JSON, NPY, Answer, Handlers, Question
from stagegate.local.sagemaker.model_server import Batches, load_module


def module(**functions: Any) -> ModuleType:
    made = ModuleType("inference")
    made.__dict__.update(functions)
    return made


def asked(body: bytes, *, content_type: str = JSON, accept: str = JSON) -> Question:
    return Question(body=body, content_type=content_type, accept=accept)


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
    answer = doubling.answer(asked(body, content_type=content_type, accept=JSON))

    assert (answer.status, answer.content_type) == (200, JSON)
    assert json.loads(answer.body) == [[2, 4], [6, 8]]


def test_arrays_are_written_by_default(doubling: Handlers) -> None:
    as_csv = doubling.answer(asked(b"[[1, 2], [3, 4]]", content_type=JSON, accept=CSV))
    as_npy = doubling.answer(asked(b"[[1, 2], [3, 4]]", content_type=JSON, accept=NPY))

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
    answer = doubling.answer(asked(body, content_type=content_type, accept=accept))

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

    assert handlers.answer(asked(b"x", content_type=JSON, accept=JSON)) == Answer(
        status=200, content_type="text/plain", body=b"/model x"
    )


def test_without_a_model_fn_the_error_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(NotImplementedError, match="has no model_fn: write one"):
        Handlers(None, model_dir=str(tmp_path))


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_a_model_in_torchscript_needs_no_code(tmp_path: Path) -> None:
    import torch

    linear = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Dropout(0.9))
    with torch.no_grad():
        linear[0].weight[:], linear[0].bias[:] = torch.tensor([[1.0, 10.0]]), 0.5
    torch.jit.save(torch.jit.script(linear), str(tmp_path / "net.pth"))
    handlers = Handlers(None, model_dir=str(tmp_path))

    as_json = handlers.answer(asked(b"[[1, 2], [3, 4]]"))
    as_npy = handlers.answer(asked(npy(np.float32([[1, 2]])), content_type=NPY, accept="image/gif, text/csv"))
    (tmp_path / "other.pt").write_bytes(b"")

    assert json.loads(as_json.body) == [[21.5], [43.5]]
    assert as_npy == Answer(status=200, content_type=CSV, body=b"21.5\n")
    with pytest.raises(ValueError, match=r"Exactly one .pth or .pt file is required .*'net.pth', 'other.pt'"):
        Handlers(None, model_dir=str(tmp_path))


def test_transform_fn_stands_alone() -> None:
    with pytest.raises(ValueError, match="Cannot use transform_fn implementation in conjunction with"):
        Handlers(module(model_fn=len, transform_fn=print, output_fn=print), model_dir="/model")


@pytest.fixture
def calls() -> list[list[int]]:
    return []


@pytest.fixture
def halving(calls: list[list[int]]) -> Handlers:
    """Keeps the shapes that its model is asked with, and refuses zeros."""

    def predict_fn(data: Any, model: Any) -> Any:
        calls.append(list(data.shape))
        if not data.all():
            raise ValueError("a zero")
        return data / 2

    return Handlers(module(model_fn=lambda model_dir: None, predict_fn=predict_fn), model_dir="/model")


def test_rows_of_several_requests_go_to_the_model_together(halving: Handlers, calls: list[list[int]]) -> None:
    answers = halving.answers(
        [
            asked(b"[[2, 4]]"),
            asked(b"{"),
            asked(b"[[6, 8], [10, 12]]"),
            asked(b"[[2, 2, 2]]"),
            asked(b"[[14, 16]]", accept=CSV),
            asked(b"[2, 4]"),
            asked(b"[2, 4]"),
        ]
    )

    assert calls == [[4, 2], [1, 3], [2], [2]]
    assert [answer.status for answer in answers] == [200, 400, 200, 200, 200, 200, 200]
    assert [answer.body for answer in answers if answer.status == 200] == [
        *(b"[[1.0, 2.0]]", b"[[3.0, 4.0], [5.0, 6.0]]", b"[[1.0, 1.0, 1.0]]", b"7.0,8.0\n"),
        *(b"[1.0, 2.0]", b"[1.0, 2.0]"),
    ]


def test_of_requests_that_go_together_one_fails_alone(halving: Handlers, calls: list[list[int]]) -> None:
    answers = halving.answers([asked(b"[[2]]"), asked(b"[[0]]"), asked(b"[[4]]")])

    assert [answer.status for answer in answers] == [200, 500, 200]
    assert (answers[0].body, answers[2].body) == (b"[[1.0]]", b"[[2.0]]")
    assert calls == [[3, 1], [1, 1], [1, 1], [1, 1]]


def test_a_model_that_answers_otherwise_is_asked_for_each() -> None:
    handlers = Handlers(
        module(model_fn=lambda _: None, predict_fn=lambda data, _: data.sum(axis=0)), model_dir="/model"
    )

    answers = handlers.answers(
        [asked(b"[[1, 2], [3, 4]]"), asked(b"[[5, 6]]"), asked(b"[[1, 2, 3], [3, 4, 5]]")]
    )

    assert [answer.body for answer in answers] == [b"[4, 6]", b"[5, 6]", b"[4, 6, 8]"]


async def test_who_waits_while_the_workers_are_busy_goes_together() -> None:
    went: list[int] = []
    begun, free = asyncio.Event(), asyncio.Event()

    async def answers(together: list[Question]) -> list[Answer]:
        went.append(len(together))
        begun.set()
        await free.wait()
        return [Answer(status=200, content_type=JSON, body=one.body) for one in together]

    batches = Batches(answers, workers=1, size=3, delay=0)
    questions = [asked(str(number).encode()) for number in range(6)]
    asking = [asyncio.create_task(batches.answer(question)) for question in questions]
    await begun.wait()
    asking[4].cancel()
    free.set()
    answered = await asyncio.gather(*asking, return_exceptions=True)

    assert sum(went) == 6
    assert max(went) == 3
    assert [answer.body for answer in answered if isinstance(answer, Answer)] == [
        b"0",
        b"1",
        b"2",
        b"3",
        b"5",
    ]


async def test_a_batch_waits_for_more_where_it_may() -> None:
    went: list[int] = []

    async def answers(together: list[Question]) -> list[Answer]:
        went.append(len(together))
        if 1 in went:
            raise TimeoutError
        return [Answer(status=200, content_type=JSON, body=b"") for _ in together]

    batches = Batches(answers, workers=1, size=2, delay=0.05)
    first = asyncio.create_task(batches.answer(asked(b"1")))
    await asyncio.sleep(0.01)
    await asyncio.gather(first, batches.answer(asked(b"2")))
    with pytest.raises(TimeoutError):
        await batches.answer(asked(b"3"))

    assert went == [2, 1]


def test_an_output_that_is_no_text_is_a_server_error() -> None:
    handlers = Handlers(
        module(model_fn=lambda model_dir: sum, output_fn=lambda prediction, accept: prediction),
        model_dir="/model",
    )

    answer = handlers.answer(asked(b"[1, 2]", content_type=JSON, accept=JSON))

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
