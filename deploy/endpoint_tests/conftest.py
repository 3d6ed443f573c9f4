"""What the tests of an endpoint share. A new test is a new file `test_*.py` in this folder.

CodeBuild gives the environment: ENDPOINT_NAME, STAGE, MODEL_PACKAGE_ARN, TEST_DATA_URI, REGISTERED_ACCURACY,
LATENCY_LIMIT_MILLISECONDS.
"""

import json
import os
from urllib.parse import urlsplit

import boto3
import numpy as np
import pytest
from endpoint import Endpoint, Sample
from summary import Summary

SAMPLE = 120
"""Images that are sent, spread over the test set, so that each class has its share."""

summary = pytest.StashKey[Summary]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[summary] = Summary()
    config.pluginmanager.register(config.stash[summary])


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> dict[str, float]:
    """Numbers for the summary: `measured["accuracy"] = 0.9`."""
    return request.config.stash[summary].measured


@pytest.fixture(scope="session")
def endpoint() -> Endpoint:
    return Endpoint(name=os.environ["ENDPOINT_NAME"], runtime=boto3.client("sagemaker-runtime"))


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    folder = tmp_path_factory.mktemp("test-set")
    place = urlsplit(os.environ["TEST_DATA_URI"])
    for name in ("images.npy", "labels.npy", "classes.json"):
        key = f"{place.path.strip('/')}/{name}"
        boto3.client("s3").download_file(place.netloc, key, str(folder / name))
    images = np.load(folder / "images.npy", mmap_mode="r")
    labels = np.load(folder / "labels.npy")
    classes = tuple(json.loads((folder / "classes.json").read_text(encoding="utf-8")))
    rows = np.unique(np.linspace(0, len(labels) - 1, num=min(SAMPLE, len(labels)), dtype=np.int64))
    return Sample(
        images=np.ascontiguousarray(images[rows]),
        labels=tuple(classes[label] for label in labels[rows]),
        classes=classes,
    )
