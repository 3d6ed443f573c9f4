"""The executions recorded on real AWS, and their checker, where they stand beside the project."""

import importlib.util
import json
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[2]
FOLDER = ROOT.parent / "shared" / "conformance"
FILES = ("pure", "lambda", "tokens_nested", "other", "validation", "validation_api", "teststate")
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
        found += [{**case, "file": file} for case in json.loads((FOLDER / f"{file}.json").read_text())]
    return found


def name(case: Case) -> str:
    """Short, and the same for no two cases."""
    return f"{case['file']}: {case['id'].split('::')[-1]}"
