"""What the tests of an endpoint share. A new test is a new file `test_*.py` in this folder: see README.md.

CodeBuild gives the environment: ENDPOINT_NAME, STAGE, MODEL_PACKAGE_ARN, TEST_DATA_URI, REGISTERED_ACCURACY,
and PREDICTIONS_URI where the evaluation has kept its predictions. The limits are those of the stage's file
beside this folder.
"""

import json
import os
from typing import Any

import numpy as np
import pytest
from endpoint import NPY, Endpoint, Sample, download, npy, runtime
from findings import Findings, Measured, Picture
from limits import Limits, WrongLimits, read_limits
from load import CLIENTS, Load, run_load

SAMPLE = 120
"""Images that are sent, spread over the test set, so that each class has its share."""
WARM_UP = 3
"""Requests before the load: the first ones find caches cold and connections closed."""

FINDINGS = pytest.StashKey[Findings]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FINDINGS] = Findings()
    config.pluginmanager.register(config.stash[FINDINGS])


@pytest.fixture(scope="session")
def findings(request: pytest.FixtureRequest) -> Findings:
    return request.config.stash[FINDINGS]


@pytest.fixture(scope="session")
def measured(findings: Findings) -> Measured:
    """Numbers for the summary and the report."""
    return findings.measured


@pytest.fixture(scope="session")
def limits() -> Limits:
    """What the stage's file has below "Tests"."""
    try:
        return read_limits(os.environ.get("STAGE", ""))
    except WrongLimits as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def endpoint() -> Endpoint:
    return Endpoint(name=os.environ["ENDPOINT_NAME"], runtime=runtime())


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    folder = tmp_path_factory.mktemp("test-set")
    for name in ("images.npy", "labels.npy", "classes.json"):
        download(f"{os.environ['TEST_DATA_URI'].rstrip('/')}/{name}", folder / name)
    images = np.load(folder / "images.npy", mmap_mode="r")
    labels = np.load(folder / "labels.npy")
    classes = tuple(json.loads((folder / "classes.json").read_text(encoding="utf-8")))
    rows = np.unique(np.linspace(0, len(labels) - 1, num=min(SAMPLE, len(labels)), dtype=np.int64))
    return Sample(
        images=np.ascontiguousarray(images[rows]),
        labels=tuple(classes[label] for label in labels[rows]),
        classes=classes,
        rows=rows,
    )


@pytest.fixture(scope="session")
def answers(endpoint: Endpoint, sample: Sample, findings: Findings) -> list[dict[str, Any]]:
    """The endpoint's prediction for each image of the sample."""
    predictions = [one for batch in sample.batches() for one in endpoint.invoke(npy(batch), NPY)]
    findings.pictures += [
        Picture(image=image, true=true, predicted=one["class"], probability=one["probability"])
        for image, true, one in zip(sample.images, sample.labels, predictions, strict=True)
    ]
    return predictions


@pytest.fixture(scope="session")
def load(sample: Sample, limits: Limits, findings: Findings) -> Load:
    """The load of the stage's file; each request has one image, and gives up after four times its limit."""
    patience = max(5.0, 4 * limits.LatencyP99Milliseconds / 1000)
    under_load = Endpoint(
        name=os.environ["ENDPOINT_NAME"], runtime=runtime(clients=CLIENTS, seconds=patience)
    )
    bodies = [npy(image) for image in sample.images]
    for body in bodies[:WARM_UP]:
        under_load.status_of(body, NPY)
    findings.load = run_load(
        lambda number: under_load.invoke(bodies[number % len(bodies)], NPY),
        per_second=limits.LoadRequestsPerSecond,
        count=limits.load_requests,
    )
    return findings.load
