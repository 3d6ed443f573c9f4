"""The endpoint under test, and the held-out images that are sent to it."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import numpy as np
from botocore.config import Config
from botocore.exceptions import ClientError
from numpy.typing import NDArray

REQUEST_BYTES = 4_000_000
"""Of one request: SageMaker takes 6 MB at most."""
NPY = "application/x-npy"
JSON = "application/json"


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """The endpoint under test."""

    name: str
    runtime: Any

    def invoke(self, body: bytes, content_type: str) -> list[dict[str, Any]]:
        """The predictions, one for each image."""
        predictions: list[dict[str, Any]] = json.loads(self.answer(body, content_type))["predictions"]
        return predictions

    def answer(self, body: bytes, content_type: str, *, accept: str = JSON, **members: str) -> bytes:
        """The answer as it comes."""
        response = self.runtime.invoke_endpoint(
            EndpointName=self.name, ContentType=content_type, Accept=accept, Body=body, **members
        )
        content: bytes = response["Body"].read()
        return content

    def status_of(self, body: bytes, content_type: str, *, accept: str = JSON) -> int:
        """The HTTP status that the model's container answers with, or the service where it refuses."""
        try:
            self.answer(body, content_type, accept=accept)
        except ClientError as error:
            status = error.response.get("OriginalStatusCode")
            return int(status or error.response["ResponseMetadata"]["HTTPStatusCode"])
        return 200


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Images that the model has not seen, and what they show; `rows` are their places in the test set."""

    images: NDArray[np.uint8]
    labels: tuple[str, ...]
    classes: tuple[str, ...]
    rows: NDArray[np.int64]

    def batches(self) -> Sequence[NDArray[np.uint8]]:
        """As many images a request as fit."""
        size = max(1, REQUEST_BYTES // self.images[0].nbytes)
        return [self.images[start : start + size] for start in range(0, len(self.images), size)]


def runtime(*, clients: int = 10, seconds: float = 70) -> Any:
    """Calls endpoints. Nothing is tried twice: an error that a second try hides is an error."""
    return boto3.client(
        "sagemaker-runtime",
        config=Config(max_pool_connections=clients, read_timeout=seconds, retries={"total_max_attempts": 1}),
    )


def npy(array: NDArray[Any]) -> bytes:
    """The body of an application/x-npy request."""
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def download(uri: str, path: Path) -> None:
    """An object of S3, as a file."""
    place = urlsplit(uri)
    boto3.client("s3").download_file(place.netloc, place.path.lstrip("/"), str(path))
