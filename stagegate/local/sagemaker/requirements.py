"""What a requirements.txt asks for, installed on top of our environment and not into it."""

import asyncio
import hashlib
import shlex
import shutil
import sys
from pathlib import Path
from weakref import WeakValueDictionary

from stagegate.local.log_stream import LogStream
from stagegate.local.sagemaker.container import missing_requirements

_PIP = (sys.executable, "-m", "pip")
_INSTALLING: WeakValueDictionary[Path, asyncio.Lock] = WeakValueDictionary()


class NotInstalled(Exception):
    """The installer failed, with this status; what it said is in the log."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the installer ended with status {status}")
        self.status = status


async def install_beside(model: Path, data: Path, log: LogStream) -> None:
    """What a model's code asks for, linked as `packages` beside the model. Raises NotInstalled."""
    installed = await install_requirements(model / "code" / "requirements.txt", data, log)
    packages = packages_of(model)
    packages.unlink(missing_ok=True)
    if installed is not None:
        packages.symlink_to(installed)


def packages_of(model: Path) -> Path:
    """Where those are; there is nothing where nothing was missing."""
    return model.with_name("packages")


async def install_requirements(file: Path, data: Path, log: LogStream) -> Path | None:
    """What requirements.txt asks for and our environment lacks, in a folder of its own on top of it, in the
    cache of the data directory `data`.

    Gives that folder, or None where nothing is missing. Raises NotInstalled.
    """
    missing = missing_requirements(file)
    if not missing:
        return None
    digest = hashlib.sha256("\n".join(sorted(missing)).encode()).hexdigest()
    target = data / "cache" / "requirements" / digest[:16]
    async with _INSTALLING.setdefault(target, asyncio.Lock()):  # two that want the same at once: one installs
        if not await asyncio.to_thread(target.is_dir):
            await _install(missing, target, folder=file.parent, log=log)
    return target


async def _install(missing: list[str], target: Path, *, folder: Path, log: LogStream) -> None:
    partial = target.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    uv = shutil.which("uv", path=str(Path(sys.executable).parent))
    installer = [uv, "pip", "install", "--python", sys.executable] if uv else [*_PIP, "install"]
    options = [part for line in missing for part in (shlex.split(line) if line[0] == "-" else [line])]
    process = await asyncio.create_subprocess_exec(
        *(*installer, "--target", str(partial), *options),
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    try:
        await log.copy(process.stdout)
        status = await process.wait()
    except BaseException:
        process.kill()
        raise
    if status:
        raise NotInstalled(status)
    partial.rename(target)
