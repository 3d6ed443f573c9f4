"""A commit as it is released: what it is made of in the assets bucket, and what is to be started of it.

`stagegate package` writes that down where continuous integration builds a commit
(deploy/buildspec-build.yml), and the state machine ci acts on it (workflows/ci.py).
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stagegate.aws import Services
from stagegate.config import FILE
from stagegate.deployment import assets_bucket, keep, release_parameters
from stagegate.git import changed_files, file_at, is_behind
from stagegate.templates import read_template

MODEL_FOLDERS = ("training/", "evaluation/", "workflows/", "statemachines/")
"""What a new model is made by."""
MODEL_SETTINGS = ("hyperparameters", "preprocess", "accuracy_threshold")
DEPLOYMENT_FILES = (
    *("deploy/endpoint.yaml", "deploy/staging.json", "deploy/production.json"),
    *("deploy/endpoint_tests/", "deploy/buildspec-test.yml"),
)
"""What the model that is in production is deployed by: the rest of deploy/ is the platform's own."""


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What a commit changes beside the last one that went all the way; None where that is not known."""

    files: tuple[str, ...] | None
    settings: tuple[str, ...] = ()
    """Of MODEL_SETTINGS in stagegate.toml."""

    @property
    def starts(self) -> str:
        """`model-build`, `model-deploy` or `nothing`."""
        if self.files is None or self.settings or _any_below(self.files, MODEL_FOLDERS):
            return "model-build"
        return "model-deploy" if _any_below(self.files, DEPLOYMENT_FILES) else "nothing"


def read_changes(root: Path, *, commit: str, base: str) -> Changes:
    """Between the commits `base` and `commit`; everything where there is no base, or none in this history."""
    files = changed_files(root, base, commit) if base else None
    if files is None:
        return Changes(files=None)
    before, after = (_settings(file_at(root, revision, FILE)) for revision in (base, commit))
    changed = tuple(name for name in MODEL_SETTINGS if before.get(name) != after.get(name))
    return Changes(files=files, settings=changed)


def package(services: Services, *, commit: str, base: str, template: Path) -> dict[str, Any]:
    """Upload what `commit` is made of; gives what the state machine ci is to know of it.

    `base` is the last commit that was released, or ""; `template` is the platform's template, packaged.
    """
    config, bucket = services.config, assets_bucket(services)
    parameters = release_parameters(services, bucket, commit=commit)
    changes = read_changes(config.root, commit=commit, base=base)
    content = template.read_bytes()
    key = keep(services, bucket, "templates", ".yaml", content)
    return {
        "Commit": commit,
        "Start": changes.starts,
        "IsObsolete": bool(base) and is_behind(config.root, commit, base),
        "Changed": list(changes.files or ()),
        "CodeUri": parameters["CodeUri"],
        "AccuracyThreshold": config.accuracy_threshold,
        "HyperParameters": dict(config.hyperparameters),
        "Preprocess": dict(config.preprocess),
        "RemoveStaging": config.remove_staging,
        "TemplateUrl": services.object_url(bucket, key),
        "Declared": list(read_template(content.decode()).get("Parameters", {})),
        "Parameters": parameters,
    }


def _any_below(files: Iterable[str], places: tuple[str, ...]) -> bool:
    return any(file.startswith(places) for file in files)


def _settings(text: str) -> Mapping[str, Any]:
    """Raises tomllib.TOMLDecodeError for what is no TOML: the configuration was read before."""
    return tomllib.loads(text)
