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


def changed_files(root: Path, base: str, commit: str) -> tuple[str, ...] | None:
    """What differs between two commits; None where `base` is not in this history any more."""
    try:
        changed = _git(root, "diff", "--name-only", "--no-renames", "-z", base, commit)
    except subprocess.CalledProcessError:
        return None
    return tuple(name for name in changed.split("\0") if name)


def is_behind(root: Path, commit: str, other: str) -> bool:
    """Whether `other` has all that `commit` has, and more."""
    try:
        return commit != other and _git(root, "merge-base", commit, other) == commit
    except subprocess.CalledProcessError:  # one of them is not in this history, or they share none
        return False


def file_at(root: Path, commit: str, path: str) -> str:
    """What was in a file; "" where there was none."""
    try:
        return _git(root, "show", f"{commit}:./{path}")
    except subprocess.CalledProcessError:
        return ""


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()
