"""What a requirements.txt asks for, installed on top of our environment and not into it."""

import asyncio
import hashlib
import shlex
import shutil
import sys
from pathlib import Path

from stagegate.local.sagemaker.container import job_failure, missing_requirements
from stagegate.local.sagemaker.job_run import JobFailed, JobLog

_PIP = (sys.executable, "-m", "pip")


async def install_requirements(file: Path, cache: Path, log: JobLog) -> Path | None:
    """What requirements.txt asks for and our environment lacks, in a folder of its own on top of it.

    Gives that folder, or None where nothing is missing. Raises JobFailed.
    """
    missing = missing_requirements(file)
    if not missing:
        return None
    target = cache / hashlib.sha256("\n".join(sorted(missing)).encode()).hexdigest()[:16]
    if await asyncio.to_thread(target.is_dir):
        return target
    partial = target.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    uv = shutil.which("uv", path=str(Path(sys.executable).parent))
    installer = [uv, "pip", "install", "--python", sys.executable] if uv else [*_PIP, "install"]
    options = [part for line in missing for part in (shlex.split(line) if line[0] == "-" else [line])]
    process = await asyncio.create_subprocess_exec(
        *(*installer, "--target", str(partial), *options),
        cwd=file.parent,
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
        failure = job_failure(["pip", "install", "-r", file.name], status, list(log.last))
        raise JobFailed(f"AlgorithmError: InstallRequirementsError:\n{failure}"[:1024])
    partial.rename(target)
    return target
