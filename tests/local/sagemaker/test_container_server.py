"""Models that bring a server of their own, as a container does."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from stagegate.local.service import AWSError
from tests.local.sagemaker.fakes import FakeAws, SageMaker, archive, variant

SERVE = """#!/usr/bin/env python3
import http.server, json, os, signal, subprocess, time

signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
child = subprocess.Popen(["sleep", "600"], start_new_session=True)

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(200 if self.path == "/ping" else 404, b"")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if body == b"die":
            os._exit(9)
        if body == b"refuse":
            return self.answer(422, b"no")
        said = {
            "model": open("/opt/ml/model/weights").read(),
            "pid": os.getpid(),
            "body": len(body),
            "type": self.headers["Content-Type"],
            "accept": self.headers["Accept"],
            "custom": self.headers["X-Amzn-SageMaker-Custom-Attributes"],
        }
        self.answer(200, json.dumps(said).encode())

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *said):
        pass

time.sleep(0.1)
print("listens", flush=True)
address = ("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"]))
http.server.ThreadingHTTPServer(address, Handler).serve_forever()
"""


@pytest.fixture
async def sagemaker(tmp_path: Path) -> AsyncIterator[SageMaker]:
    async with SageMaker(tmp_path / "data", FakeAws()) as sagemaker:
        yield sagemaker


async def serve(sagemaker: SageMaker, program: str) -> str:
    uri = "s3://data/own/model.tar.gz"
    sagemaker.aws.objects[uri] = archive({"weights": "heavy", "code/serve": program}, mode=0o755)
    await sagemaker.models.create_model(
        ModelName="own", PrimaryContainer={"Image": "own:1", "ModelDataUrl": uri}
    )
    sagemaker.models.create_endpoint_config(
        EndpointConfigName="own", ProductionVariants=[variant("own", "AllTraffic")]
    )
    sagemaker.endpoints.create_endpoint(EndpointName="own", EndpointConfigName="own")
    return await sagemaker.settled("own")


async def ask(sagemaker: SageMaker, body: bytes = b"x", **members: Any) -> dict[str, Any]:
    answer = await sagemaker.runtime.invoke_endpoint(EndpointName="own", Body=body, **members)
    said: dict[str, Any] = json.loads(answer["Body"])
    return said


async def asked(sagemaker: SageMaker) -> dict[str, Any]:
    """Nothing where the server is not back."""
    with contextlib.suppress(AWSError):
        return await ask(sagemaker)
    return {}


def below(program: str) -> list[psutil.Process]:
    """The processes of this test's server that run the program."""
    return [one for one in psutil.Process().children(recursive=True) if one.name() == program]


async def test_a_model_may_bring_its_own_server(sagemaker: SageMaker) -> None:
    assert await serve(sagemaker, SERVE) == "InService"

    said = await ask(
        sagemaker, b"x" * 300_000, ContentType="text/csv", Accept="image/png", CustomAttributes="a=1"
    )
    with pytest.raises(AWSError) as refused:
        await ask(sagemaker, b"refuse")

    assert said == {
        "model": "heavy",
        "pid": 1,  # the first process, as in a container
        "body": 300_000,
        "type": "text/csv",
        "accept": "image/png",
        "custom": "a=1",
    }
    assert refused.value.members["OriginalStatusCode"] == 422
    assert refused.value.members["OriginalMessage"] == "no"
    await sagemaker.endpoints.stop()
    assert [line for lines in sagemaker.aws.logs.values() for line in lines] == ["listens"]


async def test_a_server_that_dies_is_started_again_and_leaves_nothing(sagemaker: SageMaker) -> None:
    assert await serve(sagemaker, SERVE) == "InService"
    (left,) = below("sleep")

    with pytest.raises(AWSError, match="The connection to container primary was lost"):
        await ask(sagemaker, b"die")
    async with asyncio.timeout(30):
        while not (said := await asked(sagemaker)):
            continue

    assert said["model"] == "heavy"
    assert not left.is_running()
    await sagemaker.endpoints.stop()
    assert below("sleep") == []


@pytest.mark.parametrize(
    "program",
    ["#!/bin/sh\necho no licence\nexit 3\n", "#!/bin/none\n"],
)
async def test_a_server_that_does_not_start_fails_the_endpoint(sagemaker: SageMaker, program: str) -> None:
    assert await serve(sagemaker, program) == "Failed"

    reason = sagemaker.endpoints.describe_endpoint(EndpointName="own")["FailureReason"]
    assert "did not pass the ping health check" in reason


def test_nothing_outlives_the_runtime_that_is_killed(tmp_path: Path) -> None:
    runtime = subprocess.Popen(
        [sys.executable, "-c", RUNTIME, str(tmp_path), SERVE],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    with runtime:
        assert runtime.stdout is not None
        assert runtime.stdout.readline() == b"InService\n"
        processes = psutil.Process(runtime.pid).children(recursive=True)
        names = [process.name() for process in processes]

        runtime.kill()

        _, alive = psutil.wait_procs(processes, timeout=10)
    assert "sleep" in names
    assert alive == []


RUNTIME = """
import asyncio, pathlib, sys
from fakes import FakeAws, SageMaker, archive, variant

async def main():
    async with SageMaker(pathlib.Path(sys.argv[1]), FakeAws()) as sagemaker:
        uri = "s3://data/own/model.tar.gz"
        sagemaker.aws.objects[uri] = archive({"weights": "heavy", "code/serve": sys.argv[2]}, mode=0o755)
        container = {"Image": "own:1", "ModelDataUrl": uri}
        await sagemaker.models.create_model(ModelName="own", PrimaryContainer=container)
        variants = [variant("own", "AllTraffic")]
        sagemaker.models.create_endpoint_config(EndpointConfigName="own", ProductionVariants=variants)
        sagemaker.endpoints.create_endpoint(EndpointName="own", EndpointConfigName="own")
        print(await sagemaker.settled("own"), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""
