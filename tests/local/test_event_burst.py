"""A burst of events, some of which come twice, with a kill in its middle: each has one run."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

ROOT = Path(__file__).parent.parent.parent
EVENTS, BATCH = 1000, 10
DUPLICATES = """
[[fault]]
event = { source = ["burst"] }
duplicate = 1
rate = 0.05
"""


def machine():
    """The claim of our own state machines, and what it guards."""
    states = json.loads((ROOT / "statemachines" / "model-build.asl.json").read_text())["States"]
    return {
        "StartAt": "Settings",
        "States": {
            "Settings": {"Type": "Pass", "Parameters": {"Run.$": "$"}, "Next": "Claim"},
            "Claim": states["Claim"] | {"Next": "Work"},
            "Work": {"Type": "Pass", "Parameters": {"Worked.$": "$.Run.EventId"}, "End": True},
            "StartedAlready": states["StartedAlready"],
            "ClaimFailed": states["ClaimFailed"],
        },
    }


def deploy(local):
    table = {"AttributeName": "LockId", "AttributeType": "S"}, {"AttributeName": "LockId", "KeyType": "HASH"}
    local.client("dynamodb").create_table(
        TableName="locks",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[table[0]],
        KeySchema=[table[1]],
    )
    definition = json.dumps(machine()).replace("${LocksTable}", "locks")
    role = "arn:aws:iam::111111111111:role/states"
    arn = local.client("stepfunctions").create_state_machine(
        name="burst", definition=definition, roleArn=role
    )["stateMachineArn"]
    events = local.client("events")
    events.put_rule(Name="burst", EventPattern='{"source": ["burst"]}')
    target = {"Id": "states", "Arn": arn, "RoleArn": role, "InputPath": "$.detail"}
    events.put_targets(Rule="burst", Targets=[target])
    return arn


def send(local, number):
    """A batch; whether it was acknowledged."""
    entries = [
        {"Source": "burst", "DetailType": "x", "Detail": json.dumps({"EventId": str(number * BATCH + n)})}
        for n in range(BATCH)
    ]
    try:
        return local.client("events").put_events(Entries=entries)["FailedEntryCount"] == 0
    except (BotoCoreError, ClientError):
        return False


def ended(local, arn):
    """Every execution, once none of them runs and there is one for each event."""
    states, deadline = local.client("stepfunctions"), time.monotonic() + 120
    while True:
        pages = states.get_paginator("list_executions").paginate(stateMachineArn=arn)
        executions = [execution for page in pages for execution in page["executions"]]
        if len(executions) >= EVENTS and all(it["status"] != "RUNNING" for it in executions):
            return executions
        assert time.monotonic() < deadline, len(executions)
        time.sleep(0.5)


def test_each_event_of_a_burst_starts_one_run(stopped_local, tmp_path):
    faults = tmp_path / "faults.toml"
    faults.write_text(DUPLICATES)
    local = stopped_local
    local.faults = faults
    local.start()
    arn = deploy(local)
    with ThreadPoolExecutor(4) as senders:
        sent = dict.fromkeys(range(EVENTS // BATCH), False)
        for number, is_sent in zip(sent, senders.map(lambda n: send(local, n), sent), strict=True):
            sent[number] = is_sent
            if number == len(sent) // 2:
                local.kill()
    local.start()
    again = [number for number, is_sent in sent.items() if not is_sent]

    assert all(send(local, number) for number in again)

    executions = ended(local, arn)
    (fault,) = json.loads(local.get("/_stagegate/faults"))
    states = local.client("stepfunctions")
    with ThreadPoolExecutor(4) as readers:
        described = list(
            readers.map(lambda it: states.describe_execution(executionArn=it["executionArn"]), executions)
        )
    worked = [json.loads(it["output"])["Worked"] for it in described if "Worked" in json.loads(it["output"])]
    assert {it["status"] for it in described} == {"SUCCEEDED"}
    assert sorted(worked, key=int) == [str(number) for number in range(EVENTS)]
    assert again and fault["Fired"]
