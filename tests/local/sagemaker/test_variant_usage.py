"""What the processes of endpoints take of the machine, as CloudWatch is told."""

import asyncio
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from stagegate.local.sagemaker import variant_usage
from tests.local.sagemaker.fakes import FakeAws, SageMaker
from tests.local.sagemaker.test_runtime import invoke

BUSY = """
import json, time
HELD = bytearray(100 * 2**20)
def model_fn(model_dir): return None
def input_fn(body, content_type): return body
def predict_fn(data, model):
    end = time.process_time() + 0.3
    while time.process_time() < end: pass
    return data
def output_fn(prediction, accept): return json.dumps("done")
"""
MEASURED = ("CPUUtilization", "MemoryUtilization", "DiskUtilization")


async def sent(
    sagemaker: SageMaker, *variants: str, times: int
) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """The statistics of each variant's metrics, as soon as all have been sent so often."""
    async with asyncio.timeout(40):
        while True:
            found: defaultdict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
            for datum in sagemaker.aws.metrics:
                if datum["MetricName"] in MEASURED:
                    dimensions = {of["Name"]: of["Value"] for of in datum["Dimensions"]}
                    assert dimensions["EndpointName"] == "scenes"
                    assert datum["Unit"] == "Percent"
                    found[dimensions["VariantName"], datum["MetricName"]].append(datum["StatisticValues"])
            if all(len(found[name, metric]) >= times for name in variants for metric in MEASURED):
                return found
            await sagemaker.aws.next_call()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variant_usage, "_SAMPLE_SECONDS", 0.1)
    monkeypatch.setattr(variant_usage, "_SEND_SECONDS", 0.2)


@pytest.mark.usefixtures("quick")
async def test_what_an_endpoint_takes_is_recorded(tmp_path: Path) -> None:
    async with SageMaker(tmp_path, FakeAws()) as sagemaker:
        await sagemaker.serve("scenes", code=BUSY)
        for _ in range(3):
            await invoke(sagemaker, b"1")

        found = await sent(sagemaker, "AllTraffic", times=4)

    processor = [of["Maximum"] for of in found["AllTraffic", "CPUUtilization"]]
    assert 20 < max(processor) <= 100 * (os.cpu_count() or 1)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert (
        100 * 100 * 2**20 / machine
        < max(of["Maximum"] for of in found["AllTraffic", "MemoryUtilization"])
        < 100
    )
    assert all(0 < of["Maximum"] < 1 for of in found["AllTraffic", "DiskUtilization"])
