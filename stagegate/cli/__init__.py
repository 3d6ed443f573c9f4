"""The commands, thin: parse, call, print. Each registers itself when its module is imported."""

from stagegate.cli import approvals, releases, runtime
from stagegate.cli.base import main

__all__ = ["approvals", "main", "releases", "runtime"]
