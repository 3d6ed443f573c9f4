"""What a build leaves: the files that its patterns name, and the artifacts as they go to S3."""

import hashlib
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stagegate.local import s3
from stagegate.local.buildspec import Files
from stagegate.local.service import Aws

_SYMLINK = 0o120777 << 16  # a symbolic link's mode, where a ZIP file has it

Document = dict[str, Any]


def collect(files: Files, source: Path) -> dict[str, Path]:
    """The files that the patterns name, by their paths below the base directory."""
    found = {}
    for base in _bases(files.base_directory, source):
        for pattern in files.patterns:
            for path in sorted(_matches(base, pattern)):
                name = path.relative_to(base).as_posix() if path.is_relative_to(base) else path.name
                if not path.is_file() or any(_is_below(name, excluded) for excluded in files.excluded):
                    continue
                if Path(pattern).is_absolute() or path.resolve().is_relative_to(source.resolve()):
                    found[path.name if files.discard_paths else name] = path
    return dict(sorted(found.items()))


def place(artifacts: Document, *, name: str, build_id: str, prefix: str = "") -> str:
    """The key that artifacts get in their bucket ("API Reference, ProjectArtifacts").

    `prefix` is the buildspec's s3-prefix, which counts where the namespace is BUILD_ID.
    """
    by_build = artifacts.get("namespaceType") == "BUILD_ID"
    if by_build and prefix and artifacts.get("packaging") == "ZIP" and not name.endswith(".zip"):
        name += ".zip"
    path = prefix if by_build and prefix else artifacts.get("path", "")
    middle = build_id.partition(":")[2] if by_build else ""
    return "/".join(part for part in (entry.strip("/") for entry in (path, middle, name)) if part)


async def upload(aws: Aws, artifacts: Document, files: dict[str, Path], *, links: bool, arn: str) -> Document:
    """Write them to `_uri`. Gives what the build says about them: with ZIP the hashes."""
    if artifacts.get("packaging", "NONE") != "ZIP":
        for name, path in files.items():
            await _put(aws, f"{artifacts['_uri']}/{name}", path.read_bytes(), arn)
        return {}
    content = _zip(files, links=links)
    await _put(aws, artifacts["_uri"], content, arn)
    return {
        "md5sum": hashlib.md5(content, usedforsecurity=False).hexdigest(),
        "sha256sum": hashlib.sha256(content).hexdigest(),
    }


async def _put(aws: Aws, uri: str, content: bytes, arn: str) -> None:
    bucket, key = s3.split_uri(uri)
    metadata = {"codebuild-buildarn": arn}
    await aws("s3", "PutObject", {"Bucket": bucket, "Key": key, "Body": content, "Metadata": metadata})


def _bases(directory: str, source: Path) -> list[Path]:
    """The base directory, or those whose names match it ("my-build*")."""
    if any(character in directory for character in "*?["):
        return sorted(path for path in source.glob(directory) if path.is_dir())
    return [source / directory]


def _matches(base: Path, pattern: str) -> Iterator[Path]:
    path = Path(pattern)
    if path.is_absolute():
        return Path(path.anchor).glob(str(path.relative_to(path.anchor)))
    return base.glob(pattern)


def _is_below(name: str, excluded: str) -> bool:
    pattern = excluded.removeprefix("./").rstrip("/")
    words = {"**/": "(.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    expression = "".join(words.get(part, re.escape(part)) for part in parts)
    return re.fullmatch(f"{expression}(/.*)?", name) is not None


def _zip(files: dict[str, Path], *, links: bool) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in files.items():
            if links and path.is_symlink():
                entry = zipfile.ZipInfo(name)
                entry.create_system, entry.external_attr = 3, _SYMLINK
                archive.writestr(entry, str(path.readlink()))
            else:
                archive.write(path, name)
    return buffer.getvalue()
