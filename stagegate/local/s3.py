"""Whole folders between S3 and the disk, for the services that give their processes files."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from stagegate.local.service import Aws, AWSError


def split_uri(uri: str) -> tuple[str, str]:
    """`s3://bucket/a/b` as ("bucket", "a/b"); anything else is a ValidationException."""
    parts = urlsplit(uri)
    if parts.scheme != "s3" or not parts.netloc:
        raise AWSError("ValidationException", f"'{uri}' is not an S3 URI: it should read s3://bucket/key")
    return parts.netloc, parts.path.lstrip("/")


async def keys(aws: Aws, uri: str) -> list[str]:
    """The keys below `uri` as a prefix, in order, as S3Prefix means it: every key that begins with it."""
    bucket, prefix = split_uri(uri)
    found: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = await aws("s3", "ListObjectsV2", {"Bucket": bucket, "Prefix": prefix, **token})
        found += [entry["Key"] for entry in page.get("Contents", ())]
        if not page.get("IsTruncated"):
            return found
        token = {"ContinuationToken": page["NextContinuationToken"]}


async def read(aws: Aws, uri: str) -> bytes:
    """One object's content."""
    bucket, key = split_uri(uri)
    body: bytes = (await aws("s3", "GetObject", {"Bucket": bucket, "Key": key}))["Body"]
    return body


async def write(aws: Aws, uri: str, content: bytes) -> None:
    """One object."""
    bucket, key = split_uri(uri)
    await aws("s3", "PutObject", {"Bucket": bucket, "Key": key, "Body": content})


async def objects(aws: Aws, uri: str) -> list[tuple[str, str]]:
    """The objects below the prefix `uri`, each with its name below that; a single one by its own name."""
    bucket, prefix = split_uri(uri)
    found = []
    for key in await keys(aws, uri):
        if not key.endswith("/"):  # a folder made by hand in the S3 console
            name = key.rsplit("/", 1)[-1] if key == prefix else key[len(prefix) :].lstrip("/")
            found.append((f"s3://{bucket}/{key}", name))
    return found


async def fetch(aws: Aws, entries: Iterable[tuple[str, str]], folder: Path) -> list[Path]:
    """Objects, each by its URI and the name that it gets, into `folder`. Gives the files."""
    files = []
    for uri, name in entries:
        if ".." in name.split("/"):
            raise AWSError("ValidationException", f"the object {uri} would leave its folder")
        path = folder / name
        body = await read(aws, uri)
        await asyncio.to_thread(_write_file, path, body)
        files.append(path)
    return files


async def download(aws: Aws, uri: str, folder: Path) -> list[Path]:
    """Every key below the prefix `uri` into `folder`; a single object by its own name. Gives the files."""
    return await fetch(aws, await objects(aws, uri), folder)


async def upload(aws: Aws, folder: Path, uri: str) -> list[str]:
    """Every file below `folder` to its place below `uri`, in order of their names. Gives the URIs."""
    uris = []
    for path in await asyncio.to_thread(_files_below, folder):
        target = f"{uri.rstrip('/')}/{path.relative_to(folder).as_posix()}"
        await write(aws, target, await asyncio.to_thread(path.read_bytes))
        uris.append(target)
    return uris


def _write_file(path: Path, body: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)


def _files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
