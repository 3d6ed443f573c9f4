"""The notebook that tries the endpoints, executed in a kernel against the local runtime over HTTP."""

import io
import json
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from tests.conftest import Local
from tests.local.sagemaker.fakes import archive

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "test_endpoints.ipynb"
CLASSES = ("blue", "green", "red")
MODEL = """
from image_requests import input_fn, output_fn

def model_fn(model_dir):
    return {classes}

def predict_fn(images, classes):
    return [probabilities(image.reshape(-1, 3).mean(axis=0)[::-1], classes) for image in images]

def probabilities(channels, classes):
    return dict(zip(classes, map(float, channels / channels.sum())))
"""
COLOUR_BLIND = ("green", "blue", "red")

Execute = Callable[..., NotebookNode]


@pytest.fixture(scope="module")
def execute(shared_local: Local, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], NotebookNode]:
    """The notebook with its outputs, run for a project; raises CellExecutionError where a cell does."""
    folder = tmp_path_factory.mktemp("jupyter")

    def run(project: str) -> NotebookNode:
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        client = NotebookClient(notebook, timeout=60, kernel_name="python3")
        kernel = client.create_kernel_manager()
        kernel.transport = "ipc"  # no ports that another test may take meanwhile
        kernel.ip = str(folder / uuid.uuid4().hex[:8])  # the beginning of the names of its sockets
        # The kernel ends with this call, however it ends; and by itself where its parent is killed.
        return client.execute(
            env={
                **shared_local.environment,
                "STAGEGATE_PROJECT": project,
                "STAGEGATE_IMAGES": "9",
                "STAGEGATE_REQUESTS": "20",
                "IPYTHONDIR": str(folder),
            }
        )

    return run


