"""The page of a run: what failed and why, the graph, the states, the events, and what one can change."""

import json
import re
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.conftest import Local
from tests.console.conftest import ROLE, Runs, photograph, serving, stumbling_blocks
from tests.console.test_approvals import FORM, asked

HOSTILE = "</script><img src=x onerror=alert(1)>'\"&amp;"
END = {"Type": "Pass", "End": True}
RETRY = [{"ErrorEquals": ["States.ALL"], "IntervalSeconds": 1, "MaxAttempts": 1}]
RELEASE = {
    "Prepare": {"Type": "Pass", "Next": "Score"},
    "Score": {
        "Type": "Map",
        "ItemsPath": "$.Items",
        "ItemProcessor": {
            "StartAt": "IsLarge",
            "States": {
                "IsLarge": {
                    "Type": "Choice",
                    "Choices": [{"Variable": "$", "NumericGreaterThan": 2, "Next": "Large"}],
                    "Default": "Small",
                },
                "Large": END,
                "Small": END,
            },
        },
        "ResultPath": "$.Scores",
        "Next": "Compare",
    },
    "Compare": {
        "Type": "Parallel",
        "Branches": [{"StartAt": name, "States": {name: END}} for name in ("Champion", "Challenger")],
        "ResultPath": "$.Compared",
        "Next": "Notify",
    },
    "Notify": {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Parameters": {"FunctionName": "nobody", "Payload": {}},
        "Retry": RETRY,
        "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.Failure", "Next": "Unheard"}],
        "Next": "Done",
    },
    "Done": {"Type": "Succeed"},
    "Unheard": {"Type": "Fail", "Error": "Unheard", "CausePath": "$.Failure.Cause"},
}


@pytest.fixture(scope="module")
def release(runs: Runs) -> str:
    """A run that fails in the end, after a Map, a Parallel and a retry."""
    given = {"Items": [1, 2, 3, 4], "Trigger": "new data", "RunId": "r-1", "StartedBy": "ben@example.com"}
    return runs.run(runs.machine("release", RELEASE), "r-20261126-101500-1a2b", given)


def node(page: Page, name: str) -> Locator:
    return page.locator(f".graph a[data-key='{name}']")


def test_a_failed_run_says_first_what_failed_and_shows_the_way_to_it(
    release: str, runs_console: str, page: Page, axe: str
) -> None:
    page.goto(f"{runs_console}/runs/{release}")

    said = page.get_by_role("region", name="What failed")
    expect(said).to_contain_text("Unheard in Unheard")
    expect(said).to_contain_text("Function not found: arn:aws:lambda:us-east-1:111111111111:function:nobody")
    expect(node(page, "Score")).to_have_accessible_name("Score · 4 of 4 items, Map, succeeded")
    expect(node(page, "Notify")).to_have_accessible_name("Notify · 1 retry, Task, caught")
    expect(node(page, "Unheard")).to_have_accessible_name("Unheard, Fail, failed")
    expect(node(page, "Done")).to_have_accessible_name("Done, Succeed, waiting")
    assert page.locator(".edge.taken").count() == 6
    assert stumbling_blocks(page, axe) == []
    page.set_viewport_size({"width": 1280, "height": 1280})
    photograph(page, "run")


def test_a_state_that_is_selected_shows_what_it_got_gave_and_called(
    release: str, runs_console: str, page: Page
) -> None:
    page.goto(f"{runs_console}/runs/{release}")
    selected = page.locator("#selected")
    expect(selected.get_by_role("heading")).to_have_text("Unheard Fail failed")

    node(page, "Notify").focus()
    page.keyboard.press("Enter")

    expect(selected.get_by_role("heading")).to_have_text("Notify Task caught")
    expect(selected).to_contain_text("lambda:invoke nobody")
    selected.get_by_text("What failed before").click()
    expect(selected.get_by_role("listitem")).to_contain_text("ResourceNotFoundException")
    selected.get_by_text("Definition").click()
    assert json.loads(selected.locator("#state-definition pre").inner_text()) == RELEASE["Notify"]
    expect(selected).to_contain_text("ResourceNotFoundException")
    assert node(page, "Notify").get_attribute("aria-current") == "true"
    page.reload()
    expect(selected.get_by_role("heading")).to_have_text("Notify Task caught")
    page.get_by_role("table", name="States").get_by_role("link", name="Large", exact=True).click()
    expect(selected.get_by_role("heading")).to_have_text("Large Pass succeeded")
    selected.locator("a[data-visit]").last.click()
    expect(selected.locator("#state-input pre")).to_have_text("3")


