"""The functions of `inference.py`, and what SageMaker's inference toolkits do where it leaves one out.

`model_fn`, `input_fn`, `predict_fn`, `output_fn`, or `transform_fn` in place of the last three. Arrays come
and go as JSON, CSV and NPY; a model in TorchScript is loaded, and asked with tensors, without any code.
https://sagemaker.readthedocs.io/en/v2.230.0/frameworks/pytorch/using_pytorch.html#serve-a-pytorch-model
"""

import inspect
import io
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from pathlib import Path
from types import ModuleType
from typing import Any

JSON, CSV, NPY = "application/json", "text/csv", "application/x-npy"
_TEXT_TYPES = (JSON, CSV)  # the toolkit hands these to input_fn as text


class Unusable(Exception):
    """A request that the default handlers cannot take, with its HTTP status."""

    def __init__(self, status_code: int, message: str) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.message = message


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a handler that takes one argument more than it needs gets there, as from the toolkit."""

    model_dir: str
    system_properties: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    content_type: str
    body: bytes | Iterator[bytes]
    """In parts where the handler makes it so."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A request, as the handlers are asked."""

    body: bytes
    content_type: str
    accept: str


class Handlers:
    """The functions of `inference.py` with the loaded model, as one function from request to answer."""

    def __init__(self, module: ModuleType | None, *, model_dir: str) -> None:
        self._context = Context(
            model_dir=model_dir, system_properties={"model_dir": model_dir, "gpu_id": None}
        )
        own = {name: function for name in _HANDLERS if (function := getattr(module, name, None))}
        if "transform_fn" in own and len(own.keys() - {"model_fn"}) > 1:
            raise ValueError(
                "Cannot use transform_fn implementation in conjunction with input_fn, predict_fn, and/or "
                "output_fn implementation"
            )
        self._transforms = "transform_fn" in own
        self._call = {
            name: self._with_context(name, own.get(name, default)) for name, default in _HANDLERS.items()
        }
        self._model = self._call["model_fn"](model_dir)
        self._reads_tensors = "input_fn" not in own and _is_torch_module(self._model)

    def answer(self, asked: Question) -> Answer:
        """Never raises: what goes wrong is an answer with a status and is written to the log."""
        return self.answers([asked])[0]

    def answers(self, asked: Sequence[Question]) -> list[Answer]:
        """The same for several. Arrays and tensors that stack go to the model in one call, row by row as they
        came; one that fails fails alone."""
        if self._transforms:
            return [_or_failure(partial(self._transformed, one)) for one in asked]
        inputs = [_or_failure(partial(self._decoded, one)) for one in asked]
        return [
            prediction
            if isinstance(prediction, Answer)
            else _or_failure(partial(self._written, prediction, one.accept))
            for one, prediction in zip(asked, self._predictions(inputs), strict=True)
        ]

    def _transformed(self, asked: Question) -> Answer:
        data = _data(asked)
        output = self._call["transform_fn"](self._model, data, asked.content_type, asked.accept)
        return _answer(output, asked.accept)

    def _decoded(self, asked: Question) -> Any:
        decoded = self._call["input_fn"](_data(asked), asked.content_type)
        return _tensor(decoded, asked.content_type, self._model) if self._reads_tensors else decoded

    def _written(self, prediction: Any, accept: str) -> Answer:
        return _answer(self._call["output_fn"](prediction, accept), accept)

    def _predictions(self, inputs: Sequence[Any]) -> list[Any]:
        """Of each input; an input that is an answer already, because it failed, stays."""
        predictions = list(inputs)
        for places in _alike(inputs):
            together = None
            if len(places) > 1:
                together = self._predicted_together([inputs[place] for place in places])
            for number, place in enumerate(places):
                alone = partial(self._call["predict_fn"], inputs[place], self._model)
                predictions[place] = together[number] if together is not None else _or_failure(alone)
        return predictions

    def _predicted_together(self, inputs: Sequence[Any]) -> list[Any] | None:
        """None where the model does not answer with as many rows: then each is asked by itself."""
        lengths = [len(one) for one in inputs]
        library = sys.modules[type(inputs[0]).__module__.partition(".")[0]]
        try:
            whole = self._call["predict_fn"](library.concatenate(inputs), self._model)
            if len(whole) != sum(lengths):
                return None
            return [
                whole[end - length : end] for end, length in zip(accumulate(lengths), lengths, strict=True)
            ]
        except Exception as error:  # one of them, perhaps
            print(
                f"A batch of {len(inputs)} requests failed: {type(error).__name__}: {error}", file=sys.stderr
            )
            return None

    def _with_context(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The handler, with the context as its last argument where it takes one more than it needs."""
        if not _takes(function, _ARGUMENTS[name] + 1):
            return function
        return lambda *arguments: function(*arguments, self._context)


def _or_failure(work: Callable[[], Any]) -> Any:
    """What `work` gives, or the answer that says why it failed."""
    try:
        return work()
    except Exception as error:
        status = getattr(error, "status_code", None)
        message = str(getattr(error, "message", error))
        if not isinstance(status, int) or not 400 <= status < 600:
            status, message = 500, f"{message}\n{traceback.format_exc()}"
        print(f"{type(error).__name__} ({status}): {error}", file=sys.stderr)
        if status >= 500:
            traceback.print_exc()
        return Answer(status=status, content_type="text/plain; charset=utf-8", body=message.encode())


def _data(asked: Question) -> bytes | str:
    if _media_type(asked.content_type) not in _TEXT_TYPES:
        return asked.body
    try:
        return asked.body.decode()
    except UnicodeDecodeError as error:
        raise Unusable(400, f"The body is said to be {asked.content_type} but is not UTF-8") from error


def _answer(output: Any, accept: str) -> Answer:
    if isinstance(output, tuple):  # the toolkit also takes (body, content type)
        output, accept = output
    if isinstance(output, Iterator):
        return Answer(status=200, content_type=accept, body=map(_encoded, output))
    if isinstance(output, str):
        output = output.encode()
    if not isinstance(output, bytes | bytearray):
        raise TypeError(f"output_fn gave {type(output).__name__}; it should give str or bytes")
    return Answer(status=200, content_type=accept, body=bytes(output))


def _alike(inputs: Sequence[Any]) -> Iterator[list[int]]:
    """The places of inputs that can be stacked: arrays or tensors of rows of one shape. Others are alone."""
    found: dict[Any, list[int]] = {}
    for place, one in enumerate(inputs):
        if isinstance(one, Answer):
            continue
        is_array = type(one).__module__.partition(".")[0] in ("numpy", "torch") and hasattr(one, "shape")
        # A vector may be one sample or several, so that only what has rows is taken for several.
        key = (type(one), one.dtype, one.shape[1:]) if is_array and len(one.shape) > 1 else place
        found.setdefault(key, []).append(place)
    yield from found.values()


def _encoded(part: Any) -> bytes:
    if not isinstance(part, str | bytes | bytearray):
        raise TypeError(f"output_fn yielded {type(part).__name__}; it should yield str or bytes")
    return part.encode() if isinstance(part, str) else bytes(part)


def _takes(function: Callable[..., Any], count: int) -> bool:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return sum(parameter.kind in kinds for parameter in parameters) >= count


def default_model_fn(model_dir: str) -> Any:
    """The one TorchScript file in the folder, as the toolkit for PyTorch has it."""
    names = sorted(path.name for path in Path(model_dir).iterdir() if path.suffix in (".pt", ".pth"))
    if not names:
        raise NotImplementedError(
            "inference.py has no model_fn: write one that loads the model, as in "
            "'def model_fn(model_dir): return onnxruntime.InferenceSession(model_dir + \"/model.onnx\")'"
        )
    if "model.pt" not in names and len(names) > 1:
        raise ValueError(f"Exactly one .pth or .pt file is required for PyTorch models: {names}")
    import torch

    path = f"{model_dir}/{'model.pt' if 'model.pt' in names else names[0]}"
    return torch.jit.load(path, map_location=_device())


def _is_torch_module(model: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _tensor(array: Any, content_type: str, model: Any) -> Any:
    """What the toolkit for PyTorch makes of a body: 32-bit floats of text, of NPY what is in it."""
    import torch

    tensor = torch.from_numpy(array)
    if _media_type(content_type) in _TEXT_TYPES:
        tensor = tensor.float()
    return tensor.to(next((parameter.device for parameter in model.parameters()), "cpu"))


def default_input_fn(body: bytes | str, content_type: str) -> Any:
    """An array from JSON, CSV or NPY."""
    import numpy as np

    kind = _media_type(content_type)
    try:
        match kind, body:
            case "application/json", str():
                return np.array(json.loads(body))
            case "text/csv", str():
                return np.genfromtxt(io.StringIO(body), delimiter=",")
            case "application/x-npy", bytes():
                return np.load(io.BytesIO(body), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise Unusable(400, f"The body is not valid {kind}: {error}") from error
    raise Unusable(415, f"Content type {content_type} is not supported: use {JSON}, {CSV} or {NPY}")


def default_predict_fn(data: Any, model: Any) -> Any:
    if _is_torch_module(model):
        import torch

        model.eval()
        with torch.no_grad():
            return model(data)
    return model.predict(data) if hasattr(model, "predict") else model(data)


def default_output_fn(prediction: Any, accept: str) -> tuple[bytes, str]:
    """JSON, CSV or NPY of an array, the first that is accepted, and which it is."""
    import numpy as np

    array = np.asarray(prediction.detach().cpu() if hasattr(prediction, "detach") else prediction)
    for kind in map(_media_type, accept.split(",")):
        match JSON if kind == "*/*" else kind:
            case "application/json":
                return json.dumps(array.tolist()).encode(), JSON
            case "text/csv":
                text = io.StringIO()
                np.savetxt(text, np.atleast_1d(array), delimiter=",", fmt="%s")
                return text.getvalue().encode(), CSV
            case "application/x-npy":
                buffer = io.BytesIO()
                np.save(buffer, array)
                return buffer.getvalue(), NPY
    raise Unusable(406, f"Accept {accept} is not supported: use {JSON}, {CSV} or {NPY}")


def _media_type(header: str) -> str:
    return header.partition(";")[0].strip().lower()


def _no_transform_fn(*_: Any) -> Any:
    raise NotImplementedError


_HANDLERS: dict[str, Callable[..., Any]] = {
    "model_fn": default_model_fn,
    "input_fn": default_input_fn,
    "predict_fn": default_predict_fn,
    "output_fn": default_output_fn,
    "transform_fn": _no_transform_fn,
}
_ARGUMENTS = {"model_fn": 1, "input_fn": 2, "predict_fn": 2, "output_fn": 2, "transform_fn": 4}
