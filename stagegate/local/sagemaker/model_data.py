"""A model's files: fetched from S3, unpacked where its process finds them."""

import asyncio
import shutil
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stagegate.local import s3
from stagegate.local.archives import unpack
from stagegate.local.service import Aws, AWSError

_DAMAGED = (tarfile.TarError, zlib.error, OSError, EOFError)


class Unavailable(Exception):
    """The model data could not be fetched; the text says why."""

    def __init__(self, uri: str, why: object) -> None:
        super().__init__(f"{uri}: {why}")
        self.uri = uri


class Damaged(Unavailable):
    """It could not be unpacked."""


async def fetch(aws: Aws, container: Mapping[str, Any], folder: Path) -> None:
    """The container's model data in `folder`. What is there already is whole and stays."""
    if await asyncio.to_thread(folder.exists):
        return
    partial = folder.with_name(f"{folder.name}.partial")
    await asyncio.to_thread(shutil.rmtree, partial, ignore_errors=True)
    partial.mkdir(parents=True)
    uri, is_archive = _source(container)
    if uri is not None:
        if is_archive:
            await _fetch_archive(aws, uri, partial)
        else:
            await _fetch_folder(aws, uri, partial)
    code = container.get("Environment", {}).get("SAGEMAKER_SUBMIT_DIRECTORY", "")
    if code.startswith("s3://"):
        await _fetch_archive(aws, code, partial / "code")
    partial.rename(folder)


async def _fetch_archive(aws: Aws, uri: str, folder: Path) -> None:
    try:
        content = await s3.read(aws, uri)
    except AWSError as error:
        raise Unavailable(uri, error) from error
    try:
        await asyncio.to_thread(unpack, content, folder)
    except _DAMAGED as error:
        raise Damaged(uri, error) from error


async def _fetch_folder(aws: Aws, uri: str, folder: Path) -> None:
    try:
        if not await s3.download(aws, uri, folder):
            raise Unavailable(uri, "there is nothing below it")
    except AWSError as error:
        raise Unavailable(uri, error) from error


def uri_of(container: Mapping[str, Any]) -> str | None:
    return _source(container)[0]


def _source(container: Mapping[str, Any]) -> tuple[str | None, bool]:
    """The S3 URI, and whether it is a .tar.gz."""
    if (source := container.get("ModelDataSource", {}).get("S3DataSource")) is not None:
        return source["S3Uri"], source["CompressionType"] == "Gzip"
    return container.get("ModelDataUrl"), True
