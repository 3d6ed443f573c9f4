"""The endpoint tests, run as CodeBuild runs them, pass a good endpoint and stop a bad one."""

import json
import os
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.stand_in import PACKAGE, StandIn, image_set, serving
from tests.workflows.conftest import ROOT

LIMITS = {
    "LatencyP50Milliseconds": 5000,
    "LatencyP95Milliseconds": 8000,
    "LatencyP99Milliseconds": 9000,
    "ThroughputPerSecond": 2,
    "LoadRequestsPerSecond": 20,
    "LoadSeconds": 1,
    "CaptureWaitSeconds": 20,
}
LATENCY = "test_latency.py::test_the_latency_is_within_its_limit"
CAPTURE = "test_data_capture.py::test_requests_and_answers_are_captured"


def run_tests(
    folder: Path,
    stand_in: StandIn,
    *,
    limits: dict[str, Any] | None = None,
    select: str = "",
    **environment: str,
) -> tuple[int, dict[str, Any], str]:
    """The exit status, the summary and the output of the buildspec's own command; `limits` change some."""
    shutil.copytree(ROOT / "deploy", folder / "deploy", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "deploy" / "staging.json").write_text(json.dumps({"Tests": LIMITS | (limits or {})}))
    spec = yaml.safe_load((folder / "deploy" / "buildspec-test.yml").read_text())
    (command,) = spec["phases"]["build"]["commands"]
    stand_in.objects = image_set()
    with serving(stand_in) as url:
        done = subprocess.run(
            [sys.executable, *command.split()[1:], *(["-k", select] if select else [])],
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
                "PREDICTIONS_URI": "s3://data/runs/r-1/evaluation/predictions.npz",
                "REGISTERED_ACCURACY": "0.95",
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # there are none in CodeBuild
            }
            | environment,
            capture_output=True,
            text=True,
        )
    assert (folder / "reports" / "junit.xml").is_file()
    assert (folder / "reports" / "report.html").is_file()
    return (
        done.returncode,
        json.loads((folder / "reports" / "summary.json").read_text()),
        done.stdout + done.stderr,
    )


def culprits(summary: dict[str, Any]) -> list[str]:
    """The tests that failed, without their parameters."""
    assert summary["failed"] == len(summary["failures"])
    assert len(summary["text"]) <= 2000
    names = [failure.partition(": ")[0].partition("[")[0] for failure in summary["failures"]]
    return sorted(set(names))


