"""What a commit changes, and so starts."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from stagegate.aws import Services
from stagegate.config import load_config
from stagegate.package import Changes, package, read_changes
from tests.conftest import Local

SETTINGS = 'accuracy_threshold = 0.5\n[hyperparameters]\nepochs = "1"\n'
FILES = {
    "stagegate.toml": SETTINGS,
    "README.md": "first",
    "training/train.py": "first",
    "evaluation/evaluate.py": "first",
    "workflows/ci.py": "first",
    "deploy/platform.yaml": "Parameters:\n  Code: {Type: String}\n  Other: {Type: String}\n",
    "deploy/endpoint.yaml": "first",
    "deploy/production.json": "{}",
    "deploy/endpoint_tests/test_status.py": "first",
    "deploy/functions/approvals.py": "first",
    **{f"statemachines/{name}.asl.json": "{}" for name in ("ci", "model-build", "model-deploy")},
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    commit(tmp_path, FILES)
    return tmp_path


def commit(folder: Path, files: dict[str, str]) -> str:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "add", "--all")
    author = ("-c", "user.email=ann@example.com", "-c", "user.name=Ann")
    git(folder, *author, "commit", "--quiet", "--allow-empty", "--message", "x")
    return git(folder, "rev-parse", "HEAD")


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def changed(folder: Path, files: dict[str, str]) -> Changes:
    base = git(folder, "rev-parse", "HEAD")
    return read_changes(folder, commit=commit(folder, files), base=base)


@pytest.mark.parametrize(
    ("files", "starts"),
    [
        ({"training/train.py": "second"}, "model-build"),
        ({"evaluation/evaluate.py": "second"}, "model-build"),
        ({"workflows/ci.py": "second"}, "model-build"),
        ({"training/train.py": "second", "deploy/production.json": '{"x": 1}'}, "model-build"),
        ({"stagegate.toml": SETTINGS.replace('"1"', '"2"')}, "model-build"),
        ({"stagegate.toml": SETTINGS.replace("0.5", "0.6")}, "model-build"),
        ({"deploy/production.json": '{"x": 1}'}, "model-deploy"),
        ({"deploy/endpoint.yaml": "second"}, "model-deploy"),
        ({"deploy/endpoint_tests/test_status.py": "second"}, "model-deploy"),
        ({"deploy/platform.yaml": "second"}, "nothing"),
        ({"deploy/functions/approvals.py": "second"}, "nothing"),
        ({"stagegate.toml": f"remove_staging = true\n{SETTINGS}"}, "nothing"),
        ({"README.md": "second"}, "nothing"),
        ({}, "nothing"),
    ],
    ids=lambda value: "+".join(value) or "nothing changed" if isinstance(value, dict) else value,
)
def test_what_is_started_depends_on_what_changed(project: Path, files: dict[str, str], starts: str) -> None:
    assert changed(project, files).starts == starts


def test_a_file_that_is_moved_away_is_a_change(project: Path) -> None:
    base = git(project, "rev-parse", "HEAD")
    git(project, "mv", "training/train.py", "train.py")

    changes = read_changes(project, commit=commit(project, {}), base=base)

    assert changes == Changes(files=("train.py", "training/train.py"))


@pytest.mark.parametrize("base", ["", "0" * 40], ids=["the first commit", "a base that was rewritten"])
def test_where_there_is_nothing_to_compare_with_everything_has_changed(project: Path, base: str) -> None:
    changes = read_changes(project, commit=git(project, "rev-parse", "HEAD"), base=base)

    assert (changes.files, changes.starts) == (None, "model-build")


def test_the_release_of_a_commit_is_in_the_bucket_by_its_content(project: Path, shared_local: Local) -> None:
    first, again = packaged(project, shared_local), packaged(project, shared_local)
    commit(project, {"training/train.py": "second"})
    second = packaged(project, shared_local)

    assert again == first
    assert (first["Start"], first["HyperParameters"], first["AccuracyThreshold"]) == (
        "model-build",
        {"epochs": "1"},
        0.5,
    )
    assert first["Declared"] == ["Code", "Other"]
    assert first["Parameters"]["Commit"] == first["Commit"]
    assert first["TemplateUrl"].startswith("https://stagegate-assets-111111111111-us-east-1.s3.")
    assert second["CodeUri"] != first["CodeUri"]
    assert second["Parameters"]["CiDefinitionKey"] == first["Parameters"]["CiDefinitionKey"]


def test_an_older_commit_than_the_one_released_is_obsolete(project: Path, shared_local: Local) -> None:
    older = git(project, "rev-parse", "HEAD")
    newer = commit(project, {"README.md": "second"})
    git(project, "checkout", "--quiet", older)

    assert packaged(project, shared_local, base=newer)["IsObsolete"]
    assert not packaged(project, shared_local, base=older)["IsObsolete"]
    assert not packaged(project, shared_local)["IsObsolete"]


def packaged(folder: Path, local: Local, *, base: str = "") -> dict[str, Any]:
    """What the build of the commit that is checked out writes down."""
    config = load_config(folder, environment={}, flags={"endpoint_url": local.endpoint_url})
    commit = git(folder, "rev-parse", "HEAD")
    return package(Services(config), commit=commit, base=base, template=folder / "deploy/platform.yaml")
