"""The endpoint under test, and the held-out images that are sent to it."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from botocore.exceptions import ClientError
from numpy.typing import NDArray

REQUEST_BYTES = 4_000_000
"""Of one request: SageMaker takes 6 MB at most."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """The endpoint under test."""

    name: str
    runtime: Any

    def invoke(self, body: bytes, content_type: str) -> list[dict[str, Any]]:
        """The predictions, one for each image."""
        response = self.runtime.invoke_endpoint(
            EndpointName=self.name, ContentType=content_type, Accept="application/json", Body=body
        )
        predictions: list[dict[str, Any]] = json.loads(response["Body"].read())["predictions"]
        return predictions

    def status_of(self, body: bytes, content_type: str) -> int:
        """The HTTP status that the model's container answers with."""
        try:
            self.invoke(body, content_type)
        except ClientError as error:
            status = error.response.get("OriginalStatusCode")
            return int(status or error.response["ResponseMetadata"]["HTTPStatusCode"])
        return 200


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Images that the model has not seen, and what they show."""

    images: NDArray[np.uint8]
    labels: tuple[str, ...]
    classes: tuple[str, ...]

    def batches(self) -> Sequence[NDArray[np.uint8]]:
        """As many images a request as fit."""
        size = max(1, REQUEST_BYTES // self.images[0].nbytes)
        return [self.images[start : start + size] for start in range(0, len(self.images), size)]


def npy(array: NDArray[Any]) -> bytes:
    """The body of an application/x-npy request."""
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()
