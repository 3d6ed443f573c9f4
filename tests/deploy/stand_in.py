"""A stand-in for an endpoint on AWS: it tells colours apart, answers as SageMaker does, and can be broken."""

import base64
import io
import json
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from training.inference import InvalidRequest, input_fn, output_fn

CLASSES = ("blue", "green", "red")
BODY_BYTES = 6_291_456
PACKAGE = "arn:aws:sagemaker:us-east-1:111111111111:model-package/stagegate-models/7"


@dataclass(kw_only=True)
class StandIn:
    """What is wrong with the endpoint, if anything."""

    package: str = PACKAGE
    broken_type: str = ""
    """A content type that is answered with a 500."""
    seconds: float = 0
    """How long an answer takes."""
    answers_one_by_one: bool = False
    is_colour_blind: bool = False
    is_another_model: bool = False
    """It finds the right classes, with other probabilities than the one that was evaluated."""
    breaks_on_bad_input: bool = False
    """It answers with a 500 where it should refuse."""
    answers_before_it_breaks: int | None = None
    """After so many answers in all, there are only 500s."""
    captures: str = "all"
    """What arrives of the data that is captured: all, nothing, or the wrong output."""
    sampling: int = 100
    """The percentage of requests that are captured; 0 where the endpoint has no data capture."""
    objects: dict[str, bytes] = field(default_factory=dict)
    """What S3 has."""

    lock: Lock = field(default_factory=Lock)
    invocations: int = 0
    asked: int = 0
    captured: dict[str, bytes] = field(default_factory=dict)

    def describe(self, operation: str) -> dict[str, Any]:
        capture = {
            "EnableCapture": True,
            "CaptureStatus": "Started",
            "CurrentSamplingPercentage": self.sampling,
            "DestinationS3Uri": "s3://data/capture/stagegate-staging",
            "KmsKeyId": "",
        }
        return {
            "DescribeEndpoint": {
                "EndpointStatus": "InService",
                "EndpointConfigName": "config",
                "ProductionVariants": [{"VariantName": "AllTraffic"}],
                **({"DataCaptureConfig": capture} if self.sampling else {}),
            },
            "DescribeEndpointConfig": {
                "ProductionVariants": [{"VariantName": "AllTraffic", "ModelName": "model"}],
                "DataCaptureConfig": {
                    "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}]
                },
            },
            "DescribeModel": {"PrimaryContainer": {"ModelPackageName": self.package}},
        }[operation]

    def invoke(self, body: bytes, content_type: str, accept: str) -> tuple[int, str]:
        """What the model's container answers."""
        with self.lock:
            self.invocations += 1
            is_broken = self.answers_before_it_breaks is not None
            is_broken = is_broken and self.invocations > self.answers_before_it_breaks
        if is_broken or content_type == self.broken_type:
            return 500, "KeyError"
        try:
            images = input_fn(body, content_type)
            answer = output_fn([self.probabilities(image) for image in images], accept)
        except InvalidRequest as invalid:
            return 500 if self.breaks_on_bad_input else invalid.status_code, invalid.message
        with self.lock if self.answers_one_by_one else nullcontext():
            time.sleep(self.seconds)
        return 200, answer

    def capture(self, inference_id: str, body: bytes, answer: str) -> None:
        """One file for each request, in the folders of SageMaker."""
        with self.lock:
            self.asked += 1
            is_sampled = self.sampling and self.asked % round(100 / self.sampling) == 0
        if self.captures == "nothing" or not is_sampled:
            return
        event = {
            "captureData": {
                "endpointInput": {"data": base64.b64encode(body).decode(), "encoding": "BASE64"},
                "endpointOutput": {
                    "data": "{}" if self.captures == "the wrong output" else answer,
                    "encoding": "JSON",
                },
            },
            "eventMetadata": {"inferenceId": inference_id},
        }
        folder = f"capture/stagegate-staging/stagegate-staging/AllTraffic/{datetime.now(UTC):%Y/%m/%d/%H}"
        self.captured[f"{folder}/{uuid.uuid4()}.jsonl"] = json.dumps(event).encode() + b"\n"

    def listed(self, prefix: str) -> str:
        """What ListObjectsV2 answers."""
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.000Z}"
        contents = "".join(
            f"<Contents><Key>{key}</Key><LastModified>{now}</LastModified></Contents>"
            for key in sorted(self.captured)
            if key.startswith(prefix)
        )
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"

    def probabilities(self, image: np.ndarray) -> dict[str, float]:
        red, green, blue = (float(channel) + 1 for channel in image.reshape(-1, 3).mean(axis=0))
        if self.is_colour_blind:
            red, blue = blue, red
        if self.is_another_model:
            red, green, blue = red**2, green**2, blue**2
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
        "predictions.npz": offline_predictions(images, labels),
    }


def offline_predictions(images: np.ndarray, labels: np.ndarray) -> bytes:
    """What the evaluation has kept; its classes are in an order of their own."""
    names = CLASSES[::-1]
    answers = [StandIn().probabilities(image) for image in images]
    content = io.BytesIO()
    np.savez_compressed(
        content,
        probabilities=np.array([[of[name] for name in names] for of in answers], np.float32),
        predicted=np.array([names.index(max(of, key=of.__getitem__)) for of in answers]),
        labels=np.array([names.index(CLASSES[label]) for label in labels]),
        classes=np.array(names),
    )
    return content.getvalue()


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
            url = urlsplit(self.path)
            query = parse_qs(url.query)
            if "list-type" in query:
                self._answer(200, stand_in.listed(query["prefix"][0]).encode())
                return
            name = url.path.rpartition("/")[2]
            captured = {key.rpartition("/")[2]: content for key, content in stand_in.captured.copy().items()}
            content = (stand_in.objects | captured)[name]
            self._answer(200, content, {"ETag": '"x"', "Last-Modified": "Mon, 23 Nov 2026 08:00:00 GMT"})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if not re.fullmatch(r"/endpoints/[\w-]+/invocations", self.path):
                operation = self.headers["X-Amz-Target"].rpartition(".")[2]
                self._answer(200, json.dumps(stand_in.describe(operation)).encode())
                return
            if len(body) > BODY_BYTES:
                error = {"message": "1 validation error detected: Value at 'body' is too long"}
                self._answer(400, json.dumps(error).encode(), {"x-amzn-ErrorType": "ValidationError"})
                return
            status, text = stand_in.invoke(body, self.headers["Content-Type"], self.headers["Accept"])
            if status == 200:
                stand_in.capture(self.headers.get("X-Amzn-SageMaker-Inference-Id", ""), body, text)
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
