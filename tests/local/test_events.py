"""Rules and their targets on the real runtime; schedules and transformers by themselves."""

import json
import time
from datetime import UTC, datetime

import pytest
from botocore.exceptions import ClientError

from stagegate.local.event_targets import transformed
from stagegate.local.events import _next_time
from stagegate.local.service import AWSError

PASS = json.dumps({"StartAt": "A", "States": {"A": {"Type": "Pass", "End": True}}})
ROLE = "arn:aws:iam::111111111111:role/events"
PATIENCE = 30


def machine(runtime, name):
    return runtime.client("stepfunctions").create_state_machine(name=name, definition=PASS, roleArn=ROLE)[
        "stateMachineArn"
    ]


def rule(runtime, name, pattern, target, **members):
    events = runtime.client("events")
    events.put_rule(Name=name, EventPattern=json.dumps(pattern), **members)
    events.put_targets(Rule=name, Targets=[{"Id": "target", **target}])


def put(runtime, source, detail):
    entry = {"Source": source, "DetailType": "test", "Detail": json.dumps(detail)}
    return runtime.client("events").put_events(Entries=[entry])["Entries"][0]


def executions(runtime, arn, *, count):
    """The inputs of the executions of a state machine, once there are `count`."""
    states = runtime.client("stepfunctions")
    deadline = time.monotonic() + PATIENCE
    while len(found := states.list_executions(stateMachineArn=arn)["executions"]) < count:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return [
        json.loads(states.describe_execution(executionArn=execution["executionArn"])["input"])
        for execution in found
    ]


def test_an_event_starts_a_state_machine_with_the_event_as_its_input(shared_local):
    arn = machine(shared_local, "whole")
    rule(shared_local, "whole", {"source": ["whole"], "detail": {"n": [1]}}, {"Arn": arn, "RoleArn": ROLE})

    put(shared_local, "whole", {"n": 2})
    event_id = put(shared_local, "whole", {"n": 1})["EventId"]

    (event,) = executions(shared_local, arn, count=1)
    assert event.pop("time")
    assert event == {
        "version": "0",
        "id": event_id,
        "detail-type": "test",
        "source": "whole",
        "account": "111111111111",
        "region": "us-east-1",
        "resources": [],
        "detail": {"n": 1},
    }


@pytest.mark.parametrize(
    ("name", "target", "expected"),
    [
        ("input", {"Input": '{"fixed": true}'}, {"fixed": True}),
        ("path", {"InputPath": "$.detail.inner"}, {"a": [1, 2]}),
        (
            "transformer",
            {
                "InputTransformer": {
                    "InputPathsMap": {"inner": "$.detail.inner", "second": "$.detail.inner.a[1]"},
                    "InputTemplate": '{"all": <inner>, "text": "second is <second>"}',
                }
            },
            {"all": {"a": [1, 2]}, "text": "second is 2"},
        ),
    ],
)
def test_a_target_gets_what_the_rule_makes_of_the_event(shared_local, name, target, expected):
    arn = machine(shared_local, name)
    rule(shared_local, name, {"source": [name]}, {"Arn": arn, "RoleArn": ROLE, **target})

    put(shared_local, name, {"inner": {"a": [1, 2]}})

    assert executions(shared_local, arn, count=1) == [expected]


def test_a_queue_gets_the_event_and_a_disabled_rule_is_silent(shared_local):
    sqs = shared_local.client("sqs")
    url = sqs.create_queue(QueueName="queue")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    rule(shared_local, "silent", {"source": ["queue"]}, {"Arn": arn, "Input": "silent"}, State="DISABLED")
    rule(shared_local, "loud", {"source": ["queue"]}, {"Arn": arn, "InputPath": "$.detail"})

    put(shared_local, "queue", {"n": 1})

    messages = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20, MaxNumberOfMessages=10)["Messages"]
    assert [message["Body"] for message in messages] == ['{"n": 1}']
    states = {found["Name"]: found["State"] for found in shared_local.client("events").list_rules()["Rules"]}
    assert (states["silent"], states["loud"]) == ("DISABLED", "ENABLED")


