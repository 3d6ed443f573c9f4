"""A stand-in for an endpoint on AWS: it tells colours apart, answers as SageMaker does, and can be broken."""

import io
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import numpy as np

from training.inference import InvalidRequest, input_fn, output_fn

CLASSES = ("blue", "green", "red")
PACKAGE = "arn:aws:sagemaker:us-east-1:111111111111:model-package/stagegate-models/7"


@dataclass(kw_only=True)
class StandIn:
    """What is wrong with the endpoint, if anything."""

    package: str = PACKAGE
    broken_type: str = ""
    """A content type that is answered with a 500."""
    seconds: float = 0
    """How long an answer takes."""
    is_colour_blind: bool = False
    objects: dict[str, bytes] = field(default_factory=dict)
    """What S3 has."""

    def describe(self, operation: str) -> dict[str, Any]:
        return {
            "DescribeEndpoint": {"EndpointStatus": "InService", "EndpointConfigName": "config"},
            "DescribeEndpointConfig": {
                "ProductionVariants": [{"VariantName": "AllTraffic", "ModelName": "model"}]
            },
            "DescribeModel": {"PrimaryContainer": {"ModelPackageName": self.package}},
        }[operation]

    def invoke(self, body: bytes, content_type: str) -> tuple[int, str]:
        """What the model's container answers."""
        if content_type == self.broken_type:
            return 500, "KeyError"
        try:
            images = input_fn(body, content_type)
        except InvalidRequest as invalid:
            return invalid.status_code, invalid.message
        time.sleep(self.seconds)
        return 200, output_fn([self._probabilities(image) for image in images])

    def _probabilities(self, image: np.ndarray) -> dict[str, float]:
        red, green, blue = (float(channel) + 1 for channel in image.reshape(-1, 3).mean(axis=0))
        if self.is_colour_blind:
            red, blue = blue, red
        total = red + green + blue
        return {"blue": blue / total, "green": green / total, "red": red / total}


def image_set(count: int = 30, size: int = 16) -> dict[str, bytes]:
    """The files of a preprocessed test set: plain colours, with noise."""
    random = np.random.default_rng(0)
    labels = np.arange(count) % len(CLASSES)
    images = random.integers(0, 80, (count, size, size, 3), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[..., 2 - label] += 120

    def npy(array: np.ndarray) -> bytes:
        content = io.BytesIO()
        np.save(content, array)
        return content.getvalue()

    return {
        "images.npy": npy(images),
        "labels.npy": npy(labels.astype(np.int64)),
        "classes.json": json.dumps(CLASSES).encode(),
    }


@contextmanager
def serving(stand_in: StandIn) -> Iterator[str]:
    """The URL at which it answers."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_HEAD(self) -> None:
            self._object()

        def do_GET(self) -> None:
            self._object()

        def _object(self) -> None:
            content = stand_in.objects[self.path.rpartition("/")[2]]
            self._answer(200, content, {"ETag": '"x"', "Last-Modified": "Mon, 23 Nov 2026 08:00:00 GMT"})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if not re.fullmatch(r"/endpoints/[\w-]+/invocations", self.path):
                operation = self.headers["X-Amz-Target"].rpartition(".")[2]
                self._answer(200, json.dumps(stand_in.describe(operation)).encode())
                return
            status, text = stand_in.invoke(body, self.headers["Content-Type"])
            if status == 200:
                self._answer(200, text.encode())
                return
            error = {"Message": text, "OriginalMessage": text, "OriginalStatusCode": status}
            self._answer(424, json.dumps(error).encode(), {"x-amzn-ErrorType": "ModelError"})

        def _answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
