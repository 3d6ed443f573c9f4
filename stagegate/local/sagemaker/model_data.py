"""A model's files: fetched from S3, unpacked where its process finds them."""

import asyncio
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stagegate.local import s3
from stagegate.local.archives import unpack
from stagegate.local.service import Aws, AWSError


class Unavailable(Exception):
    """The model data could not be fetched or unpacked; the text says where it should be."""


async def fetch(aws: Aws, container: Mapping[str, Any], folder: Path) -> None:
    """The container's model data in `folder`. What is there already is whole and stays."""
    if await asyncio.to_thread(folder.exists):
        return
    partial = folder.with_name(f"{folder.name}.partial")
    await asyncio.to_thread(shutil.rmtree, partial, ignore_errors=True)
    partial.mkdir(parents=True)
    uri, is_archive = _source(container)
    if uri is not None:
        try:
            if is_archive:
                await asyncio.to_thread(unpack, await s3.read(aws, uri), partial)
            elif not await s3.download(aws, uri, partial):
                raise Unavailable(f"there is nothing below {uri}")
        except (AWSError, tarfile.TarError, OSError, EOFError) as error:
            raise Unavailable(f"{uri}: {error}") from error
    code = container.get("Environment", {}).get("SAGEMAKER_SUBMIT_DIRECTORY", "")
    if code.startswith("s3://"):
        try:
            await asyncio.to_thread(unpack, await s3.read(aws, code), partial / "code")
        except (AWSError, tarfile.TarError, OSError, EOFError) as error:
            raise Unavailable(f"{code}: {error}") from error
    partial.rename(folder)


def uri_of(container: Mapping[str, Any]) -> str | None:
    return _source(container)[0]


def _source(container: Mapping[str, Any]) -> tuple[str | None, bool]:
    """The S3 URI, and whether it is a .tar.gz."""
    if (source := container.get("ModelDataSource", {}).get("S3DataSource")) is not None:
        return source["S3Uri"], source["CompressionType"] == "Gzip"
    return container.get("ModelDataUrl"), True
