"""The sources of a build, primary and secondary: fetched, each into a folder of its own."""

import asyncio
import io
import os
import re
import zipfile
from pathlib import Path
from typing import Any

from stagegate.local import s3
from stagegate.local.buildspec import BuildspecError
from stagegate.local.service import Aws, AWSError, Runtime

SUPPORTED = ("S3", "CODECOMMIT", "NO_SOURCE")
_WRITTEN_IN_PLACE = re.compile(r"\s*(\{|version\s*:)")

Document = dict[str, Any]


class SourceError(Exception):
    """A source can't be fetched; the message says why."""


def check(source: Document) -> None:
    """Refuse what no build could fetch."""
    if source["type"] not in SUPPORTED:
        raise AWSError(
            "InvalidInputException",
            f"Source type {source['type']} is not supported by the local runtime; {', '.join(SUPPORTED)} are",
        )
    if source["type"] == "NO_SOURCE" and not source.get("buildspec"):
        raise AWSError("InvalidInputException", "Source type NO_SOURCE wants a buildspec")
    if source["type"] == "S3" and "/" not in source.get("location", ""):
        raise AWSError("InvalidInputException", "Invalid project source: location must be a valid S3 source")
    if source["type"] == "CODECOMMIT" and "/repos/" not in source.get("location", ""):
        raise AWSError(
            "InvalidInputException",
            "Invalid project source: location must be a valid CodeCommit repository URL",
        )


async def fetch(runtime: Runtime, source: Document, version: str | None, folder: Path) -> str | None:
    """The source in its folder. Gives its resolved version, where it has one. Raises SourceError."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    try:
        if source["type"] == "S3":
            return await _from_s3(runtime.aws, source["location"], version, folder)
        if source["type"] == "CODECOMMIT":
            return await _from_codecommit(runtime, source, version, folder)
    except (AWSError, zipfile.BadZipFile) as error:
        reason = error.message if isinstance(error, AWSError) else str(error)
        raise SourceError(f"error while downloading source {source['location']}: {reason}") from error
    return None


async def buildspec_text(aws: Aws, source: Document, folder: Path) -> str:
    """The buildspec that is written in place, in an object of S3, or in the source. Raises BuildspecError."""
    given: str = source.get("buildspec") or "buildspec.yml"
    if _WRITTEN_IN_PLACE.match(given):
        return given
    if given.startswith("arn:aws:s3:::"):
        try:
            return (await s3.read(aws, f"s3://{given.removeprefix('arn:aws:s3:::')}")).decode()
        except AWSError as error:
            raise BuildspecError(f"YAML_FILE_ERROR: {given}: {error.message}") from error
    return await asyncio.to_thread(_text_within, folder, given)


def _text_within(folder: Path, name: str) -> str:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise BuildspecError(f"YAML_FILE_ERROR: stat {name}: no such file or directory")
    return path.read_text()


async def _from_s3(aws: Aws, location: str, version: str | None, folder: Path) -> str | None:
    uri = f"s3://{location.removeprefix('s3://').removeprefix('arn:aws:s3:::')}"
    if uri.endswith("/"):
        await s3.download(aws, uri, folder)
        return None
    bucket, key = s3.split_uri(uri)
    which = {"VersionId": version} if version else {}
    answer = await aws("s3", "GetObject", {"Bucket": bucket, "Key": key, **which})
    await asyncio.to_thread(_unzip, answer["Body"], folder)
    found: str | None = answer.get("VersionId")
    return found


async def _from_codecommit(runtime: Runtime, source: Document, version: str | None, folder: Path) -> str:
    name = source["location"].rstrip("/").rpartition("/repos/")[2]
    await runtime.authorize("codecommit:GitPull", runtime.arn("codecommit", name))
    url = f"{runtime.endpoint_url}/v1/repos/{name}"
    depth = source.get("gitCloneDepth")
    shallow = ("--depth", str(depth)) if depth and not version else ()
    await _git("clone", "--quiet", *shallow, url, str(folder))
    if version:
        name = version.removeprefix("refs/heads/").removeprefix("refs/tags/")
        await _git("-C", str(folder), "checkout", "--quiet", name)
    if source.get("gitSubmodulesConfig", {}).get("fetchSubmodules"):
        await _git("-C", str(folder), "submodule", "update", "--quiet", "--init", "--recursive")
    return await _git("-C", str(folder), "rev-parse", "HEAD")


async def _git(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "git",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
    )
    try:
        output, errors = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise SourceError(f"git {arguments[0]}: {errors.decode(errors='replace').strip()}")
    return output.decode().strip()


def _unzip(archive: bytes, folder: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(archive)) as members:
        for member in members.infolist():
            path = Path(members.extract(member, folder))  # zipfile keeps paths inside
            if mode := member.external_attr >> 16 & 0o777:
                path.chmod(mode | 0o600)
