"""The console's pages in Chromium: small ones beside large ones, what each takes until it can be used.

Runs of 10 and of 24,006 events (a Map of 1,000 items with 11 states each), and one that fails; lists of 25
and of 10,000 runs. Usable is the page when its script has drawn the graph, or when the list's rows are there;
whole when the history has been read, or the names searched. Each page is that of a run which the console has
not seen before. The same with 250 ms on the way of each call, as AWS may take; and a run that goes on while
it is shown.

    python benchmarks/console.py                about three minutes
    python benchmarks/console.py --repeats 9 --runs 1000
"""

import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).parent.parent))
from playwright.sync_api import Browser, sync_playwright

from benchmarks.engine import ROLE, ROOT, PlainHttp, Server

CHROMIUM = "/usr/bin/chromium"
ITEMS = 1_000
STEPS = 11
DELAY = 0.25


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5, help="times that each page is opened: 5")
    parser.add_argument("--runs", type=int, default=10_000, help="runs in the long list: 10000")
    options = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
    print(f"{os.cpu_count()} cores, {os.getloadavg()[0]:.1f} processes run at the start, the last minute")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        with Server() as server:
            machines = {name: machine(server, name, states) for name, states in STATES.items()}
            compare_runs(server, browser, machines, options.repeats)
            watch(server, browser)
        with Server() as server:
            compare_lists(server, browser, options)
        browser.close()


def chain(count: int, last: dict[str, Any]) -> dict[str, Any]:
    names = [f"Step{number}" for number in range(count)]
    steps = {name: {"Type": "Pass", "Next": after} for name, after in pairwise(names)}
    return {**steps, names[-1]: last}


def each(processor: dict[str, Any]) -> dict[str, Any]:
    inner = {"StartAt": next(iter(processor)), "States": processor}
    return {"Each": {"Type": "Map", "MaxConcurrency": 40, "ItemProcessor": inner, "End": True}}


