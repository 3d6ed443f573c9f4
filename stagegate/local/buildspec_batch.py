"""The batch part of a buildspec as tasks ("Batch build buildspec reference")."""

import itertools
from typing import Any

from stagegate.local.buildspec import BuildspecError

_KINDS = ("build-graph", "build-list", "build-matrix")
_OVERRIDES = {
    "compute-type": "computeTypeOverride",
    "image": "imageOverride",
    "privileged-mode": "privilegedModeOverride",
    "type": "environmentTypeOverride",
}

Document = dict[str, Any]


def fast_fails(batch: Document) -> bool:
    return bool(batch.get("fast-fail", False))


def groups(batch: Document | None) -> list[Document]:
    """The build groups as the API has them, each with `_overrides`, what StartBuild gets. Raises
    BuildspecError."""
    if not isinstance(batch, dict):
        raise BuildspecError("YAML_FILE_ERROR: batch is missing in the buildspec")
    if unknown := sorted(set(batch) - {"fast-fail", *_KINDS}):
        raise BuildspecError(f"YAML_FILE_ERROR: batch: {', '.join(unknown)} is not supported")
    kinds = [kind for kind in _KINDS if batch.get(kind)]
    if len(kinds) != 1:
        raise BuildspecError(f"YAML_FILE_ERROR: batch should have one of {', '.join(_KINDS)}")
    (kind,) = kinds
    tasks = _of_matrix(batch[kind]) if kind == "build-matrix" else batch[kind]
    found = [_group(kind, task) for task in tasks]
    _check_dependencies(found)
    return found


def _group(kind: str, task: Document) -> Document:
    known = {"identifier", "buildspec", "debug-session", "env", "ignore-failure"}
    known |= {"depend-on"} if kind == "build-graph" else set()
    if unknown := sorted(set(task) - known):
        raise BuildspecError(f"YAML_FILE_ERROR: batch.{kind}: {', '.join(unknown)} is not supported")
    if not task.get("identifier"):
        raise BuildspecError(f"YAML_FILE_ERROR: batch.{kind}: a task wants an identifier")
    environment = task.get("env") or {}
    if unknown := sorted(set(environment) - {"variables", *_OVERRIDES}):
        raise BuildspecError(f"YAML_FILE_ERROR: batch.{kind}.env: {', '.join(unknown)} is not supported")
    overrides: Document = {
        name: environment[word] for word, name in _OVERRIDES.items() if environment.get(word) is not None
    }
    if task.get("buildspec"):
        overrides["buildspecOverride"] = task["buildspec"]
    variables = environment.get("variables") or {}
    return {
        "identifier": str(task["identifier"]),
        "dependsOn": [str(name) for name in task.get("depend-on") or []],
        "ignoreFailure": bool(task.get("ignore-failure", False)),
        "_overrides": overrides,
        "_variables": [{"name": name, "value": str(value)} for name, value in variables.items()],
    }


def _of_matrix(matrix: Document) -> list[Document]:
    """A task for each combination of what is dynamic; AWS does not say how it names them."""
    static, dynamic = matrix.get("static") or {}, matrix.get("dynamic") or {}
    environment = dynamic.get("env") or {}
    axes: dict[tuple[str, ...], list[Any]] = {
        ("buildspec",): _values(dynamic.get("buildspec")),
        **{("env", word): _values(environment.get(word)) for word in ("compute-type", "image")},
        **{
            ("env", "variables", name): _values(values)
            for name, values in (environment.get("variables") or {}).items()
        },
    }
    axes = {place: values for place, values in axes.items() if values}
    tasks = []
    for number, values in enumerate(itertools.product(*axes.values())):
        task: Document = {
            "identifier": f"build{number}",
            "ignore-failure": static.get("ignore-failure", False),
            "env": dict(static.get("env") or {}),
        }
        for place, value in zip(axes, values, strict=True):
            target = task
            for word in place[:-1]:
                target = target.setdefault(word, {})
            target[place[-1]] = value
        tasks.append(task)
    return tasks


def _values(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _check_dependencies(found: list[Document]) -> None:
    """Each names a task that is there, and none waits for itself."""
    names = [group["identifier"] for group in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BuildspecError(f"YAML_FILE_ERROR: batch: the identifier {twice[0]} is there twice")
    waiting = {group["identifier"]: set(group["dependsOn"]) for group in found}
    for name, needs in waiting.items():
        if unknown := sorted(needs - set(names)):
            raise BuildspecError(
                f"YAML_FILE_ERROR: batch: {name} depends on {unknown[0]}, which is not there"
            )
    while ready := [name for name, needs in waiting.items() if not needs & set(waiting)]:
        for name in ready:
            del waiting[name]
    if waiting:
        raise BuildspecError(f"YAML_FILE_ERROR: batch: {', '.join(sorted(waiting))} depend on each other")
