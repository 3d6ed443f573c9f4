"""The endpoint in this process: moto and the store are real, our own services only where a test says so."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from stagegate.local.endpoint import Endpoint
from stagegate.local.store import Store


@asynccontextmanager
async def opened(
    data: Path, classes=None, endpoint_url: str = "http://127.0.0.1:4566"
) -> AsyncIterator[Endpoint]:
    """An endpoint without a port, on the data of the one before it."""
    store = Store(data / "stagegate.db")
    try:
        endpoint = Endpoint(store, data, endpoint_url=endpoint_url, classes=classes or {})
        await endpoint.moto.replay()
        try:
            yield endpoint
        finally:
            await endpoint.stop()
    finally:
        store.close()


@pytest.fixture
def open_endpoint(tmp_path: Path):
    """`async with open_endpoint() as endpoint`: opened again, it goes on with what it had."""
    return lambda classes=None: opened(tmp_path / "data", classes)
