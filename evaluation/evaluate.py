"""The evaluation job: judge the model in model.tar.gz on the test set.

    python -m evaluation.evaluate --model model.tar.gz --test prepared/test --output evaluation

The model is loaded through the handlers in its own code/inference.py: what is judged is what is deployed.
Beside evaluation.json lies predictions.npz, by which the endpoint tests tell whether an endpoint answers as
the model did here: `probabilities` (images × classes), `predicted` and `labels` (indices of classes), in the
order of the test set, and `classes`, their names.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from packaging.requirements import Requirement

from evaluation.metrics import confusion_matrix, evaluation
from evaluation.report import draw_confusion_matrix, write_report
from training.dataset import ImageSet, read_image_set

BATCH = 64


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    try:
        evaluate(options.model, options.test, options.output, manifest_file=options.manifest)
    except (ValueError, FileNotFoundError, tarfile.TarError) as error:
        sys.exit(f"Evaluation failed: {error}")


def evaluate(model: Path, test: Path, output: Path, *, manifest_file: Path | None = None) -> dict[str, Any]:
    """Write evaluation.json, predictions.npz, confusion_matrix.png and report.html below `output`.

    Gives what is in the first.
    """
    data = read_image_set(test)
    manifest = json.loads(manifest_file.read_text(encoding="utf-8")) if manifest_file else {}
    with tempfile.TemporaryDirectory(prefix="model-") as folder:
        unpack(model, Path(folder))
        began = time.monotonic()
        probabilities = predict(Path(folder), data)
        seconds = time.monotonic() - began
        details = json.loads((Path(folder) / "model.json").read_text(encoding="utf-8"))
    predicted = probabilities.argmax(axis=1)
    counts = confusion_matrix(data.labels, predicted, len(data.classes))
    result = evaluation(counts, data.classes) | {
        "version": 0.0,
        "dataset": {
            "item_count": len(data),
            "evaluation_time": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            **{
                name: manifest[name]
                for name in ("source", "sha256", "images", "broken", "settings")
                if name in manifest
            },
        },
        "model": details,
    }
    output.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        output / "predictions.npz",
        probabilities=probabilities.astype(np.float32),
        predicted=predicted.astype(np.int64),
        labels=np.asarray(data.labels, dtype=np.int64),
        classes=np.array(data.classes),
    )
    draw_confusion_matrix(counts, data.classes, output / "confusion_matrix.png")
    write_report(output / "report.html", result, data, probabilities)
    # Last: where evaluation.json is, all of it is.
    text = json.dumps(result, indent=2, ensure_ascii=False)
    (output / "evaluation.json").write_text(text + "\n", encoding="utf-8")
    metrics = result["multiclass_classification_metrics"]
    print(f"evaluated {len(data)} images in {seconds:.1f} s")
    print(
        f"test:accuracy={metrics['accuracy']['value']:.4f} test:f1={metrics['weighted_f1']['value']:.4f}",
        flush=True,
    )
    return result


def unpack(model: Path, folder: Path) -> None:
    """Unpack model.tar.gz, refusing what would leave the folder."""
    path = model / "model.tar.gz" if model.is_dir() else model
    if not path.is_file():
        raise FileNotFoundError(f"There is no model archive {path}")
    with tarfile.open(path) as archive:
        for member in archive:
            inside = (folder / member.name).resolve().is_relative_to(folder.resolve())
            if not inside or not (member.isfile() or member.isdir()):
                raise ValueError(
                    f"'{member.name}' of {path} would be extracted to a place outside of {folder}"
                )
        # The filter is Python's from 3.11.4 on, and a warning where it lacks from 3.12 on.
        archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))  # noqa: S202
    missing = [name for name in ("model.onnx", "code/inference.py") if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}; training writes them")


def predict(model_dir: Path, data: ImageSet) -> NDArray[np.float64]:
    """The probabilities (images × classes) that the deployed handlers answer with."""
    install_requirements(model_dir / "code" / "requirements.txt")
    handlers = load_handlers(model_dir / "code" / "inference.py")
    model = handlers.model_fn(str(model_dir))
    answers: list[dict[str, float]] = []
    for start in range(0, len(data), BATCH):
        images = np.ascontiguousarray(data.images[start : start + BATCH])
        answers += json.loads(answer_of(handlers, model, images))["predictions"]
    if set(answers[0]["probabilities"]) != set(data.classes):
        raise ValueError(
            f"The model knows {sorted(answers[0]['probabilities'])}, the test set has {list(data.classes)}"
        )
    return np.array([[answer["probabilities"][name] for name in data.classes] for answer in answers])


def answer_of(handlers: ModuleType, model: Any, images: NDArray[np.uint8]) -> str:
    """What a request with these images is answered: all four handlers take part, as on an endpoint."""
    import io

    body = io.BytesIO()
    np.save(body, images)
    inputs = handlers.input_fn(body.getvalue(), "application/x-npy")
    return handlers.output_fn(handlers.predict_fn(inputs, model), "application/json")


def load_handlers(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("deployed_inference", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def install_requirements(path: Path) -> None:
    """Install what the handlers need and this container lacks, as the inference container does."""
    if not path.is_file():
        return
    lines = [line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    if all(_is_installed(Requirement(line)) for line in lines if line):
        return
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--requirement", str(path)], check=True
    )


def _is_installed(requirement: Requirement) -> bool:
    try:
        return requirement.specifier.contains(importlib.metadata.version(requirement.name), prereleases=True)
    except importlib.metadata.PackageNotFoundError:
        return False


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Judge a model archive on a test set.")
    parser.add_argument("--model", type=Path, required=True, help="model.tar.gz, or the folder it is in")
    parser.add_argument("--test", type=Path, required=True, help="image set, as preprocess.py writes it")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument("--manifest", type=Path, help="manifest.json of the data, for the report")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
