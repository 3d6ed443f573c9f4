"""The services that an endpoint calls, as little of them as it needs, and model archives to serve."""

import asyncio
import io
import json
import tarfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stagegate.local.sagemaker.async_inference import AsyncInvocations
from stagegate.local.sagemaker.endpoints import Endpoints
from stagegate.local.sagemaker.models import Models
from stagegate.local.sagemaker.registry import Registry
from stagegate.local.sagemaker.runtime import Invocations
from stagegate.local.service import Announcement, AWSError, Runtime
from stagegate.local.store import Store

ECHO = """
import json, os

def model_fn(model_dir):
    print("loaded from", model_dir)
    return "{version}"

def input_fn(body, content_type):
    return json.loads(body)

def predict_fn(data, model):
    return {{"model": model, "data": data, "pid": os.getpid()}}

def output_fn(prediction, accept):
    return json.dumps(prediction)
"""


class FakeAws:
    """S3, CloudWatch Logs and alarms in memory, and SageMaker's own operations for each other."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.content_types: dict[str, str] = {}
        self.logs: defaultdict[str, list[str]] = defaultdict(list)
        self.metrics: list[dict[str, Any]] = []
        self.alarms: list[str] = []
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self._called = asyncio.Event()
        self.services: list[Any] = []

    async def __call__(
        self, service: str, operation: str, parameters: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        given = dict(parameters or {})
        self._called.set()
        match service, operation:
            case "s3", "ListObjectsV2":
                prefix = f"s3://{given['Bucket']}/"
                keys = sorted(uri.removeprefix(prefix) for uri in self.objects if uri.startswith(prefix))
                return {"Contents": [{"Key": key} for key in keys if key.startswith(given["Prefix"])]}
            case "s3", "GetObject":
                uri = f"s3://{given['Bucket']}/{given['Key']}"
                if uri not in self.objects:
                    raise AWSError("NoSuchKey", "The specified key does not exist.", status=404)
                kind = self.content_types.get(uri, "binary/octet-stream")
                return {"Body": self.objects[uri], "ContentType": kind}
            case "s3", "PutObject":
                self.objects[f"s3://{given['Bucket']}/{given['Key']}"] = given["Body"]
                return {}
            case "sns", "Publish":
                self.messages.append((given["TopicArn"], json.loads(given["Message"])))
                return {}
            case "logs", "PutLogEvents":
                stream = f"{given['logGroupName']}:{given['logStreamName']}"
                self.logs[stream] += [event["message"] for event in given["logEvents"]]
                return {}
            case "logs", _:
                return {}
            case "cloudwatch", "PutMetricData":
                self.metrics += given["MetricData"]
                return {}
            case "cloudwatch", "DescribeAlarms":
                raised = [name for name in given["AlarmNames"] if name in self.alarms]
                return {"MetricAlarms": [{"AlarmName": name, "StateValue": "ALARM"} for name in raised]}
            case "sagemaker", "DescribeModelPackage":
                registry = next(service for service in self.services if isinstance(service, Registry))
                return registry.describe_model_package(**given)
        raise AssertionError(f"{service} {operation} was called")

    async def next_call(self) -> None:
        self._called.clear()
        await self._called.wait()


class SageMaker:
    """The services over one data folder, as the server would have them, and what they announced."""

    def __init__(self, data: Path, aws: FakeAws) -> None:
        self.store = Store(data / "stagegate.db")
        self.aws = aws
        runtime = Runtime(store=self.store, aws=aws, data=data, endpoint_url="http://127.0.0.1:1")
        runtime.listeners.append(self._announced)
        self.announcements: list[Announcement] = []
        self._news = asyncio.Event()
        self.registry = Registry(runtime)
        self.models = Models(runtime)
        self.endpoints = Endpoints(runtime)
        self.runtime = Invocations(runtime)
        self.queues = AsyncInvocations(runtime)
        aws.services = [self.registry, self.models, self.endpoints, self.runtime, self.queues]

    async def __aenter__(self) -> "SageMaker":
        for service in self.aws.services:
            await service.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        for service in self.aws.services:
            await service.stop()
        self.store.close()

    async def model(self, name: str, *, code: str | None = None, **variables: str) -> None:
        uri = f"s3://data/{name}/model.tar.gz"
        self.aws.objects[uri] = archive({"code/inference.py": code or ECHO.format(version=name)})
        container = {"Image": "pytorch:2", "ModelDataUrl": uri, "Environment": variables}
        await self.models.create_model(ModelName=name, PrimaryContainer=container)

    def config(self, name: str, *models: str, weight: float = 1.0, **members: Any) -> None:
        self.models.create_endpoint_config(
            EndpointConfigName=name,
            ProductionVariants=[variant(model, weight=weight) for model in models],
            **members,
        )

    async def serve(self, name: str, *, code: str | None = None, **members: Any) -> str:
        """An endpoint in service with one variant, AllTraffic."""
        await self.model(f"{name}-1", code=code)
        self.models.create_endpoint_config(
            EndpointConfigName=f"{name}-1", ProductionVariants=[variant(f"{name}-1", "AllTraffic")], **members
        )
        self.endpoints.create_endpoint(EndpointName=name, EndpointConfigName=f"{name}-1")
        assert await self.settled(name) == "InService"
        return name

    async def settled(self, name: str) -> str:
        """The endpoint's status, once it is one that stays."""
        async with asyncio.timeout(60):
            while True:
                status = str(self.endpoints.describe_endpoint(EndpointName=name)["EndpointStatus"])
                if status in ("InService", "Failed"):
                    return status
                await self.next_announcement()

    async def gone(self, name: str) -> None:
        """Return when the endpoint has been deleted."""
        await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == f"delete {name}"))

    async def next_announcement(self) -> None:
        await self._news.wait()
        self._news.clear()

    def _announced(self, announcement: Announcement) -> None:
        self.announcements.append(announcement)
        self._news.set()


def variant(model: str, name: str | None = None, *, weight: float = 1.0, **members: Any) -> dict[str, Any]:
    return {
        "VariantName": name or model,
        "ModelName": model,
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 1,
        "InitialVariantWeight": weight,
        **members,
    }


def archive(files: Mapping[str, str], *, mode: int = 0o644) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text.encode()), mode
            tar.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()
