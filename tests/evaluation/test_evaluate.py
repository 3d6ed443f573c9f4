"""The evaluation job: it judges what is in the archive, through the handlers in the archive."""

import io
import json
import tarfile
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation.evaluate import main
from training.dataset import ImageSet

CLASSES = ("<dark>", "light")
HANDLERS = """
import io, json, pathlib
import numpy as np

def model_fn(folder):
    return pathlib.Path(folder, "model.onnx").read_text()

def input_fn(body, content_type):
    assert content_type == "application/x-npy"
    return np.load(io.BytesIO(body), allow_pickle=False)

def predict_fn(images, model):
    assert model == "weights"
    light = images.mean(axis=(1, 2, 3)) / 255
    return [{"<dark>": 1 - p, "light": p} for p in light.tolist()]

def output_fn(prediction, accept):
    assert accept == "application/json"
    return json.dumps({"predictions": [{"probabilities": of} for of in prediction]})
"""


@pytest.fixture
def test_set(tmp_path: Path) -> Path:
    """Four dark images and six light ones; one of the light ones is dark."""
    brightness = np.array([20, 30, 40, 50, 250, 240, 230, 220, 210, 60], dtype=np.uint8)
    images = np.broadcast_to(brightness[:, None, None, None], (10, 16, 16, 3)).copy()
    labels = np.array([0] * 4 + [1] * 6)
    files = tuple(f"{CLASSES[label]}/{number}.png" for number, label in enumerate(labels))
    ImageSet(images=images, labels=labels, classes=CLASSES, files=files).select(range(10), tmp_path / "test")
    return tmp_path / "test"


def archive_of(path: Path, **changed: str) -> Path:
    files = {
        "model.onnx": "weights",
        "model.json": '{"arch": "by brightness", "image_size": 16}',
        "code/inference.py": HANDLERS,
        "code/requirements.txt": "numpy  # of any version\n",
    } | changed
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content.encode())
            archive.addfile(entry, io.BytesIO(content.encode()))
    return path


class Links(HTMLParser):
    """What a page refers to, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_an_evaluation_is_written_as_numbers_as_a_picture_and_as_a_page(
    test_set: Path, tmp_path: Path
) -> None:
    manifest = {
        "source": "shades.zip",
        "sha256": "ab" * 32,
        "classes": list(CLASSES),
        "images": {"test": {"<dark>": 4, "light": 6}},
        "broken": {"count": 0, "files": []},
        "ignored": {"count": 0, "files": []},
        "settings": {"image_size": 16, "seed": 0},
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    archive_of(tmp_path / "model.tar.gz")

    main(
        [
            *("--model", str(tmp_path), "--test", str(test_set), "--output", str(tmp_path / "out")),
            *("--manifest", str(tmp_path / "manifest.json")),
        ]
    )

    result = json.loads((tmp_path / "out/evaluation.json").read_text())
    metrics = result["multiclass_classification_metrics"]
    assert metrics["accuracy"]["value"] == 0.9
    assert metrics["confusion_matrix"] == {
        "<dark>": {"<dark>": 4, "light": 0},
        "light": {"<dark>": 1, "light": 5},
    }
    assert result["classes"] == list(CLASSES)
    assert result["model"] == {"arch": "by brightness", "image_size": 16}
    assert result["dataset"] | {"evaluation_time": ""} == {
        "item_count": 10,
        "evaluation_time": "",
        "source": "shades.zip",
        "sha256": "ab" * 32,
        "images": {"test": {"<dark>": 4, "light": 6}},
        "broken": {"count": 0, "files": []},
        "settings": {"image_size": 16, "seed": 0},
    }
    with Image.open(tmp_path / "out/confusion_matrix.png") as picture:
        assert picture.format == "PNG" and picture.width > 400
    page = Links()
    page.feed((tmp_path / "out/report.html").read_text())
    assert len(page.links) == 1, "one mistake, shown as a picture"
    assert page.links[0].startswith("data:image/jpeg;base64,")
    assert "90.0%" in page.text and "by brightness on shades.zip" in page.text and "ab" * 32 in page.text
    assert "<dark>" in page.text, "class names are text, never markup"


def test_each_prediction_is_kept_in_the_order_of_the_test_set(test_set: Path, tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "model.tar.gz")

    main(["--model", str(archive), "--test", str(test_set), "--output", str(tmp_path / "out")])

    with np.load(tmp_path / "out" / "predictions.npz", allow_pickle=False) as kept:
        assert set(kept.files) == {"probabilities", "predicted", "labels", "classes"}
        assert tuple(kept["classes"]) == CLASSES
        assert kept["labels"].tolist() == [0] * 4 + [1] * 6
        assert kept["predicted"].tolist() == [0] * 4 + [1] * 5 + [0]
        light = np.load(test_set / "images.npy")[:, 0, 0, 0] / 255
        np.testing.assert_allclose(kept["probabilities"], np.stack([1 - light, light], axis=1), atol=1e-6)


def test_a_model_of_other_classes_is_refused(test_set: Path, tmp_path: Path) -> None:
    archive = archive_of(
        tmp_path / "model.tar.gz", **{"code/inference.py": HANDLERS.replace('"light": p', '"bright": p')}
    )

    with pytest.raises(SystemExit) as stopped:
        main(["--model", str(archive), "--test", str(test_set), "--output", str(tmp_path / "out")])

    assert stopped.value.code == (
        "Evaluation failed: The model knows ['<dark>', 'bright'], the test set has ['<dark>', 'light']"
    )
    assert not (tmp_path / "out").exists()


def test_an_archive_that_writes_outside_its_folder_is_refused(test_set: Path, tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "model.tar.gz", **{"../escaped": "here"})

    with pytest.raises(SystemExit) as stopped:
        main(["--model", str(archive), "--test", str(test_set), "--output", str(tmp_path / "out")])

    assert "would be extracted to" in str(stopped.value.code)


def test_an_archive_without_handlers_is_refused(test_set: Path, tmp_path: Path) -> None:
    archive = tmp_path / "model.tar.gz"
    with tarfile.open(archive, "w:gz"):
        pass

    with pytest.raises(SystemExit) as stopped:
        main(["--model", str(archive), "--test", str(test_set), "--output", str(tmp_path / "out")])

    assert stopped.value.code == (
        f"Evaluation failed: {archive} lacks model.onnx, code/inference.py; training writes them"
    )
