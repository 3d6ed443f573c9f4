"""A data set that nobody here made: scikit-learn's digits, ten classes of 8×8 pixels, to production."""

import io
import json
import zipfile

import pytest
from PIL import Image

from stagegate import pipeline

pytestmark = pytest.mark.slow
TRAINS = True


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A zip of ten class folders, and a picture of each class."""
    from sklearn.datasets import load_digits  # elsewhere every process of tests would import it

    path = tmp_path_factory.mktemp("digits") / "digits.zip"
    data = load_digits()
    pictures = {}
    with zipfile.ZipFile(path, "w") as archive:
        for number, (pixels, label) in enumerate(zip(data.images, data.target, strict=True)):
            buffer = io.BytesIO()
            Image.fromarray((pixels * 15.9).astype("uint8")).save(buffer, "PNG")
            archive.writestr(f"digits/{label}/{number}.png", buffer.getvalue())
            pictures[str(label)] = buffer.getvalue()
    return path, pictures


@pytest.mark.timeout(900)
def test_digits_reach_production(installation, digits, tmp_path):
    path, pictures = digits
    options = ("--hyperparameter", "epochs=6", "--hyperparameter", "flip=0", "--preprocess", "image-size=32")

    build = installation.start_run(path, *options, "--threshold", "0.9")
    installation.follow_until_asked(build)
    answer(installation)
    assert installation.follow(build)[-1].status == "SUCCEEDED"

    def deploying():
        runs = pipeline.list_runs(installation.services, installation.platform)
        return [run.arn for run in runs if run.state_machine == "stagegate-model-deploy"]

    (deploy,) = installation.wait_for(deploying)
    installation.follow_until_asked(deploy)
    answer(installation)
    assert installation.follow(deploy)[-1].status == "SUCCEEDED"

    for label, picture in pictures.items():
        (tmp_path / f"{label}.png").write_bytes(picture)
    images = [str(tmp_path / f"{label}.png") for label in sorted(pictures)]
    predictions = json.loads(installation.stagegate("invoke", "production", *images, "--json").stdout)
    right = sum(
        prediction["predicted"] == label
        for prediction, label in zip(predictions, sorted(pictures), strict=True)
    )
    assert right >= 9


def answer(installation):
    (waiting,) = installation.wait_for(
        lambda: json.loads(installation.stagegate("approvals", "--json").stdout)
    )
    installation.stagegate("approve", waiting["approval_id"], "--comment", "digits are read")
