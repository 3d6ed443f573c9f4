"""Lambda functions on the real runtime: invoked, queued, called by their URL."""

import base64
import contextlib
import io
import json
import re
import time
import urllib.error
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

ROLE = "arn:aws:iam::111111111111:role/function"
PATIENCE = 30


def package(source):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("app.py", source)
    return buffer.getvalue()


def create(runtime, name, source, **members):
    runtime.client("lambda").create_function(
        FunctionName=name,
        Role=ROLE,
        Runtime="python3.12",
        Handler="app.handler",
        Code={"ZipFile": package(source)},
        **{"Timeout": 10, **members},
    )


def invoke(runtime, name, event=None, **members):
    response = runtime.client("lambda").invoke(FunctionName=name, Payload=json.dumps(event), **members)
    text = response["Payload"].read()
    return json.loads(text) if text else None, response


def until(look):
    deadline = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


def logged(runtime, name):
    logs = runtime.client("logs")
    try:
        events = logs.filter_log_events(logGroupName=f"/aws/lambda/{name}")["events"]
    except logs.exceptions.ResourceNotFoundException:
        return []
    return [event["message"] for event in events]


def test_a_function_answers_with_its_environment_and_context(shared_local):
    source = (
        "import os\n"
        "def handler(event, context):\n"
        "    return {'event': event, 'given': os.environ['GIVEN'], 'name': context.function_name,\n"
        "            'arn': context.invoked_function_arn,\n"
        "            'time': context.get_remaining_time_in_millis() > 5000,\n"
        "            'endpoint': os.environ['AWS_ENDPOINT_URL']}"
    )
    create(shared_local, "answers", source, Environment={"Variables": {"GIVEN": "by the request"}})

    answer, response = invoke(shared_local, "answers", {"a": 1})

    assert (response["StatusCode"], response["ExecutedVersion"]) == (200, "$LATEST")
    assert answer == {
        "event": {"a": 1},
        "given": "by the request",
        "name": "answers",
        "arn": "arn:aws:lambda:us-east-1:111111111111:function:answers",
        "time": True,
        "endpoint": shared_local.endpoint_url,
    }


def test_an_error_has_its_type_message_and_trace(shared_local):
    create(
        shared_local, "raises", "def handler(event, context):\n    raise ValueError('bad ' + event['what'])"
    )

    error, response = invoke(shared_local, "raises", {"what": "data"})

    assert response["FunctionError"] == "Unhandled"
    assert (error["errorType"], error["errorMessage"]) == ("ValueError", "bad data")
    (frame,) = error["stackTrace"]
    assert "line 2, in handler" in frame and "raise ValueError" in frame


@pytest.mark.parametrize(
    ("name", "source", "kind", "message"),
    [
        (
            "times-out",
            "import time\ndef handler(e, c): time.sleep(60)",
            "Sandbox.Timedout",
            "Task timed out after 1.00 seconds",
        ),
        (
            "exits",
            "import os\ndef handler(e, c): os._exit(3)",
            "Runtime.ExitError",
            "Runtime exited with error: exit status 3",
        ),
        ("imports", "import no_such_module", "ModuleNotFoundError", "No module named 'no_such_module'"),
        (
            "marshals",
            "def handler(e, c): return object()",
            "Runtime.MarshalError",
            "Unable to marshal response: Object of type object is not JSON serializable",
        ),
    ],
)
def test_each_way_to_fail_reads_as_in_lambda(shared_local, name, source, kind, message):
    create(shared_local, name, source, Timeout=1)

    for _ in range(2):  # the second time in a fresh process
        error, response = invoke(shared_local, name, {})
        assert response["FunctionError"] == "Unhandled"
        assert error["errorType"] == kind
        assert error["errorMessage"].endswith(message)


def test_what_a_function_prints_is_in_its_log_and_in_the_tail(shared_local):
    create(shared_local, "prints", "def handler(e, c):\n    print('one')\n    print('two')")

    _, response = invoke(shared_local, "prints", {}, LogType="Tail")

    tail = base64.b64decode(response["LogResult"]).decode().splitlines()
    assert tail[0].startswith("START RequestId: ")
    assert tail[1:3] == ["one", "two"]
    assert tail[3].startswith("END RequestId: ")
    assert tail[4].startswith("REPORT RequestId: ")
    until(lambda: tail == logged(shared_local, "prints"))


