"""A build's cache: an archive of the paths that the buildspec names, in S3 or beside the builds."""

import asyncio
import io
import shutil
import tarfile
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stagegate.local import archives, s3
from stagegate.local.service import Aws, AWSError

Document = dict[str, Any]


class BuildCache:
    """The archives of one project: one without a key, and one for each key, which stays as it is."""

    def __init__(self, aws: Aws, build: Document, folder: Path) -> None:
        self._aws = aws
        self._config: Document = build.get("cache") or {"type": "NO_CACHE"}
        space = self._config.get("cacheNamespace") or build["projectName"]
        self._uri = f"s3://{self._config.get('location', '').strip('/')}/{space}"
        self._folder = folder / space

    @property
    def is_used(self) -> bool:
        if self._config["type"] == "LOCAL":
            return "LOCAL_CUSTOM_CACHE" in self._config.get("modes", [])
        return bool(self._config["type"] == "S3")

    async def restore(self, home: Path, key: str | None, fallback: Iterable[str]) -> str | None:
        """Unpack the archive of the key, or of the first that begins with a fallback key. Gives its name."""
        for name in [_name(key), *(await self._beginning_with(fallback) if key else [])]:
            if (content := await self._read(name)) is not None:
                await asyncio.to_thread(_unpack, content, home, self._config["type"] == "LOCAL")
                return name
        return None

    async def save(self, home: Path, key: str | None, paths: Iterable[str]) -> str | None:
        """Pack what the paths name. Gives the archive's name, or None: a key's archive is never replaced."""
        if key and await self._read(_name(key)) is not None:
            return None
        content = await asyncio.to_thread(_pack, home, tuple(paths))
        if self._config["type"] == "S3":
            await s3.write(self._aws, f"{self._uri}/{_name(key)}", content)
        else:
            await asyncio.to_thread(_replace, self._folder / _name(key), content)
        return _name(key)

    async def _read(self, name: str) -> bytes | None:
        if self._config["type"] != "S3":
            path = self._folder / name
            return await asyncio.to_thread(path.read_bytes) if path.is_file() else None
        try:
            return await s3.read(self._aws, f"{self._uri}/{name}")
        except AWSError as error:
            if error.code == "NoSuchKey":
                return None
            raise

    async def _beginning_with(self, prefixes: Iterable[str]) -> list[str]:
        if self._config["type"] == "S3":
            names = [key.rsplit("/", 1)[-1] for key in await s3.keys(self._aws, f"{self._uri}/")]
        else:
            names = sorted(path.name for path in self._folder.glob("*.tar.gz"))
        keys = [name for name in names if name.startswith("key-")]
        return [name for prefix in prefixes for name in keys if name.startswith(f"key-{_word(prefix)}")]


def _name(key: str | None) -> str:
    return f"key-{_word(key)}.tar.gz" if key else "cache.tar.gz"


def _word(key: str) -> str:
    return key.replace("/", "%2F")


def _unpack(content: bytes, home: Path, replaces: bool) -> None:
    """A local cache is before the sources ("Local caching"); one in S3 replaces nothing of theirs."""
    folder = home / "restored"
    archives.unpack(content, folder)
    for path in sorted(folder.rglob("*")):
        place = home / path.relative_to(folder)
        if path.is_dir() and not path.is_symlink():
            place.mkdir(parents=True, exist_ok=True)
        elif replaces or not (place.exists() or place.is_symlink()):
            place.parent.mkdir(parents=True, exist_ok=True)
            path.replace(place)
    shutil.rmtree(folder)


def _pack(home: Path, paths: tuple[str, ...]) -> bytes:
    """The source's and the home folder's files by their places in the build's folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path in sorted({path for pattern in paths for path in _matches(home, pattern)}):
            archive.add(path, arcname=path.relative_to(home).as_posix(), recursive=False)
    return buffer.getvalue()


def _matches(home: Path, pattern: str) -> Iterable[Path]:
    """`/root` and `~` are the build's home folder; other places of the machine are not the build's."""
    for beginning in ("/root/", "~/", "$HOME/"):
        if pattern.startswith(beginning):
            base, pattern = home / "root", pattern.removeprefix(beginning)
            break
    else:
        base = home / "src"
    if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
        return []
    found: list[Path] = []
    for path in base.glob(pattern or "**/*"):
        found += [path, *(path.rglob("*") if path.is_dir() and not path.is_symlink() else ())]
    return found


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    new.write_bytes(content)
    new.replace(path)