class Page(HTMLParser):
    """What a page has: its text, its tags, and what it refers to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text, self.tags, self.links = "", set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_good_endpoint_passes(tmp_path: Path) -> None:
    status, summary, output = run_tests(tmp_path, StandIn())

    assert status == 0, output
    assert summary["stage"] == "staging"
    assert (summary["failed"], summary["skipped"], summary["failures"]) == (0, 0, [])
    measured = summary["measured"]
    assert set(measured) == {
        "accuracy",
        "load_errors",
        *(f"latency_p{percentile}_ms" for percentile in (50, 95, 99)),
        "throughput_per_second",
        "offline_agreement",
        "offline_difference",
    }
    assert (measured["accuracy"], measured["offline_agreement"], measured["load_errors"]) == (1.0, 1.0, 0)
    assert summary["limits"]["latency_p95_ms"] == {"at most": 8000}
    assert summary["limits"]["throughput_per_second"] == {"at least": 2}
    text = summary["text"]
    assert text.startswith(
        f"{summary['passed']} of {summary['passed']} passed; load_errors 0; latency_p50_ms "
    )
    assert "accuracy 1 (at least " in text and len(text) <= 2000


@pytest.mark.parametrize(
    ("stand_in", "limits", "expected"),
    [
        (
            StandIn(is_colour_blind=True),
            {},
            [
                "test_offline.py::test_the_classes_are_those_of_the_evaluation",
                "test_offline.py::test_the_probabilities_are_those_of_the_evaluation",
                "test_predictions.py::test_the_accuracy_is_what_was_registered",
            ],
        ),
        (
            StandIn(package="arn:another", captures="the wrong output"),
            {},
            [CAPTURE, "test_status.py::test_the_endpoint_serves_the_approved_model_package"],
        ),
        (
            StandIn(breaks_on_bad_input=True),
            {},
            [
                "test_invalid_input.py::test_an_accept_that_cannot_be_met_is_no_fault_of_the_endpoint",
                "test_invalid_input.py::test_invalid_input_is_the_callers_fault",
            ],
        ),
        (
            StandIn(seconds=0.3, is_another_model=True),
            {"LatencyP50Milliseconds": 200, "LatencyP95Milliseconds": 250, "LatencyP99Milliseconds": 290},
            [LATENCY, "test_offline.py::test_the_probabilities_are_those_of_the_evaluation"],
        ),
        (
            StandIn(seconds=0.2, answers_one_by_one=True),
            {"ThroughputPerSecond": 10},
            ["test_latency.py::test_the_throughput_reaches_its_limit"],
        ),
        (StandIn(captures="nothing"), {"CaptureWaitSeconds": 0.5}, [CAPTURE]),
    ],
    ids=[
        "wrong classes",
        "another package, captured wrongly",
        "500 on bad input",
        "slow, other probabilities",
        "too little throughput",
        "nothing captured",
    ],
)
def test_a_bad_endpoint_is_stopped_by_the_right_test(
    tmp_path: Path, stand_in: StandIn, limits: dict[str, Any], expected: list[str]
) -> None:
    status, summary, output = run_tests(tmp_path, stand_in, limits=limits)

    assert status == 1, output
    assert culprits(summary) == expected
    for name in expected:
        assert name in summary["text"]


def test_an_endpoint_that_breaks_one_content_type_is_stopped(tmp_path: Path) -> None:
    status, summary, _ = run_tests(tmp_path, StandIn(broken_type="image/jpeg"), select="test_predictions")

    assert status == 1
    (failure,) = summary["failures"]
    assert failure.startswith(
        "test_predictions.py::test_an_image_file_is_classified_as_its_pixels_are[image/jpeg]"
    )


def test_an_endpoint_that_breaks_under_load_is_stopped(tmp_path: Path) -> None:
    status, summary, _ = run_tests(
        tmp_path, StandIn(answers_before_it_breaks=13), select="each_request_of_the_load"
    )

    assert status == 1
    assert summary["measured"] == {"load_errors": 10}
    assert "10 of 20 failed; most often" in summary["text"]


def test_a_stall_counts_for_all_that_had_to_wait(tmp_path: Path) -> None:
    stand_in = StandIn(seconds=0.1, answers_one_by_one=True)

    _, summary, _ = run_tests(tmp_path, stand_in, select="latency_is_within")

    # 20 a second are due and 10 are answered: the last one waits for about a second, and not for 0.1.
    assert summary["measured"]["latency_p99_ms"] > 800


def test_where_some_are_captured_one_is_enough(tmp_path: Path) -> None:
    status, summary, output = run_tests(tmp_path, StandIn(sampling=20), select="captured")

    assert status == 0, output
    assert (summary["passed"], summary["skipped"]) == (1, 0)


def test_what_an_endpoint_does_not_have_is_skipped_with_a_reason(tmp_path: Path) -> None:
    status, summary, output = run_tests(
        tmp_path, StandIn(sampling=0), select="captured or offline", PREDICTIONS_URI=""
    )

    assert status == 0, output
    assert (summary["passed"], summary["failed"], summary["skipped"]) == (0, 0, 3)
    page = Page(tmp_path / "reports" / "report.html")
    assert "PREDICTIONS_URI is not given" in page.text
    assert "DescribeEndpoint says that data capture is not enabled" in page.text


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (
            {"LatencyP95Milliseconds": "fast"},
            'deploy/staging.json: Tests.LatencyP95Milliseconds is "fast"; it has to be a number above 0',
        ),
        ({"LoadSeconds": 0}, "deploy/staging.json: Tests.LoadSeconds is 0; it has to be a number above 0"),
        (
            {"ThroughputPerSecond": 21},
            "deploy/staging.json: Tests.ThroughputPerSecond is 21; it has to be at most "
            "Tests.LoadRequestsPerSecond, which is 20",
        ),
    ],
)
def test_a_limit_that_cannot_be_right_is_told(tmp_path: Path, limits: dict[str, Any], reason: str) -> None:
    status, summary, _ = run_tests(tmp_path, StandIn(), limits=limits, select="throughput")

    assert status == 1
    assert summary["failures"] == [f"test_latency.py::test_the_throughput_reaches_its_limit: {reason}"]


def test_a_stage_without_a_file_is_told(tmp_path: Path) -> None:
    status, summary, _ = run_tests(tmp_path, StandIn(), select="test_latency", STAGE="elsewhere")

    assert status == 1
    assert summary["text"] == (
        "0 of 5 passed; test_latency.py::test_each_request_of_the_load_is_answered and 4 more: "
        "STAGE is 'elsewhere', and there is no deploy/elsewhere.json; name a stage that has one."
    )


@pytest.mark.parametrize("stage", ["staging", "production"])
def test_the_limits_of_each_stage_are_right(stage: str) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"from limits import read_limits; print(read_limits({stage!r}).load_requests)",
        ],
        cwd=ROOT / "deploy" / "endpoint_tests",
        capture_output=True,
        text=True,
        check=True,
    )

    assert int(done.stdout) >= 50


def test_the_report_shows_what_is_wrong_and_needs_no_other_file(tmp_path: Path) -> None:
    run_tests(
        tmp_path,
        StandIn(is_colour_blind=True),
        select="test_latency or accuracy",
        ENDPOINT_NAME="stagegate-staging",
        MODEL_PACKAGE_ARN="<script>alert(1)</script>",
    )

    page = Page(tmp_path / "reports" / "report.html")
    assert "1 failed" in page.text
    assert "accuracy is 0.3333; it has to be at least " in page.text
    assert "latency p95 ms" in page.text and "at most 8,000" in page.text
    assert "20 of 30 images of the sample are taken for something else" in page.text
    assert "<script>alert(1)</script>" in page.text, "what comes from outside is text, never markup"
    assert {"svg", "circle", "figure"} <= page.tags and "script" not in page.tags
    assert page.links and all(link.startswith("data:image/jpeg;base64,") for link in page.links)


def test_anyone_adds_a_test_by_adding_a_file(tmp_path: Path) -> None:
    mine = (
        "from endpoint import NPY, npy\n\n"
        "def test_mine(endpoint, sample, measured):\n"
        "    (one,) = endpoint.invoke(npy(sample.images[0]), NPY)\n"
        "    measured.at_least('sureness', one['probability'], 1.5)\n"
    )
    copy = tmp_path / "deploy" / "endpoint_tests" / "test_mine.py"
    copy.parent.mkdir(parents=True)
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy", dirs_exist_ok=True)
    copy.write_text(mine)
    stand_in = StandIn(objects=image_set())

    with serving(stand_in) as url:
        subprocess.run(
            [sys.executable, "-m", "pytest", "-c", "deploy/endpoint_tests/pytest.ini", str(copy)],
            cwd=tmp_path,
            env=os.environ
            | {
                "AWS_ENDPOINT_URL": url,
                "AWS_ACCESS_KEY_ID": "x",
                "AWS_SECRET_ACCESS_KEY": "x",
                "AWS_DEFAULT_REGION": "us-east-1",
                "ENDPOINT_NAME": "e",
                "TEST_DATA_URI": "s3://data/test",
            },
            capture_output=True,
        )

    summary = json.loads((tmp_path / "reports" / "summary.json").read_text())
    assert summary["limits"] == {"sureness": {"at least": 1.5}}
    assert summary["failures"][0].startswith("test_mine.py::test_mine: sureness is 0.")


def test_many_failures_leave_room_for_the_numbers(tmp_path: Path) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(ROOT / "deploy" / "endpoint_tests", copied)
    (copied / "test_of_mine.py").write_text(
        "import pytest\n\n"
        "@pytest.mark.parametrize('n', range(60))\n"
        "def test_one(n, measured):\n"
        "    measured.at_most('errors', 60, 1e9)\n"
        "    assert False, f'{n} ' + 'x' * 200\n\n"
        + "\n".join(f"def test_{n}():\n    assert False, '{n} ' + 'y' * 200\n" for n in range(40))
    )

    subprocess.run(
        [sys.executable, "-m", "pytest", "-c", "copy/pytest.ini", "copy/test_of_mine.py"],
        cwd=tmp_path,
        capture_output=True,
    )

    text = json.loads((tmp_path / "reports" / "summary.json").read_text())["text"]
    assert 1500 < len(text) <= 2000
    assert text.startswith("0 of 100 passed; test_of_mine.py::test_one[0] and 59 more: 0 xxx")
    assert " more that failed; errors 60 (at most 1e+09)." in text


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
