"""Endpoints that go wrong, one way after the other, each with the status and reason that AWS shows.

A handler that hangs in a request and bodies that are too large are in test_runtime.py, updates that fail
under load in test_updates_under_load.py, processes whose server is killed in test_endpoints.py.
"""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from stagegate.local.sagemaker import model_process
from stagegate.local.service import AWSError
from tests.local.sagemaker.fakes import FakeAws, SageMaker, archive, variant
from tests.local.sagemaker.test_job_processes import wheel_of

SEED = 7
PING = (
    "The primary container for production variant AllTraffic did not pass the ping health check. "
    "Please check CloudWatch logs for this endpoint."
)
DOWNLOAD = (
    'Failed to download model data from URL "s3://data/scenes/model.tar.gz". Please ensure that there is an '
    "object located at the URL and that the role passed to CreateModel has permissions to download the model."
)
EXTRACT = (
    'Failed to extract model data archive from URL "s3://data/scenes/model.tar.gz". Please ensure that the '
    "object located at the URL is a valid tar.gz archive."
)
SLOW = """
import os, time

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    time.sleep(0.002)
    return str(os.getpid()), "text/plain"
"""
STUMBLING = """
import os

def model_fn(model_dir):
    with open(os.environ["COUNT"], "a") as file:
        file.write("+")
    return os.path.getsize(os.environ["COUNT"])

def transform_fn(model, data, content_type, accept):
    if model < 4:
        os._exit(3)
    return "at last", "text/plain"
"""
DYING = """
import os

def model_fn(model_dir):
    import uvicorn
    uvicorn.Server.run = lambda self, sockets: os._exit(3)
"""
LOUD = """
import sys

def model_fn(model_dir):
    for _ in range(100):
        sys.stdout.buffer.write(bytes(range(255, 245, -1)) * 100_000 + b"\\n")
    sys.stdout.flush()

def transform_fn(model, data, content_type, accept):
    return "still here", "text/plain"
"""


@pytest.fixture
async def sagemaker(tmp_path: Path) -> AsyncIterator[SageMaker]:
    async with SageMaker(tmp_path / "data", FakeAws()) as sagemaker:
        yield sagemaker


async def create(sagemaker: SageMaker, code: str, *, content: bytes | None = None, **members: Any) -> str:
    """Create the endpoint and give the status at which it arrives; `content` instead of its archive."""
    environment = members.pop("environment", {})
    await sagemaker.model("scenes", code=code, **environment)
    uri = "s3://data/scenes/model.tar.gz"
    if content is not None:
        sagemaker.aws.objects[uri] = content
    elif not code:
        del sagemaker.aws.objects[uri]
    sagemaker.models.create_endpoint_config(
        EndpointConfigName="scenes", ProductionVariants=[variant("scenes", "AllTraffic", **members)]
    )
    sagemaker.endpoints.create_endpoint(EndpointName="scenes", EndpointConfigName="scenes")
    return await sagemaker.settled("scenes")


def described(sagemaker: SageMaker) -> tuple[str, str | None]:
    endpoint = sagemaker.endpoints.describe_endpoint(EndpointName="scenes")
    return endpoint["EndpointStatus"], endpoint.get("FailureReason")


async def ask(sagemaker: SageMaker) -> str:
    answer = await sagemaker.runtime.invoke_endpoint(EndpointName="scenes", Body=b"?")
    return bytes(answer["Body"]).decode()


def flipped() -> bytes:
    """An archive with bits that are wrong, in the same places each time."""
    dice = random.Random(SEED)
    content = bytearray(archive({"code/inference.py": "", "weights": str(dice.random()) * 1_000}))
    for place in dice.sample(range(20, len(content) - 10), 5):
        content[place] ^= 0xFF
    return bytes(content)


@pytest.mark.parametrize(
    ("code", "given", "reason"),
    [
        ("def model_fn(model_dir): raise RuntimeError('no weights')", {}, PING),
        ("import nothing_of_that_name", {}, PING),
        ("import os; os._exit(0)", {}, PING),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", {}, PING),
        ("while True: pass", {"ContainerStartupHealthCheckTimeoutInSeconds": 0.5}, PING),
        ("", {}, DOWNLOAD),
        ("pass", {"ModelDataDownloadTimeoutInSeconds": 0}, DOWNLOAD),
        ("pass", {"content": b"this is no archive"}, EXTRACT),
        ("pass", {"content": archive({"code/inference.py": "pass" * 1_000})[:-20]}, EXTRACT),
        ("pass", {"content": flipped()}, EXTRACT),
    ],
    ids=["raises", "import", "exits", "segfault", "hangs", "missing", "slow", "text", "truncated", "damaged"],
)
async def test_a_model_that_cannot_be_served_fails_the_endpoint(
    sagemaker: SageMaker, code: str, given: dict[str, Any], reason: str
) -> None:
    async with asyncio.timeout(30):
        await create(sagemaker, code, **given)

    assert described(sagemaker) == ("Failed", reason)
    with pytest.raises(AWSError, match="Endpoint scenes of account 111111111111 not found"):
        await ask(sagemaker)
    sagemaker.endpoints.delete_endpoint(EndpointName="scenes")
    await sagemaker.gone("scenes")


