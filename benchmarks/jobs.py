"""How fast SageMaker jobs start here: the user's first line after its imports, and 20 jobs of nothing.

The script imports torch and torchvision and says what time it is. Beside it the same script in a fresh
interpreter, in turn with it, so that both meet the same machine. The 20 jobs are tasks of a state machine
(`createTrainingJob.sync`, `createProcessingJob.sync`), all at once in a Map and one after another.

    python benchmarks/jobs.py             about a minute
    python benchmarks/jobs.py --repeats 20 --jobs 50
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import time
from typing import Any

from engine import Server

BUCKET = "benchmark"
ROLE = "arn:aws:iam::111111111111:role/jobs"
SCRIPT = "import time, torch, torchvision; print('imported at', time.time())\n"
RESOURCES = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7, help="starts of each kind: 7")
    parser.add_argument("--jobs", type=int, default=20, help="jobs of nothing: 20")
    options = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
    print(f"{os.cpu_count()} cores, {os.getloadavg()[0]:.1f} processes run at the start, the last minute")
    with Server() as server:
        s3 = server.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        s3.put_object(Bucket=BUCKET, Key="code/imports.tar.gz", Body=source(SCRIPT))
        s3.put_object(Bucket=BUCKET, Key="code/nothing.tar.gz", Body=source(""))
        s3.put_object(Bucket=BUCKET, Key="code/nothing.py", Body=b"")
        server.wait_for_launcher()
        compare_starts(server, options.repeats)
        for kind in ("Training", "Processing"):
            run_nothing(server, kind, options.jobs)


def compare_starts(server: Server, repeats: int) -> None:
    ours, fresh = [], []
    for turn in range(repeats + 1):
        ours.append(start_job(server, f"start-{turn}"))
        fresh.append(start_interpreter())
    print("From CreateTrainingJob to the first line after the imports of torch and torchvision, seconds")
    for name, times in (("ours", ours[1:]), ("a fresh interpreter", fresh[1:])):  # the first ones warm up
        median = statistics.median(times)
        ratio = "" if name == "ours" else f"ours takes 1/{median / statistics.median(ours[1:]):.0f} of that"
        print(f"  {name:22} {median:6.3f}   ({min(times):.3f} to {max(times):.3f})   {ratio}")


def start_job(server: Server, name: str) -> float:
    sagemaker, logs = server.client("sagemaker"), server.client("logs")
    begun = time.time()
    sagemaker.create_training_job(**training(name, "imports"))
    waiter = sagemaker.get_waiter("training_job_completed_or_stopped")
    waiter.wait(TrainingJobName=name, WaiterConfig={"Delay": 0.1, "MaxAttempts": 600})  # type: ignore[arg-type]
    group = "/aws/sagemaker/TrainingJobs"
    stream = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/")["logStreams"][0]
    events = logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"])["events"]
    (line,) = (event["message"] for event in events if "imported at" in event["message"])
    return float(line.split()[-1]) - begun


def start_interpreter() -> float:
    begun = time.time()
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1]) - begun


def run_nothing(server: Server, kind: str, count: int) -> None:
    """Executions whose tasks are jobs that end at once."""
    states = server.client("stepfunctions")
    task = {
        "Type": "Task",
        "Resource": f"arn:aws:states:::sagemaker:create{kind}Job.sync",
        "Arguments": (training if kind == "Training" else processing)("{% $states.input %}", "nothing"),
        "End": True,
    }
    print(f"{count} {kind.lower()} jobs of nothing through .sync, seconds until the execution has ended")
    for title, concurrency in (("all at once", 0), ("one after another", 1)):
        prefix = f"{kind}-{concurrency}".lower()
        definition = {
            "QueryLanguage": "JSONata",
            "StartAt": "Jobs",
            "States": {
                "Jobs": {
                    "Type": "Map",
                    "Items": [f"{prefix}-{number}" for number in range(count)],
                    "MaxConcurrency": concurrency,
                    "ItemProcessor": {"StartAt": "Job", "States": {"Job": task}},
                    "Output": "{% null %}",
                    "End": True,
                }
            },
        }
        machine = states.create_state_machine(name=prefix, definition=json.dumps(definition), roleArn=ROLE)
        execution = states.start_execution(stateMachineArn=machine["stateMachineArn"])["executionArn"]
        while (described := states.describe_execution(executionArn=execution))["status"] == "RUNNING":
            time.sleep(0.02)
        assert described["status"] == "SUCCEEDED", described
        seconds = (described["stopDate"] - described["startDate"]).total_seconds()
        print(f"  {title:22} {seconds:6.2f}   {seconds / count * 1e3:.0f} ms each")


def training(name: str, code: str) -> dict[str, Any]:
    return {
        "TrainingJobName": name,
        "RoleArn": ROLE,
        "AlgorithmSpecification": {"TrainingImage": "pytorch", "TrainingInputMode": "File"},
        "HyperParameters": {
            "sagemaker_program": "script.py",
            "sagemaker_submit_directory": f"s3://{BUCKET}/code/{code}.tar.gz",
        },
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out"},
        "ResourceConfig": RESOURCES,
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
    }


def processing(name: str, code: str) -> dict[str, Any]:
    at = "/opt/ml/processing/input/code"
    source_code = {
        "S3Uri": f"s3://{BUCKET}/code/{code}.py",
        "LocalPath": at,
        "S3DataType": "S3Prefix",
        "S3InputMode": "File",
    }
    return {
        "ProcessingJobName": name,
        "RoleArn": ROLE,
        "AppSpecification": {"ImageUri": "pytorch", "ContainerEntrypoint": ["python3", f"{at}/{code}.py"]},
        "ProcessingInputs": [{"InputName": "code", "S3Input": source_code}],
        "ProcessingResources": {"ClusterConfig": RESOURCES},
    }


def source(script: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        entry = tarfile.TarInfo("script.py")
        entry.size = len(script)
        archive.addfile(entry, io.BytesIO(script.encode()))
    return buffer.getvalue()


if __name__ == "__main__":
    main()
