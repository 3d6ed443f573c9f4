"""A distributed Map on the whole runtime: from a file in S3 to files in S3, killed on its way."""

import gzip
import json
import time
from collections.abc import Callable
from typing import Any

from tests.conftest import Local

ROLE = "arn:aws:iam::111111111111:role/states"


def orders(*, pause: int) -> dict[str, Any]:
    """Sum up the orders in a CSV file, three at once; one has no amount."""
    states = {
        "Pause": {"Type": "Wait", "Seconds": pause, "Next": "Add"},
        "Add": {
            "Type": "Pass",
            "Output": "{% $states.input.{'ids': Items.id, 'sum': $sum(Items.$number(amount))} %}",
            "End": True,
        },
    }
    return {
        "QueryLanguage": "JSONata",
        "StartAt": "Orders",
        "States": {
            "Orders": {
                "Type": "Map",
                "Label": "Orders",
                "MaxConcurrency": 2,
                "ToleratedFailurePercentage": 50,
                "ItemReader": {
                    "Resource": "arn:aws:states:::s3:getObject",
                    "ReaderConfig": {"InputType": "CSV", "CSVHeaderLocation": "FIRST_ROW"},
                    "Arguments": {"Bucket": "{% $states.input.bucket %}", "Key": "orders.csv.gz"},
                },
                "ItemBatcher": {"MaxItemsPerBatch": 3},
                "ItemProcessor": {
                    "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
                    "StartAt": "Pause",
                    "States": states,
                },
                "ResultWriter": {
                    "Resource": "arn:aws:states:::s3:putObject",
                    "Arguments": {"Bucket": "{% $states.input.bucket %}", "Prefix": "results"},
                    "WriterConfig": {"Transformation": "COMPACT", "OutputType": "JSONL"},
                },
                "End": True,
            }
        },
    }


def wait_until(is_so: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_file_is_mapped_to_files_across_a_kill(local: Local) -> None:
    s3, states = local.client("s3"), local.client("stepfunctions")
    s3.create_bucket(Bucket="shop")
    rows = [f"{number},{number * 10}" for number in range(11)] + ["11,none"]
    body = gzip.compress("\n".join(["id,amount", *rows]).encode())
    s3.put_object(Bucket="shop", Key="orders.csv.gz", Body=body, ContentEncoding="gzip")
    machine = states.create_state_machine(
        name="orders", definition=json.dumps(orders(pause=1)), roleArn=ROLE
    )["stateMachineArn"]

    execution = states.start_execution(stateMachineArn=machine, input='{"bucket": "shop"}')["executionArn"]
    wait_until(lambda: states.list_map_runs(executionArn=execution)["mapRuns"])
    run = states.list_map_runs(executionArn=execution)["mapRuns"][0]["mapRunArn"]
    wait_until(lambda: states.describe_map_run(mapRunArn=run)["executionCounts"]["succeeded"])
    s3.delete_object(Bucket="shop", Key="orders.csv.gz")
    local.kill()
    local.start()
    wait_until(lambda: states.describe_execution(executionArn=execution)["status"] != "RUNNING")

    ended = states.describe_execution(executionArn=execution)
    folder = f"results/{run.rpartition(':')[2]}"
    assert (ended["status"], json.loads(ended["output"])) == (
        "SUCCEEDED",
        {
            "MapRunArn": run,
            "ResultWriterDetails": {"Bucket": "shop", "Key": f"{folder}/manifest.json"},
        },
    )
    described = states.describe_map_run(mapRunArn=run)
    counts = {name: count for name, count in described["executionCounts"].items() if count}
    assert counts == {"succeeded": 3, "failed": 1, "total": 4, "resultsWritten": 4}
    lines = s3.get_object(Bucket="shop", Key=f"{folder}/SUCCEEDED_0.jsonl")["Body"].read().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"ids": ["0", "1", "2"], "sum": 30},
        {"ids": ["3", "4", "5"], "sum": 120},
        {"ids": ["6", "7", "8"], "sum": 210},
    ]
    failed = json.loads(s3.get_object(Bucket="shop", Key=f"{folder}/FAILED_0.jsonl")["Body"].read())
    assert (failed["Status"], failed["Error"]) == ("FAILED", "States.QueryEvaluationError")
    children = states.list_executions(mapRunArn=run, statusFilter="SUCCEEDED")["executions"]
    assert [child["itemCount"] for child in children] == [3, 3, 3]
    for child in children:
        events = states.get_execution_history(executionArn=child["executionArn"])["events"]
        assert [event["id"] for event in events] == list(range(1, 7))