END = {"Type": "Pass", "End": True}
LAST_FAILS = {
    "Check": {
        "Type": "Choice",
        "Choices": [{"Variable": "$", "NumericEquals": ITEMS - 1, "Next": "Bad"}],
        "Default": "Good",
    },
    "Bad": {"Type": "Fail", "Error": "BadItem", "Cause": "the last one"},
    "Good": END,
}
STATES = {
    "small": chain(4, END),
    "large": each(chain(STEPS, END)),
    "failed": each({**chain(STEPS - 2, {"Type": "Pass", "Next": "Check"}), **LAST_FAILS}),
}


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A page: seconds until it was usable and until it was whole, and what it took of the browser."""

    usable: float
    whole: float
    kilobytes: float
    """Until it was usable, without what the browser keeps: scripts and styles."""
    nodes: float
    heap: float
    """MB of JavaScript, after a collection of garbage."""


def compare_runs(server: Server, browser: Browser, machines: dict[str, str], repeats: int) -> None:
    cases = {
        f"{title}{', 250 ms a call' if delay else ''}": (name, delay)
        for delay in (0.0, DELAY)
        for title, name in (
            ("10 events", "small"),
            ("24,006, a Map of 1,000", "large"),
            ("the same, failed", "failed"),
        )
    }
    opened: dict[str, list[Opened]] = {title: [] for title in cases}
    with delayed(server.url) as far, console(server.url) as near_console, console(far) as far_console:
        for title, (name, delay) in cases.items():
            for turn in range(repeats + 1):
                execution = run(server, machines[name], f"{name}-{delay}-{turn}")
                address = f"{far_console if delay else near_console}/runs/{quote(execution)}"
                found = open_page(browser, address, usable="#graph svg")
                opened[title] += [found] if turn else []  # the first one warms up
    report("The page of a run", opened)


def compare_lists(server: Server, browser: Browser, options: argparse.Namespace) -> None:
    opened: dict[str, list[Opened]] = {}
    few, many = (machine(server, name, {"Only": END}) for name in ("few", "many"))
    start(server, few, 25)
    start(server, many, options.runs)
    with console(server.url) as address:
        lists = {
            "25 runs": "?state_machine=stagegate-few",
            f"{options.runs:,} runs": "?state_machine=stagegate-many",
            "  filtered by status": "?state_machine=stagegate-many&status=SUCCEEDED",
            "  a name that few have": "?state_machine=stagegate-many&name=-000007",
            "  a name that none has": "?state_machine=stagegate-many&name=nobody",
        }
        for title, query in lists.items():
            pages = [
                open_page(browser, f"{address}/runs{query}", usable="main") for _ in range(options.repeats)
            ]
            opened[title] = pages
        report("The list of runs", opened)


def report(title: str, opened: dict[str, list[Opened]]) -> None:
    print(f"{title}: medians, seconds (slowest), and how many times the first")
    print(f"  {'':38} usable            whole    kB      nodes   heap MB")
    first = median(next(iter(opened.values())), lambda it: it.usable)
    for name, pages in opened.items():
        usable, slowest = median(pages, lambda it: it.usable), max(page.usable for page in pages)
        whole, size = median(pages, lambda it: it.whole), median(pages, lambda it: it.kilobytes)
        nodes, heap = median(pages, lambda it: it.nodes), median(pages, lambda it: it.heap)
        print(
            f"  {name:38} {usable:5.2f} ({slowest:.2f}) {usable / first:4.1f} ×  {whole:5.2f}"
            f"  {size:6.0f}  {nodes:6.0f}   {heap:5.1f}"
        )


def median(pages: list[Opened], member: Callable[[Opened], float]) -> float:
    return statistics.median(member(page) for page in pages)


def open_page(browser: Browser, address: str, *, usable: str) -> Opened:
    context = browser.new_context()
    page = context.new_page()
    begun = time.perf_counter()
    page.goto(address, wait_until="load")
    page.locator(usable).wait_for()
    seconds = time.perf_counter() - begun
    size = page.evaluate("performance.getEntriesByType('navigation')[0].encodedBodySize")
    page.get_by_text("so far").first.wait_for(state="hidden", timeout=90_000)
    whole = time.perf_counter() - begun
    found = Opened(usable=seconds, whole=whole, kilobytes=size / 1e3, **taken(context.new_cdp_session(page)))
    context.close()
    return found


def taken(devtools: Any) -> dict[str, float]:
    devtools.send("Performance.enable")
    devtools.send("HeapProfiler.collectGarbage")
    metrics = {it["name"]: it["value"] for it in devtools.send("Performance.getMetrics")["metrics"]}
    return {"nodes": metrics["Nodes"], "heap": metrics["JSHeapUsedSize"] / 1e6}


def watch(server: Server, browser: Browser) -> None:
    """A run that goes on for thousands of events while its page is open."""
    worker = server.client("stepfunctions").create_activity(name="beat")["activityArn"]
    states = {
        "Ask": {"Type": "Task", "Resource": worker, "Next": "More"},
        "More": {
            "Type": "Choice",
            "Choices": [{"Variable": "$[0]", "IsPresent": True, "Next": "Each"}],
            "Default": "End",
        },
        "Each": {**each(chain(STEPS, END))["Each"], "ResultPath": None, "Next": "Ask", "End": False},
        "End": END,
    }
    del states["Each"]["End"]
    execution = server.client("stepfunctions").start_execution(
        stateMachineArn=machine(server, "going", states), input="[]"
    )["executionArn"]
    client = server.client("stepfunctions")
    print("A run that goes on while its page is open: events, nodes, MB of heap after a collection")
    with console(server.url) as address:
        page = browser.new_page()
        page.goto(f"{address}/runs/{quote(execution)}")
        devtools = page.context.new_cdp_session(page)
        for count in (1, 40, 40, 40, 40, 40, 40, 40, 40):
            task = client.get_activity_task(activityArn=worker)
            client.send_task_success(taskToken=task["taskToken"], output=json.dumps([*range(count)] * 2))
            while (newest := latest_event(client, execution))["type"] != "ActivityScheduled":
                time.sleep(0.05)
            page.locator("[data-part=event_count]").get_by_text(f"of {newest['id']}").wait_for()
            found = taken(devtools)
            print(f"  {newest['id']:8,} {found['nodes']:8.0f} {found['heap']:8.2f}")
        page.close()


def latest_event(client: Any, execution: str) -> dict[str, Any]:
    answer = client.get_execution_history(executionArn=execution, reverseOrder=True, maxResults=1)
    event: dict[str, Any] = answer["events"][0]
    return event


def machine(server: Server, name: str, states: dict[str, Any]) -> str:
    definition = json.dumps({"StartAt": next(iter(states)), "States": states})
    arn: str = server.client("stepfunctions").create_state_machine(
        name=f"stagegate-{name}", definition=definition, roleArn=ROLE
    )["stateMachineArn"]
    return arn


def run(server: Server, state_machine: str, name: str) -> str:
    client = server.client("stepfunctions")
    execution: str = client.start_execution(
        stateMachineArn=state_machine, name=name, input=json.dumps([*range(ITEMS)])
    )["executionArn"]
    while client.describe_execution(executionArn=execution)["status"] == "RUNNING":
        time.sleep(0.05)
    return execution


def start(server: Server, state_machine: str, count: int) -> None:
    http = threading.local()

    def start_one(number: int) -> None:
        if not hasattr(http, "client"):
            http.client = PlainHttp(server.url)
        http.client.start_execution(stateMachineArn=state_machine, name=f"run-{number:06}", input="{}")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(start_one, range(count)))


@contextlib.contextmanager
def console(endpoint_url: str) -> Iterator[str]:
    """`stagegate console` in a process of its own."""
    with tempfile.TemporaryDirectory() as data:
        process = subprocess.Popen(
            [sys.executable, "-m", "stagegate", "console", "--port", "0"],
            cwd=ROOT,
            env={**os.environ, "AWS_ENDPOINT_URL": endpoint_url, "STAGEGATE_DATA": data},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            address = re.search(r"http://\S+", process.stdout.readline())
            assert address is not None
            yield address[0].rstrip("/")
        finally:
            process.terminate()
            process.communicate(timeout=30)


@contextlib.contextmanager
def delayed(url: str) -> Iterator[str]:
    """The same server, each call of which takes a quarter of a second more."""

    class Forward(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(DELAY)
            connection = HTTPConnection(url.removeprefix("http://"))
            connection.request("POST", self.path, body, dict(self.headers))
            answer = connection.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for name in ("Content-Type", "x-amzn-RequestId"):
                if name in answer.headers:
                    self.send_header(name, answer.headers[name])
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            connection.close()

        def log_message(self, *message: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Forward) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{proxy.server_port}"
        proxy.shutdown()


if __name__ == "__main__":
    main()