@pytest.fixture(scope="module")
def bucket(shared_local: Local) -> str:
    """Has the test set: plain colours, with noise."""
    s3, random = shared_local.client("s3"), np.random.default_rng(0)
    labels = np.arange(30) % len(CLASSES)
    images = random.integers(0, 80, (len(labels), 24, 24, 3), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[..., 2 - label] += 120
    s3.create_bucket(Bucket="data")
    shared_local.client("sagemaker").create_model_package_group(ModelPackageGroupName="colours")
    files = {
        "images.npy": npy(images),
        "labels.npy": npy(labels),
        "classes.json": json.dumps(CLASSES).encode(),
    }
    for name, content in files.items():
        s3.put_object(Bucket="data", Key=f"runs/r-1/preprocessed/test/{name}", Body=content)
    return "data"


def npy(array: Any) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def deploy(local: Local, bucket: str, name: str, *, classes: tuple[str, ...] = CLASSES) -> str:
    """An endpoint in service, and the group and version of the package that it serves."""
    sagemaker = local.client("sagemaker")
    files = {
        "code/inference.py": MODEL.format(classes=classes),
        "code/image_requests.py": (ROOT / "training" / "inference.py").read_text(),
    }
    local.client("s3").put_object(Bucket=bucket, Key=f"{name}/model.tar.gz", Body=archive(files))
    package = sagemaker.create_model_package(
        ModelPackageGroupName="colours",
        ModelApprovalStatus="Approved",
        InferenceSpecification={
            "Containers": [{"Image": "pytorch:2", "ModelDataUrl": f"s3://{bucket}/{name}/model.tar.gz"}],
            "SupportedContentTypes": ["image/png"],
            "SupportedResponseMIMETypes": ["application/json"],
        },
        CustomerMetadataProperties={
            "RunId": f"run-of-{name}",
            "Accuracy": "0.917",
            "PreprocessedUri": f"s3://{bucket}/runs/r-1/preprocessed",
        },
    )["ModelPackageArn"]
    sagemaker.create_model(
        ModelName=name,
        ExecutionRoleArn="arn:aws:iam::111111111111:role/endpoints",
        PrimaryContainer={"ModelPackageName": package},
    )
    sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[
            {
                "VariantName": "AllTraffic",
                "ModelName": name,
                "InstanceType": "ml.m5.large",
                "InitialInstanceCount": 1,
            }
        ],
    )
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    sagemaker.get_waiter("endpoint_in_service").wait(
        EndpointName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    return package.partition("model-package/")[2]


@pytest.fixture(scope="module")
def compared(execute: Execute, shared_local: Local, bucket: str) -> NotebookNode:
    """Run where both stages have an endpoint, and staging's takes blue for green and green for blue."""
    packages = [
        deploy(shared_local, bucket, "both-staging", classes=COLOUR_BLIND),
        deploy(shared_local, bucket, "both-production"),
    ]
    assert packages == ["colours/1", "colours/2"]
    return execute("both")


def test_it_is_committed_without_outputs() -> None:
    cells = nbformat.read(NOTEBOOK, as_version=4).cells

    assert [cell.id for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []


def test_pictures_and_latencies_are_drawn(compared: NotebookNode) -> None:
    assert pictures_of(compared) == {"classify": 1, "measure": 1}


def test_what_serves_where_is_a_table(compared: NotebookNode) -> None:
    rows = rows_of(compared, "endpoints")

    assert [[cell for number, cell in enumerate(row) if number != 3] for row in rows] == [
        ["stage", "status", "model package", "registered accuracy", "run"],
        ["staging", "InService", "colours/1", "0.917", "run-of-both-staging"],
        ["production", "InService", "colours/2", "0.917", "run-of-both-production"],
    ]
    assert [datetime.strptime(row[3], "%Y-%m-%d %H:%M UTC").date() for row in rows[1:]]


def test_the_stages_are_compared_image_by_image(compared: NotebookNode) -> None:
    assert "9 images of 3 classes, from the test set of colours/2\n" in text_of(compared, "read-images")
    said = text_of(compared, "compare")
    assert "Staging is right on 3 of 9 images.\nProduction is right on 9 of 9 images.\n" in said
    assert "They agree on 3 of 9 images.\n" in said
    assert rows_of(compared, "compare") == [
        ["image", "shows", "staging says", "production says"],
        *([str(number), "blue", "green", "blue"] for number in (1, 2, 3)),
        *([str(number), "green", "blue", "green"] for number in (4, 5, 6)),
    ]


def test_latencies_are_percentiles_of_each_stage(compared: NotebookNode) -> None:
    head, *rows = rows_of(compared, "measure")

    assert head == ["stage", "requests", "p50 ms", "p95 ms", "p99 ms", "slowest ms"]
    assert [row[:2] for row in rows] == [["staging", "20"], ["production", "20"]]
    for row in rows:
        milliseconds = [float(cell) for cell in row[2:]]
        assert milliseconds == sorted(milliseconds)
        assert milliseconds[0] > 0


def test_it_goes_on_with_staging_alone(execute: Execute, shared_local: Local, bucket: str) -> None:
    package = deploy(shared_local, bucket, "lone-staging")

    notebook = execute("lone")

    assert (
        "There is no production endpoint lone-production: nothing has been deployed to production yet."
        in (text_of(notebook, "endpoints"))
    )
    assert [row[2] for row in rows_of(notebook, "endpoints")] == ["model package", package]
    assert pictures_of(notebook) == {"classify": 1, "measure": 1}
    assert text_of(notebook, "compare") == (
        "Staging is right on 9 of 9 images.\nThere is only staging to ask: nothing to compare it with.\n"
    )
    assert [row[0] for row in rows_of(notebook, "measure")] == ["stage", "staging"]


def test_where_nothing_serves_it_says_what_to_do(execute: Execute) -> None:
    with pytest.raises(CellExecutionError, match="Project 'none' has no endpoint that answers"):
        execute("none")


def outputs_of(notebook: NotebookNode, name: str) -> list[NotebookNode]:
    """What the cell of that id shows."""
    (cell,) = [cell for cell in notebook.cells if cell.id == name]
    return cell.outputs


def text_of(notebook: NotebookNode, name: str) -> str:
    return "".join(output.get("text", "") for output in outputs_of(notebook, name))


def rows_of(notebook: NotebookNode, name: str) -> list[list[str]]:
    """The cells of the table that a cell shows, the head first."""
    tables = [output.get("data", {}).get("text/markdown", "") for output in outputs_of(notebook, name)]
    head, _line, *rows = "".join(tables).splitlines()
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in (head, *rows)]


def pictures_of(notebook: NotebookNode) -> dict[str, int]:
    """How many pictures each cell shows, of those that show one."""
    counts = {
        cell.id: sum("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
        for cell in notebook.cells
    }
    return {name: count for name, count in counts.items() if count}