def test_the_report_of_a_cold_start_says_how_long_the_initialization_took(shared_local):
    create(shared_local, "cold", "import time\ntime.sleep(0.3)\ndef handler(e, c): pass")

    reports = []
    for _ in range(2):
        _, response = invoke(shared_local, "cold", {}, LogType="Tail")
        last = base64.b64decode(response["LogResult"]).decode().splitlines()[-1]
        reports.append(dict(re.findall(r"\t([\w ]+): ([\d.]+)", last)))

    cold, warm = reports
    assert float(cold["Init Duration"]) >= 300 > float(cold["Duration"])
    assert int(cold["Billed Duration"]) >= 300  # as AWS bills it since August 2025
    assert set(warm) == set(cold) - {"Init Duration"}


def test_a_warm_process_is_kept_and_concurrent_calls_get_their_own(shared_local):
    create(
        shared_local, "warm", "import os, time\ndef handler(e, c):\n    time.sleep(e)\n    return os.getpid()"
    )
    first, _ = invoke(shared_local, "warm", 0)

    with ThreadPoolExecutor() as pool:
        pids = [pid for pid, _ in pool.map(lambda _: invoke(shared_local, "warm", 1), range(3))]

    assert first in pids
    assert len(set(pids)) == 3


def test_changed_code_and_configuration_take_effect(shared_local):
    client = shared_local.client("lambda")
    create(shared_local, "changes", "def handler(e, c): return 1")
    before = client.get_function(FunctionName="changes")["Configuration"]
    assert invoke(shared_local, "changes")[0] == 1

    client.update_function_code(
        FunctionName="changes", ZipFile=package("import os\ndef handler(e, c): return os.environ['VALUE']")
    )
    client.update_function_configuration(FunctionName="changes", Environment={"Variables": {"VALUE": "2"}})
    client.get_waiter("function_updated_v2").wait(FunctionName="changes")

    assert invoke(shared_local, "changes")[0] == "2"
    after = client.get_function(FunctionName="changes")["Configuration"]
    assert after["CodeSha256"] != before["CodeSha256"]
    assert after["RevisionId"] != before["RevisionId"]


