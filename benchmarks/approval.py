"""The cold start of the approval functions, beside functions that import nothing and that import boto3.

A cold start is Lambda's Init Duration: a new process, and the import of the handler. The first answer is what
comes on top: the page for a forged link, for which the signing key is read; boto3's client.

    python benchmarks/approval.py
"""

import base64
import io
import json
import os
import re
import statistics
import sys
import zipfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.engine import ROOT, Server

REPEATS = 15
EMPTY = "def handler(event, context):\n    return None\n"
BOTO3 = "import boto3\n\ndef handler(event, context):\n    boto3.client('dynamodb')\n"
FORGED = {
    "rawQueryString": f"id={'0' * 32}&decision=look&approver=&expires=9999999999&signature={'0' * 64}",
    "requestContext": {"http": {"method": "GET", "sourceIp": "127.0.0.1", "path": "/"}},
}


def main() -> None:
    os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
    ours = {path.name: path.read_bytes() for path in (ROOT / "deploy" / "functions").glob("*.py")}
    print(f"{os.cpu_count()} cores, {os.getloadavg()[0]:.1f} processes run at the start, the last minute")
    with Server() as server:
        functions = server.client("lambda")
        secret = server.client("secretsmanager").create_secret(Name="key", SecretString="key" * 11)["ARN"]
        environment = {"SIGNING_KEY_ARN": secret}
        cases = {
            "imports nothing": create(functions, "empty", "index.handler", {"index.py": EMPTY.encode()}),
            "imports boto3": create(functions, "boto3", "index.handler", {"index.py": BOTO3.encode()}),
            "approval_request": create(functions, "request", "approval_request.handler", ours),
            "approval_decision": create(functions, "decision", "approval_decision.handler", ours),
        }
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
        for turn in range(REPEATS):
            for name, function in cases.items():
                times[name].append(cold_start(functions, function, environment | {"TURN": str(turn)}))
    print(f"milliseconds: median (fastest to slowest) of {REPEATS}")
    print(f"{'':20}{'cold start':22}first answer")
    for name, measured in times.items():
        starts, answers = zip(*measured, strict=True)
        # What asks for approvals has to be asked by a state machine.
        print(f"{name:20}{shown(starts):22}{'–' if name == 'approval_request' else shown(answers)}")


def create(functions: Any, name: str, handler: str, files: dict[str, bytes]) -> str:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as package:
        for file, content in files.items():
            package.writestr(file, content)
    functions.create_function(
        FunctionName=name,
        Runtime="python3.12",
        Role="arn:aws:iam::111111111111:role/functions",
        Handler=handler,
        Code={"ZipFile": archive.getvalue()},
        Timeout=30,
    )
    return name


def cold_start(functions: Any, name: str, environment: dict[str, str]) -> tuple[float, float]:
    """Its Init Duration and the duration of the first event, in milliseconds."""
    functions.update_function_configuration(FunctionName=name, Environment={"Variables": environment})
    answer = functions.invoke(FunctionName=name, Payload=json.dumps(FORGED), LogType="Tail")
    assert name == "request" or "FunctionError" not in answer, answer["Payload"].read()
    report = base64.b64decode(answer["LogResult"]).decode().splitlines()[-1]
    found = dict(re.findall(r"\t([\w ]+): ([\d.]+)", report))
    return float(found["Init Duration"]), float(found["Duration"])


def shown(measured: tuple[float, ...]) -> str:
    return f"{statistics.median(measured):.0f} ({min(measured):.0f} to {max(measured):.0f})"


if __name__ == "__main__":
    main()
