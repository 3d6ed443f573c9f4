"""What git says of the project."""

import subprocess
from pathlib import Path


def current_commit(root: Path) -> str:
    """The commit that is checked out, "-dirty" after it where files differ; "uncommitted" without git."""
    try:
        commit = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain")
    except (OSError, subprocess.CalledProcessError):  # no git, no repository, or no commit in it
        return "uncommitted"
    return f"{commit}-dirty" if changed else commit


def current_author(root: Path) -> str:
    """The mail address that commits carry; "" where git has none."""
    try:
        return _git(root, "config", "user.email")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()
