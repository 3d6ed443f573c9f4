"""The SageMaker inference handlers: a standalone file that goes into model.tar.gz as code/inference.py.

`model_fn` loads the ONNX model, `input_fn` reads images from a request, `predict_fn` classifies them, and
`output_fn` writes the answer. Preprocessing and evaluation use the same functions, so that a model is
trained, judged and served on images that were prepared in one and the same way.
"""

import io
import json
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

try:  # in SageMaker's containers: the server answers with this error's status instead of a 500
    from sagemaker_inference.errors import BaseInferenceToolkitError as ToolkitError
except ImportError:
    ToolkitError = Exception

JSON = "application/json"
NPY = "application/x-npy"
IMAGE_FORMATS = {"image/jpeg": "JPEG", "image/jpg": "JPEG", "image/png": "PNG"}
MAX_PIXELS = 64_000_000  # of one image: what decodes to more is an attack or a mistake
BATCH = 64  # images that go through the network at once

Pixels = NDArray[np.uint8]


class InvalidRequest(ValueError, ToolkitError):  # type: ignore[misc, valid-type]
    """A request that cannot be answered, and the HTTP status that says why."""

    def __init__(self, status_code: int, message: str) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.message = message
        self.phrase = message


@dataclass(frozen=True, kw_only=True)
class Model:
    """The network, the names of its classes and the size of the images that it was trained on."""

    session: Any
    classes: tuple[str, ...]
    image_size: int


def model_fn(model_dir: str, context: object = None) -> Model:
    """The model in an unpacked model.tar.gz."""
    import onnxruntime  # here, since preprocessing uses this file without it

    folder = Path(model_dir)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", 0)) or os.cpu_count() or 1
    options.inter_op_num_threads = 1
    # Threads that spin between two requests take the processor from those that have one.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        folder / "model.onnx",
        options,
        providers=[
            provider
            for provider in ("CUDAExecutionProvider", "CPUExecutionProvider")
            if provider in onnxruntime.get_available_providers()
        ],
    )
    settings = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    classes = tuple(json.loads((folder / "classes.json").read_text(encoding="utf-8")))
    return Model(session=session, classes=classes, image_size=settings["image_size"])


def input_fn(body: bytes | bytearray | str, content_type: str, context: object = None) -> list[Pixels]:
    """The images in a request: H×W×3 each, of any size. Raises InvalidRequest (a ValueError)."""
    kind = content_type.partition(";")[0].strip().lower() if content_type else ""
    if kind != NPY and kind not in IMAGE_FORMATS:
        known = ", ".join((NPY, *IMAGE_FORMATS))
        raise InvalidRequest(415, f"Content type {content_type!r} is not supported; send one of {known}")
    if isinstance(body, str):
        raise InvalidRequest(400, f"The body of {kind} must be bytes, not text")
    if not body:
        raise InvalidRequest(400, "The body is empty; send an image")
    return (
        _images_of_array(bytes(body)) if kind == NPY else [_image_of_file(bytes(body), IMAGE_FORMATS[kind])]
    )


def predict_fn(images: Sequence[Pixels], model: Model, context: object = None) -> list[dict[str, float]]:
    """The probability of each class, for each image."""
    return [
        {name: float(value) for name, value in zip(model.classes, row, strict=True)}
        for start in range(0, len(images), BATCH)
        for row in _probabilities(images[start : start + BATCH], model)
    ]


def output_fn(predictions: Sequence[dict[str, float]], accept: str = JSON, context: object = None) -> str:
    """The answer as JSON: for each image its class, that class's probability, and all probabilities."""
    accepted = {part.partition(";")[0].strip().lower() for part in (accept or "*/*").split(",")}
    if not accepted & {JSON, "application/*", "*/*"}:
        raise InvalidRequest(406, f"Accept {accept!r} cannot be met; the answer is {JSON}")
    answers = []
    for probabilities in predictions:
        best = max(probabilities, key=probabilities.__getitem__)
        answers.append({"class": best, "probability": probabilities[best], "probabilities": probabilities})
    return json.dumps({"predictions": answers})


def rgb(image: Image.Image) -> Image.Image:
    """The image upright and in RGB, whatever it was: grey, 16 bit, palette, CMYK, transparent (on white)."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        grey = np.asarray(image, dtype=np.float64)
        image = Image.fromarray((grey / (257.0 if grey.max() > 255 else 1.0)).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.new("RGBA", layer.size, "white")
        image.alpha_composite(layer)
    return image.convert("RGB")


def fit(image: Image.Image, size: int) -> Pixels:
    """A square of size×size pixels: the middle of an RGB image, made smaller or larger."""
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.uint8)


def decode(content: bytes, formats: Sequence[str] | None = None) -> Image.Image:
    """An image file as an upright RGB image. Raises ValueError with the reason where that is impossible."""
    try:
        with Image.open(io.BytesIO(content), formats=formats) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width}×{image.height} pixels are more than {MAX_PIXELS:,}")
            return rgb(image)
    except UnidentifiedImageError as error:
        raise ValueError("it is in no known image format") from error
    except (
        OSError,
        SyntaxError,
        Image.DecompressionBombError,
        EOFError,
        IndexError,
        KeyError,
        struct.error,
        zlib.error,
    ) as error:
        raise ValueError(str(error) or type(error).__name__) from error


def _image_of_file(body: bytes, image_format: str) -> Pixels:
    try:
        return np.asarray(decode(body, [image_format]), dtype=np.uint8)
    except ValueError as error:
        raise InvalidRequest(400, f"The body is not a readable {image_format} image: {error}") from error


def _images_of_array(body: bytes) -> list[Pixels]:
    try:
        array = np.load(io.BytesIO(body), allow_pickle=False)
    except Exception as error:  # whatever numpy's parser stumbles over is in what was sent
        raise InvalidRequest(400, f"The body is not a numpy array (.npy): {error}") from error
    if not isinstance(array, np.ndarray):
        raise InvalidRequest(400, "The body is an archive of arrays (.npz); send one array (.npy)")
    batch = array[None] if array.ndim == 3 else array
    if array.dtype != np.uint8 or batch.ndim != 4 or batch.shape[-1] != 3 or 0 in batch.shape:
        shape = "×".join(map(str, array.shape)) or "a single value"
        raise InvalidRequest(
            400, f"Expected uint8 of H×W×3 or N×H×W×3; this array is {array.dtype} of {shape}"
        )
    return list(batch)


def _probabilities(images: Sequence[Pixels], model: Model) -> NDArray[np.float32]:
    size = model.image_size
    batch = [
        image if image.shape == (size, size, 3) else fit(Image.fromarray(image), size) for image in images
    ]
    result: NDArray[np.float32] = model.session.run(["probabilities"], {"images": np.stack(batch)})[0]
    return result