def test_an_event_of_six_megabytes_comes_and_goes(shared_local):
    create(shared_local, "large", "def handler(e, c): return e[::-1]")
    event = "ab" * 3_000_000

    result, _ = invoke(shared_local, "large", event)

    assert result == event[::-1]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_processes_that_have_ended_leave_no_descriptor_behind(shared_local):
    client = shared_local.client("lambda")
    create(shared_local, "renewed", "def handler(e, c): return 1")

    def open_pipes():
        """But for those of the process that is there."""
        assert invoke(shared_local, "renewed")[0] == 1
        count = 0
        for descriptor in Path(f"/proc/{shared_local.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
                count += str(descriptor.readlink()).startswith("pipe:")
        return count

    before = open_pipes()
    for number in range(3):
        client.update_function_configuration(FunctionName="renewed", Timeout=20 + number)
        assert invoke(shared_local, "renewed")[0] == 1

    assert open_pipes() <= before


def test_an_event_that_was_accepted_is_run_after_a_kill_too(local):
    local.client("s3").create_bucket(Bucket="bucket")
    source = (
        "import boto3, time\n"
        "def handler(event, context):\n"
        "    time.sleep(1)\n"
        "    boto3.client('s3').put_object(Bucket='bucket', Key=event['key'], Body=b'ran')"
    )
    create(local, "queued", source)
    for key in ("a", "b"):
        _, response = invoke(local, "queued", {"key": key}, InvocationType="Event")
        assert response["StatusCode"] == 202

    local.restart()

    def keys():
        return [
            entry["Key"] for entry in local.client("s3").list_objects_v2(Bucket="bucket").get("Contents", [])
        ]

    until(lambda: keys() == ["a", "b"])


def test_no_worker_outlives_a_killed_server(local, tmp_path):
    marker = tmp_path / "marker"
    marker.touch()
    create(local, "open", "held = []\ndef handler(e, c): held.append(open(e))")
    invoke(local, "open", str(marker))

    def holders():
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if any(link.resolve() == marker for link in (entry / "fd").iterdir()):
                        found.append(entry.name)
                except OSError:
                    continue  # it has ended meanwhile
        return found

    assert holders()
    local.kill()
    until(lambda: not holders())


def test_what_is_not_there_is_refused_in_lambdas_words(shared_local):
    client = shared_local.client("lambda")

    def refused(call):
        with pytest.raises(ClientError) as caught:
            call()
        error = caught.value.response
        return error["ResponseMetadata"]["HTTPStatusCode"], error["Error"]["Code"], error["Error"]["Message"]

    status, code, message = refused(lambda: client.invoke(FunctionName="absent"))
    assert (status, code) == (404, "ResourceNotFoundException")
    assert message.startswith("Function not found: arn:aws:lambda:us-east-1:111111111111:function:absent")
    create(shared_local, "once", "def handler(e, c): ...")
    assert refused(lambda: create(shared_local, "once", ""))[:2] == (409, "ResourceConflictException")
    assert (
        refused(
            lambda: client.create_function(
                FunctionName="java", Role=ROLE, Runtime="java21", Handler="a.B", Code={"ZipFile": package("")}
            )
        )[1]
        == "InvalidParameterValueException"
    )
    assert refused(lambda: client.invoke(FunctionName="once", Payload=b"no json"))[1] == (
        "InvalidRequestContentException"
    )


def test_permissions_are_kept_and_listed(shared_local):
    client = shared_local.client("lambda")
    create(shared_local, "permitted", "def handler(e, c): ...")
    client.add_permission(
        FunctionName="permitted",
        StatementId="url",
        Action="lambda:InvokeFunctionUrl",
        Principal="*",
        FunctionUrlAuthType="NONE",
    )

    (statement,) = json.loads(client.get_policy(FunctionName="permitted")["Policy"])["Statement"]
    client.remove_permission(FunctionName="permitted", StatementId="url")

    assert statement == {
        "Sid": "url",
        "Effect": "Allow",
        "Principal": "*",
        "Action": "lambda:InvokeFunctionUrl",
        "Resource": "arn:aws:lambda:us-east-1:111111111111:function:permitted",
        "Condition": {"StringEquals": {"lambda:FunctionUrlAuthType": "NONE"}},
    }
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_policy(FunctionName="permitted")


URL = """
def handler(event, context):
    if event["rawPath"] == "/fails":
        raise ValueError
    if event["rawPath"] == "/plain":
        return {"just": "json"}
    return {
        "statusCode": 201,
        "headers": {"Content-Type": "text/plain", "X-Frame-Options": "DENY"},
        "cookies": ["a=1", "b=2"],
        "body": repr([
            event["requestContext"]["http"]["method"], event["rawPath"], event.get("queryStringParameters"),
            event.get("body"), event["isBase64Encoded"], event["headers"].get("x-given"),
            event.get("cookies"),
        ]),
    }
"""


def test_a_function_is_called_by_its_url(shared_local):
    create(shared_local, "url", URL)
    url = shared_local.client("lambda").create_function_url_config(FunctionName="url", AuthType="NONE")[
        "FunctionUrl"
    ]

    def call(path, **request):
        try:
            with urllib.request.urlopen(urllib.request.Request(url + path, **request)) as response:
                return response.status, response.headers, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read().decode()

    form = b"decision=approve"
    status, headers, body = call(
        "path?a=1&a=2", data=form, method="POST", headers={"X-Given": "here", "Cookie": "c=3; d=4"}
    )

    assert status == 201
    assert body == repr(
        [
            "POST",
            "/path",
            {"a": "1,2"},
            base64.b64encode(form).decode(),
            True,
            "here",
            ["c=3", "d=4"],
        ]
    )
    assert (headers["Content-Type"], headers["X-Frame-Options"]) == ("text/plain", "DENY")
    assert headers.get_all("Set-Cookie") == ["a=1", "b=2"]
    assert call("")[2] == repr(["GET", "/", None, None, False, None, None])
    assert call("plain")[0::2] == (200, '{"just": "json"}')
    assert call("fails")[0::2] == (502, "Internal Server Error")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{shared_local.endpoint_url}/_aws/lambda-url/absent/")
