"""Data that nobody here drew: scikit-learn's digits, 8×8 pixels in ten classes, through all three scripts."""

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation import evaluate
from training import preprocess, train


@pytest.mark.slow
def test_digits_are_learnt_from_a_zip_of_ten_folders(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits  # elsewhere every process of tests would import it

    digits = load_digits()
    with zipfile.ZipFile(tmp_path / "digits.zip", "w") as archive:
        for number, (pixels, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
            file = io.BytesIO()
            Image.fromarray((pixels * 255 / 16).astype(np.uint8)).save(file, "PNG")
            archive.writestr(f"{digit}/{number}.png", file.getvalue())

    preprocess.main(["--input", str(tmp_path), "--output", str(tmp_path), "--image-size", "16"])
    train.main(
        [f"--{split}={tmp_path / split}" for split in ("train", "validation")]
        + [f"--model-dir={tmp_path / 'model'}", "--epochs=2", "--batch-size=64", "--flip=0"]
    )
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz", compresslevel=1) as archive:
        archive.add(tmp_path / "model", arcname=".")
    evaluate.main(["--model", str(tmp_path), "--test", str(tmp_path / "test"), "--output", str(tmp_path)])

    result = json.loads((tmp_path / "evaluation.json").read_text())
    assert result["classes"] == list("0123456789")
    assert result["multiclass_classification_metrics"]["accuracy"]["value"] > 0.9
