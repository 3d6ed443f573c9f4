"""The executions recorded on real AWS, and their checker, where they stand beside the project."""

import importlib.util
import json
import re
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[2]
FOLDER = ROOT.parent / "shared" / "conformance"
FILES = ("pure", "lambda", "tokens_nested", "other", "validation", "validation_api", "teststate")
_DAYS_AHEAD = re.compile(r"test_timestamp_too_far_in_future_boundary\[(\d+)\]")
MISSING = f"the recordings are not beside the project: {FOLDER.name} is not in {FOLDER.parent.name}"

Case = dict[str, Any]


def are_there() -> bool:
    return (FOLDER / "check.py").is_file()


@cache
def checker() -> ModuleType:
    """The recordings' own checker, which knows how to compare."""
    spec = importlib.util.spec_from_file_location("conformance_check", FOLDER / "check.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cases() -> list[Case]:
    """Every case, with the file that it is from."""
    if not are_there():
        return []
    found = []
    for file in FILES:
        recorded = json.loads((FOLDER / f"{file}.json").read_text())
        found += [{**_as_of_now(case), "file": file} for case in recorded]
    return found


def _as_of_now(case: Case) -> Case:
    """A moment that was so many days ahead when the case was written down is that far ahead again."""
    match = _DAYS_AHEAD.search(case["id"])
    if match is None:
        return case
    moment = datetime.now(UTC) + timedelta(days=int(match[1]))
    text = json.dumps(case).replace(case["input"]["start_at"], f"{moment:%Y-%m-%dT%H:%M:%S}.000Z")
    moved: Case = json.loads(text)
    return moved


def name(case: Case) -> str:
    """Short, and the same for no two cases."""
    return f"{case['file']}: {case['id'].split('::')[-1]}"