async def test_a_model_has_what_its_requirements_ask_for(sagemaker: SageMaker, tmp_path: Path) -> None:
    wheel = wheel_of(tmp_path, "stagegate_says", "VALUE = 'hello'")
    code = (
        "import stagegate_says\n\ndef model_fn(folder):\n    return None\n\n"
        "def transform_fn(*_):\n    return stagegate_says.VALUE, 'text/plain'\n"
    )
    gone = (tmp_path / "gone-1.0-py3-none-any.whl").as_uri()
    for name, wanted in (("asks", f"stagegate-says @ {wheel.as_uri()}"), ("in-vain", f"gone @ {gone}")):
        files = {"code/inference.py": code, "code/requirements.txt": wanted}
        sagemaker.aws.objects[f"s3://data/{name}.tar.gz"] = archive(files)
        container = {"Image": "pytorch:2", "ModelDataUrl": f"s3://data/{name}.tar.gz"}
        await sagemaker.models.create_model(ModelName=name, PrimaryContainer=container)
        sagemaker.models.create_endpoint_config(
            EndpointConfigName=name, ProductionVariants=[variant(name, "AllTraffic")]
        )
        sagemaker.endpoints.create_endpoint(EndpointName=name, EndpointConfigName=name)

    assert await sagemaker.settled("asks") == "InService"
    assert await sagemaker.settled("in-vain") == "Failed"

    answer = await sagemaker.runtime.invoke_endpoint(EndpointName="asks", Body=b"?")
    assert answer["Body"] == b"hello"
    failed = sagemaker.endpoints.describe_endpoint(EndpointName="in-vain")
    assert "did not pass the ping health check" in failed["FailureReason"]
    assert any("gone-1.0-py3-none-any.whl" in line for lines in sagemaker.aws.logs.values() for line in lines)


async def test_a_process_that_is_killed_under_load_costs_what_it_had_and_no_more(
    sagemaker: SageMaker,
) -> None:
    await create(sagemaker, SLOW)
    pids: set[str] = set()
    errors: list[AWSError] = []

    async def client() -> None:
        for _ in range(25):
            try:
                pids.add(await ask(sagemaker))
            except AWSError as error:
                errors.append(error)

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(client())
        killed = await ask(sagemaker)
        os.kill(int(killed), signal.SIGKILL)

    assert 1 <= len(errors) <= 8  # each client had one request under way
    assert {(error.code, error.status, error.members["OriginalStatusCode"]) for error in errors} == {
        ("ModelError", 424, 0)
    }
    assert len(pids - {killed}) == 1
    assert described(sagemaker) == ("InService", None)


async def test_a_process_that_dies_again_and_again_is_started_ever_later(
    sagemaker: SageMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = tmp_path / "count"
    monkeypatch.setattr(model_process, "_RESTART_SECONDS", (0, 0.1, 0.2))
    await create(sagemaker, STUMBLING, environment={"COUNT": str(count)})
    waits: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        waits.append(seconds)
        await sleep(seconds)

    monkeypatch.setattr(model_process.asyncio, "sleep", noted)

    async with asyncio.timeout(30):
        while await answer_or_error(sagemaker) != "at last":
            pass

    assert [seconds for seconds in waits if seconds in (0, 0.1)][:2] == [0, 0.1]
    assert 0.2 in waits
    assert described(sagemaker) == ("InService", None)


async def test_a_process_that_dies_between_its_start_and_its_first_answer_is_not_waited_for(
    sagemaker: SageMaker,
) -> None:
    async with asyncio.timeout(30):
        await create(sagemaker, DYING)

    assert described(sagemaker) == ("Failed", PING)


async def answer_or_error(sagemaker: SageMaker) -> str:
    try:
        return await ask(sagemaker)
    except AWSError as error:
        assert error.code == "ModelError"
        return error.message


@pytest.mark.slow
async def test_100_mb_of_what_is_no_text_in_the_log_stop_nothing(sagemaker: SageMaker) -> None:
    assert await create(sagemaker, LOUD) == "InService"

    assert await ask(sagemaker) == "still here"
    await sagemaker.endpoints.stop()

    [lines] = sagemaker.aws.logs.values()
    assert sum(map(len, lines)) == 100_000_000
    assert set(lines[0]) == {"\ufffd"}
