"""The commands, thin: parse, call, print. Each registers itself when its module is imported."""

from stagegate.cli import (
    approvals,
    checks,
    costs,
    integration,
    permissions,
    platform,
    releases,
    runtime,
)
from stagegate.cli.base import main

__all__ = [
    "approvals",
    "checks",
    "costs",
    "integration",
    "main",
    "permissions",
    "platform",
    "releases",
    "runtime",
]
