"""Broken models, each stopped at its gate, while production answers every request of a steady load."""

import hashlib
import io
import json
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stagegate.bundle import read_bundle, upload_bundle
from stagegate.deployment import assets_bucket
from tests.deploy.stand_in import CLASSES, image_set
from tests.local.sagemaker.fakes import archive
from tests.release.conftest import EVALUATION, ROOT, Installation, let_use

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

CLIENTS = 2
PAUSE = 0.5
"""Between two requests of a client: what the load leaves of the model has to do for its tests."""
SECONDS = 0.05
"""How long the good model takes for a request."""
LIMITS = {
    "LatencyP50Milliseconds": 2.5 * 1000 * SECONDS,
    "LatencyP95Milliseconds": 2.8 * 1000 * SECONDS,
    "LatencyP99Milliseconds": 20 * 1000 * SECONDS,
    "ThroughputPerSecond": 1,
    "LoadRequestsPerSecond": 4,
    "LoadSeconds": 5,
    "CaptureWaitSeconds": 30,
}
HANDLERS = """
import time
from handlers import *
from handlers import InvalidRequest, input_fn as read_images

def model_fn(model_dir, context=None):
    {load}
    return None

def input_fn(body, content_type, context=None):
    {read}
    return read_images(body, content_type)

def predict_fn(images, model, context=None):
    time.sleep({seconds})
    answers = []
    for image in images:
        red, green, blue = (float(channel) + 1 for channel in image.reshape(-1, 3).mean(axis=0))
        {tell}
        total = red + green + blue
        answers.append({{"blue": blue / total, "green": green / total, "red": red / total}})
    return answers
"""
GOOD = {"load": "pass", "read": "pass", "seconds": SECONDS, "tell": "pass"}
OUT_OF_MEMORY = (
    "import resource; resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30)); taken = bytearray(64 << 30)"
)
BROKEN = {
    "wrong classes": (
        {"tell": "red, blue = blue, red"},
        ("StagingTestsFailed", "test_predictions.py::test_the_accuracy_is_what_was_registered"),
    ),
    "500s on one content type": (
        {"read": "if content_type == 'image/png': raise KeyError('png')"},
        ("StagingTestsFailed", "test_an_image_file_is_classified_as_its_pixels_are[image/png]"),
    ),
    "three times slower": (
        {"seconds": 3 * SECONDS},
        ("StagingTestsFailed", "test_latency.py::"),
    ),
    "out of memory": (
        {"load": OUT_OF_MEMORY},
        ("StagingDeploymentFailed", "did not pass the ping health check"),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Production:
    """A production that serves the good model, and clients that never stop asking it."""

    installation: Installation
    failures: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def register(self, name: str, *, code: str, **changed: Any) -> str:
        """An approved package, with what its training and evaluation would have left; gives its ARN."""
        s3, sagemaker = (self.installation.services(it) for it in ("s3", "sagemaker"))
        bucket = self.installation.platform.data_bucket
        files = {
            "code/inference.py": HANDLERS.format(**GOOD | changed),
            "code/handlers.py": (ROOT / "training" / "inference.py").read_text(),
        }
        model = archive(files)
        s3.put_object(Bucket=bucket, Key=f"runs/{name}/training/model.tar.gz", Body=model)
        for file, content in image_set().items():
            s3.put_object(Bucket=bucket, Key=f"runs/{name}/preprocessed/test/{file}", Body=content)
        for file, content in evaluation().items():
            s3.put_object(Bucket=bucket, Key=f"runs/{name}/evaluation/{file}", Body=content)
        arn: str = sagemaker.create_model_package(
            ModelPackageGroupName="broken-models",
            ModelApprovalStatus="Approved",
            InferenceSpecification={
                "Containers": [
                    {"Image": "pytorch:2", "ModelDataUrl": f"s3://{bucket}/runs/{name}/training/model.tar.gz"}
                ],
                "SupportedContentTypes": ["application/x-npy"],
                "SupportedResponseMIMETypes": ["application/json"],
            },
            CustomerMetadataProperties={
                "RunId": name,
                "CodeUri": code,
                "Accuracy": "1.0",
                "PreprocessedUri": f"s3://{bucket}/runs/{name}/preprocessed",
                "EvaluationPrefix": f"runs/{name}/evaluation",
                "DatasetSha256": hashlib.sha256(name.encode()).hexdigest(),
            },
        )["ModelPackageArn"]
        return arn

    def release(self, package: str, **given: Any) -> dict[str, Any]:
        """Deploy it, approving where a person is asked; the execution, once it has ended."""
        states = self.installation.services("stepfunctions")
        arn = states.start_execution(
            stateMachineArn=self.installation.platform.model_deploy_arn,
            input=json.dumps({"ModelPackageArn": package, **given}),
        )["executionArn"]

        def ended() -> dict[str, Any] | None:
            for waiting in json.loads(self.installation.stagegate("approvals", "--json").stdout):
                self.installation.stagegate("approve", waiting["approval_id"], "--comment", "go on")
            found: dict[str, Any] = states.describe_execution(executionArn=arn)
            return found if found["status"] != "RUNNING" else None

        found: dict[str, Any] = self.installation.wait_for(ended)  # type: ignore[assignment]
        return found

    def package(self) -> str:
        """What production serves."""
        sagemaker = self.installation.services("sagemaker")
        endpoint = sagemaker.describe_endpoint(EndpointName="stagegate-production")
        assert endpoint["EndpointStatus"] == "InService"
        config = sagemaker.describe_endpoint_config(EndpointConfigName=endpoint["EndpointConfigName"])
        model = sagemaker.describe_model(ModelName=config["ProductionVariants"][0]["ModelName"])
        served: str = model["PrimaryContainer"]["ModelPackageName"]
        return served

    @contextmanager
    def loaded(self) -> Iterator[None]:
        with ThreadPoolExecutor(CLIENTS) as pool:
            clients = [pool.submit(self._ask) for _ in range(CLIENTS)]
            try:
                yield
            finally:
                self._over.set()
        for client in clients:
            client.result()

    def _ask(self) -> None:
        runtime = self.installation.services("sagemaker-runtime")
        content = io.BytesIO()
        np.save(content, np.full((16, 16, 3), (220, 20, 20), np.uint8))
        while not self._over.wait(PAUSE):
            try:
                answer = runtime.invoke_endpoint(
                    EndpointName="stagegate-production",
                    ContentType="application/x-npy",
                    Accept="application/json",
                    Body=content.getvalue(),
                )
                self.answers.append(json.loads(answer["Body"].read())["predictions"][0]["class"])
            except Exception as error:  # whatever it is, it is a request that failed
                self.failures.append(repr(error))


def evaluation() -> dict[str, bytes]:
    """What the evaluation of a good model leaves."""
    files = {name: np.load(io.BytesIO(content)) for name, content in image_set().items() if "npy" in name}
    totals = files["images.npy"].reshape(len(files["labels.npy"]), -1, 3).mean(axis=1) + 1
    probabilities = (totals / totals.sum(axis=1, keepdims=True))[:, ::-1]  # blue, green, red
    content = io.BytesIO()
    np.savez_compressed(
        content,
        probabilities=probabilities.astype(np.float32),
        predicted=probabilities.argmax(axis=1),
        labels=files["labels.npy"],
        classes=np.array(CLASSES),
    )
    return {"evaluation.json": json.dumps(EVALUATION).encode(), "predictions.npz": content.getvalue()}


def bundle(installation: Installation, folder: Path, **limits: float) -> str:
    """The project's code with limits that are near the good model's latency; gives its URI."""
    root = folder / f"project-{len(limits)}"
    for name in ("deploy", "training", "evaluation", "workflows"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "stagegate.toml", root)
    for stage in ("staging", "production"):
        path = root / "deploy" / f"{stage}.json"
        settings = json.loads(path.read_text())
        settings["Tests"] = LIMITS | (limits if stage == "production" else {})
        if stage == "production":
            settings["Parameters"] |= {"CanarySeconds": "3", "BakingSeconds": "3"}
        path.write_text(json.dumps(settings))
    return upload_bundle(installation.services, read_bundle(root), assets_bucket(installation.services))


@pytest.fixture(scope="module")
def production(
    installation: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Production, str]]:
    """Production, and the URI of its code."""
    installation.services("sagemaker").create_model_package_group(ModelPackageGroupName="broken-models")
    let_use(installation.services, "broken-models")
    production = Production(installation=installation)
    code = bundle(installation, tmp_path_factory.mktemp("code"))
    first = production.release(production.register("r-good", code=code))
    assert first["status"] == "SUCCEEDED", first.get("cause")
    with production.loaded():
        yield production, code


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_model_is_stopped_in_staging_and_production_answers_all(
    production: tuple[Production, str], what: str
) -> None:
    served, code = production
    good = served.package()
    changed, (error, why) = BROKEN[what]
    package = served.register(f"r-{what.replace(' ', '-')}", code=code, **changed)
    before = len(served.answers)

    ended = served.release(package)

    assert (ended["status"], ended["error"]) == ("FAILED", error), ended["cause"]
    assert why in ended["cause"]
    assert served.package() == good
    assert len(served.answers) > before
    assert (served.failures, set(served.answers[before:])) == ([], {"red"})


def test_what_only_production_refuses_is_taken_back_and_production_answers_all(
    production: tuple[Production, str], tmp_path: Path
) -> None:
    served, _ = production
    good = served.package()
    code = bundle(served.installation, tmp_path, LatencyP95Milliseconds=1000 * SECONDS / 2)
    package = served.register("r-too-slow-for-production", code=code)
    before = len(served.answers)

    ended = served.release(package)

    assert (ended["status"], ended["error"]) == ("FAILED", "ProductionTestsFailed"), ended["cause"]
    assert f"Production serves {good} again, which passed its tests." in ended["cause"]
    assert served.package() == good
    assert (served.failures, set(served.answers[before:])) == ([], {"red"})


def test_a_good_model_follows_and_staging_goes_where_that_is_asked(
    production: tuple[Production, str],
) -> None:
    served, code = production
    package = served.register("r-next", code=code)
    before = len(served.answers)

    ended = served.release(package, RemoveStaging=True)

    assert ended["status"] == "SUCCEEDED", ended.get("cause")
    assert served.package() == package
    assert (served.failures, set(served.answers[before:])) == ([], {"red"})
    stacks = served.installation.services("cloudformation").describe_stacks()["Stacks"]
    assert [stack["StackName"] for stack in stacks] == ["stagegate-production", "stagegate-platform"]
    endpoints = served.installation.services("sagemaker").list_endpoints()["Endpoints"]
    assert [endpoint["EndpointName"] for endpoint in endpoints] == ["stagegate-production"]


def test_a_role_needs_nothing_that_its_policies_do_not_allow_for_what_fails_and_is_taken_back(
    production: tuple[Production, str],
) -> None:
    served, _ = production
    bucket = served.installation.platform.data_bucket

    # These models' runs lack files that a mail would show, and the function takes 403 for 404.
    listing = ("stagegate-approval-request", "s3:ListBucket", f"arn:aws:s3:::{bucket}")
    assert served.installation.refused() in ([], [listing])
