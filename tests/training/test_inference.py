"""The inference handlers: what they take, answer and refuse."""

import io
import json
import runpy
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from training import inference
from training.export import write_model
from training.model import build_network


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> inference.Model:
    """An untrained network for images of 32×32."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    network = build_network("squeezenet1_1", classes=3, image_size=32)
    write_model(
        folder, network, classes=("ant", "bee", "cat"), image_size=32, details={"arch": "squeezenet1_1"}
    )
    return inference.model_fn(str(folder))


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def encoded(image_format: str, size: tuple[int, int] = (40, 30), mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, image_format)
    return buffer.getvalue()


def answer(model: inference.Model, body: bytes, content_type: str) -> list[dict]:  # type: ignore[type-arg]
    images = inference.input_fn(body, content_type)
    return json.loads(inference.output_fn(inference.predict_fn(images, model), "application/json"))[
        "predictions"
    ]


@pytest.mark.parametrize(
    ("body", "content_type", "count"),
    [
        (npy(np.zeros((32, 32, 3), np.uint8)), "application/x-npy", 1),
        (npy(np.zeros((70, 50, 3), np.uint8)), "application/x-npy; charset=binary", 1),
        (npy(np.zeros((5, 8, 8, 3), np.uint8)), "Application/X-NPY", 5),
        (npy(np.zeros((130, 32, 32, 3), np.uint8)), "application/x-npy", 130),
        (encoded("JPEG"), "image/jpeg", 1),
        (encoded("PNG", mode="RGBA"), "image/png", 1),
    ],
)
def test_every_image_gets_its_probabilities(
    model: inference.Model, body: bytes, content_type: str, count: int
) -> None:
    predictions = answer(model, body, content_type)

    assert len(predictions) == count
    for prediction in predictions:
        assert list(prediction) == ["class", "probability", "probabilities"]
        assert list(prediction["probabilities"]) == ["ant", "bee", "cat"]
        assert sum(prediction["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert prediction["probability"] == max(prediction["probabilities"].values())
        assert prediction["probabilities"][prediction["class"]] == prediction["probability"]


def test_an_image_is_answered_the_same_alone_and_in_a_batch(model: inference.Model) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)

    together = answer(model, npy(images), "application/x-npy")
    alone = [answer(model, npy(image), "application/x-npy")[0] for image in images]

    for one, other in zip(alone, together, strict=True):
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)


@pytest.mark.parametrize(
    ("body", "content_type", "status", "message"),
    [
        (b"{}", "application/json", 415, "Content type 'application/json' is not supported; send one of"),
        (b"x", "", 415, "Content type '' is not supported"),
        (b"", "image/png", 400, "The body is empty; send an image"),
        (
            b"no image",
            "image/png",
            400,
            "The body is not a readable PNG image: it is in no known image format",
        ),
        (encoded("JPEG"), "image/png", 400, "The body is not a readable PNG image"),
        (encoded("PNG")[:60], "image/png", 400, "The body is not a readable PNG image"),
        (b"no array", "application/x-npy", 400, "The body is not a numpy array (.npy)"),
        (
            npy(np.zeros((4, 4), np.uint8)),
            "application/x-npy",
            400,
            "Expected uint8 of H×W×3 or N×H×W×3; this array is uint8 of 4×4",
        ),
        (npy(np.zeros((4, 4, 3), np.float32)), "application/x-npy", 400, "this array is float32 of 4×4×3"),
        (npy(np.zeros((0, 4, 4, 3), np.uint8)), "application/x-npy", 400, "this array is uint8 of 0×4×4×3"),
        (npy(np.uint8(3)), "application/x-npy", 400, "this array is uint8 of a single value"),
        (npy(np.array([{}], dtype=object)), "application/x-npy", 400, "Object arrays cannot be loaded"),
    ],
)
def test_a_request_that_cannot_be_answered_says_why(
    body: bytes, content_type: str, status: int, message: str
) -> None:
    with pytest.raises(ValueError) as refused:
        inference.input_fn(body, content_type)

    assert message in str(refused.value)
    assert isinstance(refused.value, inference.InvalidRequest)
    assert refused.value.status_code == status


def test_damaged_bodies_are_refused_and_never_an_error_of_ours() -> None:
    random = np.random.default_rng(0)
    wholes = {
        "image/jpeg": encoded("JPEG"),
        "image/png": encoded("PNG", mode="P"),
        "application/x-npy": npy(np.zeros((2, 8, 8, 3), np.uint8)),
    }
    refused = 0
    for _ in range(200):
        for content_type, whole in wholes.items():
            body = bytearray(whole)
            for place in random.integers(0, min(len(body), 150), 3):
                body[place] = random.integers(256)
            try:
                images = inference.input_fn(bytes(body), content_type)
            except inference.InvalidRequest as error:
                assert error.status_code == 400
                refused += 1
            else:
                assert all(image.dtype == np.uint8 and image.shape[2] == 3 for image in images)

    assert refused > 300


def test_only_json_is_given() -> None:
    assert json.loads(inference.output_fn([], "text/html, */*;q=0.1")) == {"predictions": []}
    with pytest.raises(inference.InvalidRequest, match="Accept 'text/csv' cannot be met") as refused:
        inference.output_fn([], "text/csv")
    assert refused.value.status_code == 406


def test_sagemakers_server_reads_the_status_of_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    class BaseInferenceToolkitError(Exception):
        """The toolkit's own: its server answers 500 for everything else."""

    toolkit = ModuleType("sagemaker_inference.errors")
    toolkit.BaseInferenceToolkitError = BaseInferenceToolkitError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sagemaker_inference", ModuleType("sagemaker_inference"))
    monkeypatch.setitem(sys.modules, "sagemaker_inference.errors", toolkit)
    monkeypatch.setitem(sys.modules, "deployed", ModuleType("deployed"))
    handlers = runpy.run_path(inference.__file__, run_name="deployed")

    with pytest.raises(BaseInferenceToolkitError) as refused:
        handlers["output_fn"]([], "text/csv")

    assert vars(refused.value) == {
        "status_code": 406,
        "message": "Accept 'text/csv' cannot be met; the answer is application/json",
        "phrase": "Accept 'text/csv' cannot be met; the answer is application/json",
    }


def test_the_handlers_stand_alone() -> None:
    source = Path(inference.__file__).read_text()

    assert "from training" not in source
    assert "import torch" not in source