@pytest.mark.parametrize(
    ("name", "target", "message", "timestamp"),
    [
        ("whole", {"InputPath": "$.detail"}, '{"n": 1}', None),
        (
            "made",
            {
                "InputTransformer": {
                    "InputPathsMap": {"n": "$.detail.n"},
                    "InputTemplate": '{"timestamp": "2026-11-26T12:00:00Z", "message": "n is <n>"}',
                }
            },
            "n is 1",
            1795694400000,
        ),
        (
            "object",
            {
                "InputTransformer": {
                    "InputPathsMap": {"detail": "$.detail"},
                    "InputTemplate": '{"timestamp": 1795694400000, "message": <detail>}',
                }
            },
            '{"n": 1}',
            1795694400000,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isalpha() else "",
)
def test_a_log_group_gets_the_event(shared_local, name, target, message, timestamp):
    logs, group = shared_local.client("logs"), f"/aws/events/{name}"
    logs.create_log_group(logGroupName=group)
    arn = f"arn:aws:logs:us-east-1:111111111111:log-group:{group}"
    rule(shared_local, f"logs-{name}", {"source": [f"logs-{name}"]}, {"Arn": arn, **target})

    put(shared_local, f"logs-{name}", {"n": 1})

    deadline = time.monotonic() + PATIENCE
    while not (events := logs.filter_log_events(logGroupName=group)["events"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (event,) = events
    assert event["message"] == message
    assert timestamp in (None, event["timestamp"])


def test_a_log_group_that_is_not_there_takes_nothing(shared_local):
    queue = shared_local.client("sqs").create_queue(QueueName="dead-logs")["QueueUrl"]
    dead = "arn:aws:sqs:us-east-1:111111111111:dead-logs"
    target = {
        "Arn": "arn:aws:logs:us-east-1:111111111111:log-group:/aws/events/absent:*",
        "DeadLetterConfig": {"Arn": dead},
    }
    rule(shared_local, "dead-logs", {"source": ["dead-logs"]}, target)

    put(shared_local, "dead-logs", {"n": 1})

    (message,) = shared_local.client("sqs").receive_message(
        QueueUrl=queue, WaitTimeSeconds=20, MessageAttributeNames=["All"]
    )["Messages"]
    assert message["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "ResourceNotFoundException"


def test_what_no_target_takes_goes_to_the_dead_letter_queue(shared_local):
    sqs = shared_local.client("sqs")
    url = sqs.create_queue(QueueName="dead")["QueueUrl"]
    dead = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    absent = "arn:aws:states:us-east-1:111111111111:stateMachine:absent"
    rule(
        shared_local,
        "dead",
        {"source": ["dead"]},
        {"Arn": absent, "RoleArn": ROLE, "Input": "{}", "DeadLetterConfig": {"Arn": dead}},
    )

    put(shared_local, "dead", {})

    (message,) = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20, MessageAttributeNames=["All"])[
        "Messages"
    ]
    assert message["Body"] == "{}"
    attributes = {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}
    assert attributes["ERROR_CODE"] == "StateMachineDoesNotExist"
    assert attributes["TARGET_ARN"] == absent


def test_a_delivery_survives_a_killed_server(local):
    arn = machine(local, "survives")
    rule(local, "survives", {"source": ["survives"]}, {"Arn": arn, "RoleArn": ROLE, "InputPath": "$.detail"})
    for n in range(20):
        put(local, "survives", {"n": n})

    local.restart()

    inputs = executions(local, arn, count=20)
    assert sorted(found["n"] for found in inputs) == list(range(20))


def test_events_in_the_name_of_aws_and_malformed_ones_are_refused(shared_local):
    entries = [
        {"Source": "aws.s3", "DetailType": "x", "Detail": "{}"},
        {"Source": "x", "DetailType": "x", "Detail": "no json"},
        {"Source": "x", "DetailType": "x", "Detail": "{}"},
    ]

    answer = shared_local.client("events").put_events(Entries=entries)

    assert answer["FailedEntryCount"] == 2
    codes = [entry.get("ErrorCode") for entry in answer["Entries"]]
    assert codes == ["NotAuthorizedForSourceException", "MalformedDetail", None]


def test_rules_are_described_listed_and_deleted_without_their_targets_only(shared_local):
    events = shared_local.client("events")
    arn = machine(shared_local, "life")
    rule(shared_local, "life", {"source": ["life"]}, {"Arn": arn, "RoleArn": ROLE}, Description="a rule")

    described = events.describe_rule(Name="life")
    with pytest.raises(ClientError, match="has targets"):
        events.delete_rule(Name="life")
    names = events.list_rule_names_by_target(TargetArn=arn)["RuleNames"]
    targets = events.list_targets_by_rule(Rule="life")["Targets"]
    events.remove_targets(Rule="life", Ids=["target"])
    events.delete_rule(Name="life")

    assert described["Description"] == "a rule"
    assert json.loads(described["EventPattern"]) == {"source": ["life"]}
    assert names == ["life"]
    assert targets == [{"Id": "target", "Arn": arn, "RoleArn": ROLE}]
    with pytest.raises(events.exceptions.ResourceNotFoundException, match="Rule life does not exist"):
        events.describe_rule(Name="life")


def test_a_pattern_can_be_tried(shared_local):
    events = shared_local.client("events")
    event = {
        "id": "1",
        "account": "0",
        "source": "a",
        "time": "2026-01-01T00:00:00Z",
        "region": "r",
        "detail-type": "t",
        "resources": [],
        "detail": {},
    }

    def result(pattern):
        return events.test_event_pattern(EventPattern=json.dumps(pattern), Event=json.dumps(event))["Result"]

    assert result({"source": ["a"]}) is True
    assert result({"source": ["b"]}) is False
    with pytest.raises(events.exceptions.InvalidEventPatternException, match='"source" must be an object'):
        result({"source": "a"})
    with pytest.raises(events.exceptions.InvalidEventPatternException):
        events.test_event_pattern(EventPattern="{", Event=json.dumps(event))
    with pytest.raises(ClientError, match="Event is not valid"):
        events.test_event_pattern(EventPattern='{"source": ["a"]}', Event="{")
    del event["resources"]
    with pytest.raises(ClientError, match="resources missing"):
        result({"source": ["a"]})


AT = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "due"),
    [
        ("rate(5 minutes)", datetime(2026, 11, 23, 9, 35, tzinfo=UTC)),
        ("rate(1 hour)", datetime(2026, 11, 23, 10, 30, tzinfo=UTC)),
        ("cron(0 12 * * ? *)", datetime(2026, 11, 23, 12, 0, tzinfo=UTC)),
        ("cron(0 8 ? * 2 *)", datetime(2026, 11, 30, 8, 0, tzinfo=UTC)),  # Monday is 2
        ("cron(0/15 * * * ? *)", datetime(2026, 11, 23, 9, 45, tzinfo=UTC)),
    ],
)
def test_a_schedule_is_due(expression, due):
    assert _next_time(expression, AT) == due


@pytest.mark.parametrize(
    "expression", ["rate(0 minutes)", "rate(1 minutes)", "rate(2 hour)", "cron(* * * * * *)", "at(now)", "x"]
)
def test_what_is_no_schedule_is_refused(expression):
    with pytest.raises(AWSError, match="ScheduleExpression is not valid"):
        _next_time(expression, AT)


def test_a_variable_is_text_within_quotes_and_json_outside():
    transformer = {
        "InputPathsMap": {"name": "$.detail.name", "none": "$.detail.none", "object": "$.detail.object"},
        "InputTemplate": (
            '{"in": "<name>!", "out": <name>, "object": <object>, "rule": "<aws.events.rule-name>"}'
        ),
    }
    event = {"time": "t", "detail": {"name": 'say "hi"', "object": {"a": 1}}}

    text = transformed(transformer, event, rule_arn="arn", rule_name="rule")

    assert json.loads(text) == {"in": 'say "hi"!', "out": 'say "hi"', "object": {"a": 1}, "rule": "rule"}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ('"<none> is nothing"', '" is nothing"'),
        ("<aws.events.rule-arn>", '"arn"'),
        ('"<aws.events.event.ingestion-time>"', '"t"'),
        ("<aws.events.event>", '{"time": "t", "id": "1"}'),
        ("<aws.events.event.json>", '{"time": "t", "id": "1", "detail": {"list": [1, {"a": "b"}]}}'),
        ("<deep>", '"b"'),
        ('"of <list>"', '"of [1, {\\"a\\": \\"b\\"}]"'),
        ("<unknown>", "<unknown>"),
        ("plain text, <deep>", 'plain text, "b"'),
    ],
)
def test_a_template_has_the_variables_that_aws_gives_it(template, expected):
    transformer = {
        "InputPathsMap": {"none": "$.detail.none", "list": "$.detail.list", "deep": "$.detail.list[1].a"},
        "InputTemplate": template,
    }
    event = {"time": "t", "id": "1", "detail": {"list": [1, {"a": "b"}]}}

    assert transformed(transformer, event, rule_arn="arn", rule_name="rule") == expected
