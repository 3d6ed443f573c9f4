"""The endpoint tests, run as CodeBuild runs them, pass a good endpoint and stop a bad one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.stand_in import PACKAGE, StandIn, image_set, serving
from tests.workflows.conftest import ROOT


def run_tests(folder: Path, stand_in: StandIn, **environment: str) -> tuple[int, dict[str, Any], str]:
    """The exit status, the summary and the output of the buildspec's own command."""
    shutil.copytree(ROOT / "deploy", folder / "deploy", ignore=shutil.ignore_patterns("__pycache__"))
    spec = yaml.safe_load((folder / "deploy" / "buildspec-test.yml").read_text())
    (command,) = spec["phases"]["build"]["commands"]
    stand_in.objects = image_set()
    with serving(stand_in) as url:
        done = subprocess.run(
            [sys.executable, *command.split()[1:]],
            cwd=folder,
            env=os.environ
            | {
                "AWS_ENDPOINT_URL": url,
                "AWS_ACCESS_KEY_ID": "x",
                "AWS_SECRET_ACCESS_KEY": "x",
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_MAX_ATTEMPTS": "1",
                "STAGE": "staging",
                "ENDPOINT_NAME": "stagegate-staging",
                "MODEL_PACKAGE_ARN": PACKAGE,
                "TEST_DATA_URI": "s3://data/runs/r-1/preprocessed/test",
                "REGISTERED_ACCURACY": "0.95",
                "LATENCY_LIMIT_MILLISECONDS": "500",
            }
            | environment,
            capture_output=True,
            text=True,
        )
    assert (folder / "reports" / "junit.xml").is_file()
    return (
        done.returncode,
        json.loads((folder / "reports" / "summary.json").read_text()),
        done.stdout + done.stderr,
    )


def test_a_good_endpoint_passes(tmp_path: Path) -> None:
    status, summary, output = run_tests(tmp_path, StandIn())

    assert status == 0, output
    assert summary["stage"] == "staging"
    assert (summary["failed"], summary["skipped"], summary["failures"]) == (0, 0, [])
    assert summary["measured"]["accuracy"] == 1.0
    assert set(summary["measured"]) == {"accuracy", "latency_p50_ms", "latency_p95_ms", "latency_p99_ms"}
    assert summary["text"].startswith(f"{summary['passed']} of {summary['passed']} passed; latency_p50_ms ")
    assert summary["text"].endswith("; accuracy 1.")


@pytest.mark.parametrize(
    ("stand_in", "culprit"),
    [
        (StandIn(is_colour_blind=True), "test_the_accuracy_is_what_was_registered"),
        (StandIn(broken_type="image/jpeg"), "test_an_image_file_is_classified_as_its_pixels_are[image/jpeg]"),
        (StandIn(package="arn:another"), "test_the_endpoint_serves_the_approved_model_package"),
    ],
    ids=["wrong answers", "500 on one content type", "another package"],
)
def test_a_bad_endpoint_is_stopped(tmp_path: Path, stand_in: StandIn, culprit: str) -> None:
    status, summary, _ = run_tests(tmp_path, stand_in)

    assert status == 1
    assert summary["failed"] == len(summary["failures"]) > 0
    assert culprit in summary["text"]


def test_a_slow_endpoint_is_stopped(tmp_path: Path) -> None:
    status, summary, _ = run_tests(tmp_path, StandIn(seconds=0.05), LATENCY_LIMIT_MILLISECONDS="40")

    assert status == 1
    (failure,) = summary["failures"]
    assert failure.startswith("test_latency.py::test_one_image_is_answered_in_time: ")


def test_tests_that_cannot_run_still_say_so(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "deploy" / "endpoint_tests", tmp_path / "copy")
    (tmp_path / "copy" / "test_of_mine.py").write_text("import not_there\n")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", "copy/pytest.ini", "copy/test_of_mine.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )

    summary = json.loads((tmp_path / "reports" / "summary.json").read_text())
    assert done.returncode != 0
    assert summary["failed"] == 1
    assert "No module named 'not_there'" in summary["text"]