def test_a_run_shows_what_it_got_and_gave(runs: Runs, runs_console: str, page: Page) -> None:
    execution = runs.run(
        runs.machine("given", {"Only": {"Type": "Pass", "Result": 2, "End": True}}), "given-1", 1
    )
    page.goto(f"{runs_console}/runs/{execution}")

    page.get_by_text("The run's input").click()
    page.get_by_text("The run's output").click()

    expect(page.locator("#run-input pre")).to_have_text("1")
    expect(page.locator("#run-output pre")).to_have_text("2")
    with page.expect_download() as download:
        page.get_by_text("The execution and its events as a file").click()
    assert download.value.suggested_filename == "given-1.json"
    saved = json.loads(download.value.path().read_text())
    assert saved["execution"]["output"] == "2"
    assert [event["type"] for event in saved["events"]] == [
        "ExecutionStarted",
        "PassStateEntered",
        "PassStateExited",
        "ExecutionSucceeded",
    ]


def test_a_large_graph_begins_where_the_run_began_and_fits_when_it_is_asked_to(
    runs: Runs, runs_console: str, page: Page
) -> None:
    wide = {f"Other{number}": END for number in range(24)}
    choices = [{"Variable": "$", "NumericEquals": number, "Next": name} for number, name in enumerate(wide)]
    first = {"Begin": {"Type": "Pass", "Next": "Which"}}
    which = {"Which": {"Type": "Choice", "Choices": choices, "Default": "Other0"}}
    page.goto(f"{runs_console}/runs/{runs.run(runs.machine('wide', first | which | wide), 'wide-1', 3)}")

    expect(node(page, "Begin")).to_be_in_viewport()
    page.get_by_label("as a whole").check()
    for name in ("Begin", "Other0", "Other23"):
        expect(node(page, name)).to_be_in_viewport(ratio=0.95)  # its size is a fraction of pixels
    page.locator("#graph").evaluate("place => { place.classList.remove('whole'); place.scrollTo(0, 0) }")
    expect(node(page, "Begin")).not_to_be_in_viewport()
    page.get_by_label("as a whole").uncheck()
    expect(node(page, "Begin")).to_be_in_viewport()


def test_a_map_closes_and_opens(release: str, runs_console: str, page: Page) -> None:
    page.goto(f"{runs_console}/runs/{release}")
    button = page.get_by_role("button", name="What is in Score")
    expect(node(page, "IsLarge")).to_be_visible()

    button.focus()
    page.keyboard.press("Enter")

    expect(node(page, "IsLarge")).to_have_count(0)
    expect(button).to_have_attribute("aria-expanded", "false")
    expect(button).to_be_focused()
    page.keyboard.press("Enter")
    expect(node(page, "IsLarge")).to_be_visible()


def test_error_paths_are_drawn_where_one_asks_for_them(runs: Runs, runs_console: str, page: Page) -> None:
    states = json.loads(json.dumps(RELEASE)) | {"Notify": {"Type": "Pass", "Next": "Check"}}
    states["Check"] = {
        "Type": "Choice",
        "Choices": [{"Variable": "$.Trigger", "IsPresent": True, "Next": "Done"}],
        "Default": "Unheard",
    }
    execution = runs.run(
        runs.machine("quiet", states), "quiet-1", {"Items": [], "Trigger": "", "Failure": {}}
    )

    page.goto(f"{runs_console}/runs/{execution}")
    expect(node(page, "Done")).to_be_visible()
    expect(node(page, "Unheard")).to_have_count(0)
    page.get_by_label("with error paths not taken").check()

    expect(node(page, "Unheard")).to_have_accessible_name("Unheard, Fail, waiting")


