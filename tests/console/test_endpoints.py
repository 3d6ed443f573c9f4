"""The page of endpoints: what serves, its last hour, its alarms, and what each stage says of a picture."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from playwright.sync_api import Page, expect

from tests.console import releases
from tests.console.conftest import Shown, answering, photograph, serving, stumbling_blocks
from tests.console.test_approvals import asked

BOUNDARY = "----form"


@pytest.fixture(scope="module")
def measured(shown: Shown) -> Shown:
    """Production had 20 requests a minute for ten minutes, two of them failed; it has an alarm."""
    cloudwatch = shown.installation.services("cloudwatch")
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    dimensions = [
        {"Name": "EndpointName", "Value": "stagegate-production"},
        {"Name": "VariantName", "Value": "AllTraffic"},
    ]
    latencies = [12_500.0 + 500 * number for number in range(19)] + [80_000.0]
    requests = {"Invocations": [1.0] * 20, "Invocation5XXErrors": [1.0] * 2, "ModelLatency": latencies}
    instances = {"CPUUtilization": [20.0, 40.0], "MemoryUtilization": [12.0]}
    for namespace, metrics in (("AWS/SageMaker", requests), ("/aws/sagemaker/Endpoints", instances)):
        cloudwatch.put_metric_data(
            Namespace=namespace,
            MetricData=[
                {
                    "MetricName": name,
                    "Values": values,
                    "Timestamp": now - timedelta(minutes=10 + minute),
                    "Dimensions": dimensions,
                }
                for minute in range(10)
                for name, values in metrics.items()
            ],
        )
    cloudwatch.put_metric_alarm(
        AlarmName="stagegate-production-server-errors",
        AlarmDescription="The endpoint answers with errors of its own.",
        Namespace="Test",
        MetricName="Errors",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
        TreatMissingData="ignore",
    )
    return shown


def test_endpoints_stand_with_their_last_hour_and_alarms(measured: Shown, page: Page) -> None:
    page.goto(f"{measured.address}/endpoints")

    production = page.get_by_role("region", name="Production InService")
    expect(production.get_by_role("link", name="stagegate-models/1")).to_have_attribute(
        "href", f"/models/{measured.champion}"
    )
    expect(
        production.get_by_text("200 requests, 20 errors, p50 17 ms, p95 21.5 ms, p99 80 ms")
    ).to_be_visible()
    latency = "Latency, ms: p50 from 17 to 17, p95 from 21.5 to 21.5, p99 from 80 to 80"
    expect(production.get_by_role("img", name=latency)).to_be_visible()
    expect(production.get_by_role("img", name="CPU, % (100 for each core) from 30 to")).to_be_visible()
    expect(production.get_by_role("img", name="Memory, % from 12 to")).to_be_visible()
    expect(production.get_by_text("stagegate-production-server-errors")).to_be_visible()
    expect(page.get_by_role("region", name="Staging InService")).to_be_visible()


@pytest.mark.parametrize(
    ("operation", "missing", "kept"),
    [
        ("DescribeAlarms", "the alarms of staging; the alarms of production", "200</strong> requests"),
        ("GetMetricData", "the last hour of staging; the last hour of production", "server-errors</strong>"),
    ],
)
def test_what_aws_does_not_say_of_endpoints_is_missing_and_the_rest_is_there(
    measured: Shown, operation: str, missing: str, kept: str
) -> None:
    def throttle(**of_call: Any) -> None:
        raise ClientError({"Error": {"Code": "ThrottlingException", "Message": "Rate exceeded"}}, operation)

    with answering(measured.installation.config) as (address, services):
        services("cloudwatch").meta.events.register(f"before-call.cloudwatch.{operation}", throttle)
        status, html, _ = asked(address, "GET", "/endpoints")

    assert (status, html.count('<section class="card"')) == (200, 2)
    assert f"Not shown because of it: {missing}." in html
    assert kept in html


def test_both_stages_say_what_a_picture_shows(measured: Shown, page: Page, axe: str, tmp_path: Path) -> None:
    picture = tmp_path / "beach.jpg"
    picture.write_bytes(releases.picture())
    page.goto(f"{measured.address}/endpoints")
    page.get_by_label("A picture").set_input_files(picture)
    page.get_by_role("button", name="Ask both").click()

    expect(page.get_by_role("heading", name="What they say of beach.jpg")).to_be_visible()
    expect(page.get_by_text("sea", exact=True)).to_have_count(4)
    expect(page.get_by_role("row").filter(has_text="glacier").first).to_contain_text("10.0 %")
    assert page.get_by_role("img", name="beach.jpg").evaluate("it => it.naturalWidth") == 48
    assert stumbling_blocks(page, axe) == []
    page.get_by_role("heading", name="What they say").evaluate("it => it.scrollIntoView()")
    photograph(page, "endpoints")


def test_a_picture_that_is_dropped_is_sent(measured: Shown, page: Page) -> None:
    page.goto(f"{measured.address}/endpoints")
    page.evaluate(
        """() => {
          const transfer = new DataTransfer();
          transfer.items.add(new File(["hostile"], "dropped.png"));
          const event = new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true });
          document.querySelector("form.drop").dispatchEvent(event);
        }"""
    )

    expect(page.get_by_role("heading", name="What they say of dropped.png")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="<i>forest</i>").first).to_contain_text("10.0 %")


def test_a_deployment_is_followed_until_it_is_over(measured: Shown, page: Page) -> None:
    services = measured.installation.services
    releases.move(services, "staging", watched_by="stagegate-staging-errors")

    page.goto(f"{measured.address}/endpoints")
    expect(page.get_by_role("region", name="Staging Updating")).to_contain_text("coming")
    services("cloudwatch").set_alarm_state(
        AlarmName="stagegate-staging-errors", StateValue="ALARM", StateReason=releases.HOSTILE
    )

    staging = page.get_by_role("region", name="Staging InService")
    expect(staging).not_to_contain_text("coming", timeout=30_000)


def form(token: str, name: str, content: str = "x") -> str:
    parts = [
        f'Content-Disposition: form-data; name="form_token"\r\n\r\n{token}',
        f'Content-Disposition: form-data; name="picture"; filename="{name}"\r\n\r\n{content}',
    ]
    return "".join(f"--{BOUNDARY}\r\n{part}\r\n" for part in parts) + f"--{BOUNDARY}--\r\n"


@pytest.mark.parametrize(
    ("token", "name", "content", "status", "said"),
    [
        (None, "a.jpg", "x", 200, "What they say of a.jpg"),
        ("0" * 32, "a.jpg", "x", 403, "not from this console"),
        (None, "a.exe", "x", 400, "should end in one of .jpg"),
        (None, "<script>.exe", "x", 400, "&lt;script&gt;.exe"),
        (None, "a.jpg", "", 400, "Choose a picture first."),
        (None, "a.jpg", "x" * 6_400_000, 413, "An endpoint takes at most 6,291,456 bytes."),
    ],
)
def test_a_console_that_only_shows_asks_endpoints_for_its_own_forms_alone(
    reading: str, token: str | None, name: str, content: str, status: int, said: str
) -> None:
    _, page, _ = asked(reading, "GET", "/endpoints")
    own = re.search(r'name="form_token" value="([^"]+)"', page)
    assert own is not None

    answered, text, _ = asked(
        reading,
        "POST",
        "/endpoints",
        body=form(token or own[1], name, content),
        headers={"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"},
    )

    assert answered == status
    assert said in text


@pytest.fixture(scope="module")
def reading(shown: Shown):
    with serving(shown.installation, "--read-only") as address:
        yield address
