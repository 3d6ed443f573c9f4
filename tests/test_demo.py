"""`make demo`, as a user runs it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STAGEGATE = Path(sys.executable).parent / "stagegate"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demo_ends_with_predictions_from_production_and_leaves_all_to_look_at():
    done = subprocess.run(
        [STAGEGATE, "demo", "--keep"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    told = re.search(r"^Stop it: +AWS_ENDPOINT_URL=(\S+) STAGEGATE_DATA=(\S+) ", done.stdout, re.MULTILINE)
    where = os.environ | {"AWS_ENDPOINT_URL": told[1], "STAGEGATE_DATA": told[2]}
    listed = subprocess.run([STAGEGATE, "endpoints"], cwd=ROOT, env=where, capture_output=True, text=True)
    stopped = subprocess.run([STAGEGATE, "down"], cwd=ROOT, env=where, capture_output=True, text=True)
    assert "production" in listed.stdout, listed.stderr
    assert "stopped" in stopped.stdout
    assert done.stdout.count("SUCCEEDED after") == 2
    assert done.stdout.count("approved by the demo itself") == 2
    run, month = done.stdout.splitlines()[-2:]
    assert re.match(r"A run on AWS costs \$[\d.]+ at the list prices of \d{4}-\d\d-\d\d, ", run)
    assert re.match(r"A month of 20 runs, with its endpoints, costs \$[\d.]+ at the list prices of ", month)
    assert int(re.search(r"(\d+) of 12 right", done.stdout)[1]) >= 8