def test_without_a_script_the_states_are_a_table(release: str, runs_console: str) -> None:
    _, html, _ = asked(runs_console, "GET", f"/runs/{release}?state=Score")

    table = html[html.index('<table class="rows states"') :]
    rows = re.findall(r'data-state="(\w+)">.*?<span class="mark (\w+)">', table, re.DOTALL)
    assert sorted(rows) == sorted(
        [
            *((name, "succeeded") for name in ("Prepare", "Score", "IsLarge", "Small", "Large", "Compare")),
            *(
                ("Champion", "succeeded"),
                ("Challenger", "succeeded"),
                ("Notify", "caught"),
                ("Unheard", "failed"),
            ),
        ]
    )
    assert '<h2>Score <span class="soft">Map</span>' in html
    assert "4 of 4 succeeded, 0 failed" in html


def test_events_are_filtered_and_paged(runs: Runs, release: str, runs_console: str) -> None:
    def events(query: str) -> list[tuple[str, str]]:
        _, html, _ = asked(runs_console, "GET", f"/runs/{release}?{query}")
        return re.findall(r"<td>(\w+)</td><td>(\w*)</td>\n<td>", html)

    assert events("type=LambdaFunctionFailed&of=Notify") == []
    assert events("type=TaskFailed") == [("TaskFailed", "Notify")] * 2
    assert events("of=Large") == [("PassStateEntered", "Large"), ("PassStateExited", "Large")] * 2
    assert events("of=Compare") == [
        (f"ParallelState{what}", "Compare") for what in ("Entered", "Started", "Succeeded", "Exited")
    ]
    assert len(events("skip=0")) == len(runs.client.get_execution_history(executionArn=release)["events"])
    assert events("skip=1") == events("skip=0")[1:]


def test_a_run_is_followed_state_by_state(runs: Runs, runs_console: str, page: Page) -> None:
    worker = runs.client.create_activity(name="follow")["activityArn"]
    states = {"Work": {"Type": "Task", "Resource": worker, "Next": "After"}, "After": END}
    execution = runs.start(runs.machine("followed", states), "followed-1")

    page.goto(f"{runs_console}/runs/{execution}?state=After")
    expect(node(page, "Work")).to_have_accessible_name("Work, Task, running")
    expect(page.locator("#selected")).to_contain_text("It has not been entered.")
    task = runs.client.get_activity_task(activityArn=worker)
    runs.client.send_task_success(taskToken=task["taskToken"], output='{"Worked": true}')

    expect(node(page, "After")).to_have_accessible_name("After, Pass, succeeded")
    expect(page.get_by_role("status")).to_have_text("SUCCEEDED")
    expect(page.locator("#selected")).to_contain_text('"Worked": true')
    expect(page.get_by_role("table", name="Events")).to_contain_text("ExecutionSucceeded")


def test_a_failed_job_says_why_with_the_end_of_its_log(runs: Runs, runs_console: str, page: Page) -> None:
    code = "print('<b>reading</b>'); raise SystemExit('no <i>data</i>')"
    states = {
        "Train": {
            "Type": "Task",
            "Resource": "arn:aws:states:::sagemaker:createProcessingJob.sync",
            "Parameters": {
                "ProcessingJobName": "console-job",
                "RoleArn": "arn:aws:iam::111111111111:role/jobs",
                "AppSpecification": {"ImageUri": "x", "ContainerEntrypoint": ["python3", "-c", code]},
                "ProcessingResources": {
                    "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}
                },
            },
            "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "Failed"}],
            "End": True,
        },
        "Failed": {"Type": "Fail", "Error": "TrainingFailed", "Cause": "see there"},
    }
    execution = runs.run(runs.machine("job", states), "job-1")

    page.goto(f"{runs_console}/runs/{execution}")

    said = page.get_by_role("region", name="What failed")
    expect(said).to_contain_text("TrainingFailed in Failed")
    expect(said).to_contain_text("console-job Failed")
    expect(said.locator("pre")).to_contain_text("<b>reading</b>")
    expect(said.locator("pre")).to_contain_text("no <i>data</i>")
    said.get_by_role("link", name="console-job").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("console-job")


