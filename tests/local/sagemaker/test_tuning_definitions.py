"""What a tuning job is asked to do, where the environment decides whether it can be done."""

import pytest

from stagegate.local.sagemaker import tuning_search
from stagegate.local.sagemaker.tuning_definitions import check
from stagegate.local.service import AWSError


def test_a_bayesian_search_without_its_library_says_what_to_install(monkeypatch):
    monkeypatch.setattr(tuning_search.importlib.util, "find_spec", lambda name: None)
    config = {"Strategy": "Bayesian", "ResourceLimits": {"MaxParallelTrainingJobs": 1}}

    with pytest.raises(AWSError, match=r"needs Optuna.*pip install 'stagegate\[tuning\]'"):
        check({"HyperParameterTuningJobConfig": config})
