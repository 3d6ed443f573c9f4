"""What a rule is, and what it finds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from stagegate.doctor.project import Project


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A place where a rule does not hold, and what is wrong there."""

    file: str
    where: str
    """The state's name, or the resource's logical id."""
    wrong: str


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What is looked at, what it costs on AWS where it is wrong, and what to do."""

    code: str
    looks_at: str
    costs: str
    remedy: str
    check: Callable[[Project], Iterator[Fault]]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A fault, with what its rule says of it."""

    rule: str
    file: str
    where: str
    wrong: str
    costs: str
    remedy: str