def test_a_failed_build_says_why_with_the_end_of_its_log(
    runs: Runs, shared_local: Local, runs_console: str, page: Page
) -> None:
    commands = {"version": 0.2, "phases": {"build": {"commands": ["echo the tests begin", "exit 3"]}}}
    shared_local.client("codebuild").create_project(
        name="console-build",
        source={"type": "NO_SOURCE", "buildspec": json.dumps(commands)},
        artifacts={"type": "NO_ARTIFACTS"},
        environment={
            "type": "LINUX_CONTAINER",
            "image": "aws/codebuild/standard:7.0",
            "computeType": "BUILD_GENERAL1_SMALL",
        },
        serviceRole=ROLE,
    )
    states = {
        "Build": {
            "Type": "Task",
            "Resource": "arn:aws:states:::codebuild:startBuild.sync",
            "Parameters": {"ProjectName": "console-build"},
            "End": True,
        }
    }
    execution = runs.run(runs.machine("built", states), "built-1")

    page.goto(f"{runs_console}/runs/{execution}")

    said = page.get_by_role("region", name="What failed")
    expect(said).to_contain_text("States.TaskFailed in Build")
    expect(said).to_contain_text("exit status 3")
    expect(said.locator("pre")).to_contain_text("the tests begin")


def test_hostile_names_and_causes_are_shown_as_they_are(
    runs: Runs, runs_console: str, page: Page, axe: str
) -> None:
    states = {
        HOSTILE: {"Type": "Pass", "Result": HOSTILE, "Next": f"{HOSTILE} again"},
        f"{HOSTILE} again": {"Type": "Fail", "Error": HOSTILE, "Cause": HOSTILE},
    }
    execution = runs.run(runs.machine("hostile", states), "hostile-1", {"Trigger": HOSTILE})
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))

    page.goto(f"{runs_console}/runs/{execution}")
    expect(page.get_by_role("region", name="What failed")).to_contain_text(f"{HOSTILE} in {HOSTILE} again")
    page.locator(".graph a.node").first.click()

    expect(page.locator("#selected").get_by_role("heading")).to_have_text(f"{HOSTILE} Pass succeeded")
    expect(page.locator("#state-output pre")).to_have_text(json.dumps(HOSTILE))
    assert page.locator("img, main script").count() == 0
    assert problems == []
    assert stumbling_blocks(page, axe) == []


def test_a_cause_that_nests_deeper_than_json_is_read_is_shown_as_text(runs: Runs, runs_console: str) -> None:
    deep = "[" * 30_000
    states = {"Deep": {"Type": "Fail", "Error": "Deep", "Cause": deep}}
    execution = runs.run(runs.machine("deep", states), "deep-1", {"Trigger": "deep"})

    status, html, _ = asked(runs_console, "GET", f"/runs/{execution}")
    listed, rows, _ = asked(runs_console, "GET", "/runs?name=deep-1")

    assert (status, listed) == (200, 200)
    assert deep in html and "deep-1" in rows


def test_a_run_is_stopped_and_redriven(runs: Runs, runs_console: str, page: Page) -> None:
    execution = runs.start(
        runs.machine("held", {"Hold": {"Type": "Wait", "Seconds": 600, "End": True}}), "held-1"
    )
    page.goto(f"{runs_console}/runs/{execution}")

    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("region", name="What failed")).to_contain_text(
        "Stopped in the console by arn:aws:sts::111111111111:user/moto"
    )
    assert runs.ended(execution)["status"] == "ABORTED"
    expect(node(page, "Hold")).to_have_accessible_name("Hold, Wait, aborted")
    page.get_by_role("button", name="Redrive from where it failed").click()

    expect(page.get_by_role("status")).to_have_text("RUNNING")
    expect(page.get_by_text("Redriven", exact=True)).to_be_visible()
    expect(node(page, "Hold")).to_have_accessible_name("Hold, Wait, running")
    assert runs.client.describe_execution(executionArn=execution)["redriveCount"] == 1


