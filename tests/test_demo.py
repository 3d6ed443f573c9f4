"""`make demo`, as a user runs it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demo_ends_with_predictions_from_production():
    done = subprocess.run(
        [Path(sys.executable).parent / "stagegate", "demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("SUCCEEDED after") == 2
    assert done.stdout.count("approved by the demo itself") == 2
    assert int(re.search(r"(\d) of 6 right", done.stdout)[1]) >= 5
