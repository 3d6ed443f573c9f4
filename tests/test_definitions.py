"""What an account's own network and key put into the jobs of a definition."""

import json
from pathlib import Path

import pytest

from stagegate.definitions import within_account
from stagegate.errors import ConfigurationError

ROOT = Path(__file__).parent.parent
NETWORK = {"VpcSubnetIds": "subnet-1, subnet-2", "VpcSecurityGroupIds": "sg-1"}
VPC = {"Subnets": ["subnet-1", "subnet-2"], "SecurityGroupIds": ["sg-1"]}
JOBS = "arn:aws:states:::sagemaker:createProcessingJob.sync"


def test_a_definition_stays_as_it_is_where_the_account_says_nothing():
    written = (ROOT / "statemachines" / "model-build.asl.json").read_text()

    assert within_account(written, {"AlarmMail": "ops@example.com", "KmsKeyArn": ""}) == written


def test_each_job_of_the_build_gets_network_and_key():
    written = (ROOT / "statemachines" / "model-build.asl.json").read_text()

    states = json.loads(within_account(written, {**NETWORK, "KmsKeyArn": "the-key"}))["States"]

    train, jobs = states["Train"]["Parameters"], ("Preprocess", "Evaluate")
    assert (train["VpcConfig"], train["OutputDataConfig"]["KmsKeyId"]) == (VPC, "the-key")
    for parameters in (states[job]["Parameters"] for job in jobs):
        assert parameters["NetworkConfig"]["VpcConfig"] == VPC
        assert parameters["ProcessingOutputConfig"]["KmsKeyId"] == "the-key"


def test_jobs_in_branches_and_maps_and_in_jsonata_are_found():
    job = {"Type": "Task", "Resource": JOBS, "Arguments": {"ProcessingJobName": "{% $name %}"}, "End": True}
    inner = {"StartAt": "Job", "States": {"Job": job}}
    mapped = {"Type": "Map", "ItemProcessor": inner, "Next": "Both"}
    both = {"Type": "Parallel", "Branches": [inner], "End": True}
    machine = {"StartAt": "Each", "States": {"Each": mapped, "Both": both}}

    states = json.loads(within_account(json.dumps(machine), NETWORK))["States"]

    for part in (states["Each"]["ItemProcessor"], states["Both"]["Branches"][0]):
        assert part["States"]["Job"]["Arguments"]["NetworkConfig"] == {"VpcConfig": VPC}


def test_a_job_that_is_not_written_out_is_refused():
    job = {"Type": "Task", "Resource": JOBS, "Arguments": "{% $request %}", "End": True}

    with pytest.raises(ConfigurationError) as refused:
        within_account(json.dumps({"StartAt": "Job", "States": {"Job": job}}), NETWORK)

    assert "The state Job does not write out Arguments" in str(refused.value)