def test_a_run_starts_again_with_another_input(
    runs: Runs, release: str, runs_console: str, page: Page, axe: str
) -> None:
    page.goto(f"{runs_console}/runs/{release}")
    page.get_by_role("link", name="Start again…").click()
    area = page.get_by_label("Input, as JSON")
    proposed = json.loads(area.input_value())
    assert stumbling_blocks(page, axe) == []
    area.fill(json.dumps({**proposed, "StartedBy": "anna@example.com"}, indent=2))
    photograph(page, "start-again")

    area.fill('{"Items": [NaN]}')
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("alert")).to_have_text("The input is not JSON: NaN is no JSON")
    assert area.input_value() == '{"Items": [NaN]}'
    area.fill(json.dumps({**proposed, "Items": [7], "StartedBy": "somebody else"}))
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(proposed["RunId"])

    started = runs.ended(release.rsplit(":", 1)[0] + ":" + proposed["RunId"])
    given = json.loads(started["input"])
    assert proposed["RunId"] != "r-1"
    assert (given["Items"], given["Trigger"]) == ([7], "person")
    assert "user/moto" in given["StartedBy"]


@pytest.mark.parametrize("path", ["stop", "redrive", "again"])
def test_a_form_of_another_site_changes_nothing(release: str, runs_console: str, path: str) -> None:
    body = urlencode({"form_token": "0" * 32, "input": "{}"})

    status, _, _ = asked(
        runs_console, "POST", f"/runs/{release}/{path}", body=body, headers={"Content-Type": FORM}
    )

    assert status == 403


def test_a_console_that_only_shows_offers_no_change(runs: Runs, release: str) -> None:
    with serving(runs, "--read-only") as console:
        _, html, _ = asked(console, "GET", f"/runs/{release}")
        statuses = [
            asked(console, method, f"/runs/{release}/{path}", body="", headers={"Content-Type": FORM})[0]
            for method, path in [("GET", "again"), ("POST", "again"), ("POST", "stop"), ("POST", "redrive")]
        ]

    assert 'method="post"' not in html
    assert "Start again" not in html
    assert statuses == [403, 403, 403, 403]


def arn(name: str) -> str:
    return quote(f"arn:aws:states:us-east-1:111111111111:execution:{name}")


@pytest.mark.parametrize("path", [arn("stagegate-none:x"), "nonsense", f"{arn('stagegate-none:x')}/stream"])
def test_a_run_that_is_not_there_is_not_found(runs_console: str, path: str) -> None:
    status, html, _ = asked(runs_console, "GET", f"/runs/{path}")

    assert status == 404
    assert "There is no run" in html


@pytest.mark.parametrize("query", ["state=Nowhere", "visit=9999", "visit=x", "skip=-1"])
def test_what_a_run_does_not_have_is_not_found(release: str, runs_console: str, query: str) -> None:
    status, _, _ = asked(runs_console, "GET", f"/runs/{release}?{query}")

    assert status == 404


def test_it_stands_on_a_telephone_with_thousands_of_events(runs: Runs, runs_console: str, page: Page) -> None:
    items: list[Any] = list(range(300))
    states = {"Each": RELEASE["Score"] | {"ItemsPath": "$", "ResultPath": "$", "Next": "Done"}, "Done": END}
    execution = runs.run(runs.machine("large", states), "large-1", items)
    page.set_viewport_size({"width": 390, "height": 844})

    page.goto(f"{runs_console}/runs/{execution}")

    expect(node(page, "Each")).to_have_accessible_name("Each · 300 of 300 items, Map, succeeded")
    expect(page.locator("#events ~ [data-part=event_count]")).to_contain_text("1 to 100 of 1808")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    photograph(page, "run-telephone")
