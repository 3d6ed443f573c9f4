"""Buses beside the default one: their life, their rules, and events that go from bus to bus."""

import json

import pytest
from botocore.exceptions import ClientError

ACCOUNT = "arn:aws:events:us-east-1:111111111111"


def bus(runtime, name, **members):
    return runtime.client("events").create_event_bus(Name=name, **members)["EventBusArn"]


def queue(runtime, name):
    sqs = runtime.client("sqs")
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    return url, sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]


def rule(runtime, name, on, target, **members):
    events = runtime.client("events")
    arn = events.put_rule(Name=name, EventBusName=on, EventPattern='{"source": ["test"]}', **members)
    events.put_targets(Rule=name, EventBusName=on, Targets=[{"Id": "target", "Arn": target}])
    return arn["RuleArn"]


def put(runtime, n, on):
    entry = {"Source": "test", "DetailType": "t", "Detail": json.dumps({"n": n}), "EventBusName": on}
    return runtime.client("events").put_events(Entries=[entry])["Entries"][0]


def received(runtime, url, *, count):
    """The numbers of the events in the queue, once there are `count`."""
    sqs, numbers = runtime.client("sqs"), []
    while len(numbers) < count:
        messages = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20, MaxNumberOfMessages=10)
        assert messages.get("Messages"), numbers
        numbers += [json.loads(message["Body"])["detail"]["n"] for message in messages["Messages"]]
    return sorted(numbers)


def test_a_bus_is_created_described_changed_listed_and_deleted(shared_local):
    events = shared_local.client("events")

    arn = bus(shared_local, "life", Description="one", Tags=[{"Key": "a", "Value": "1"}])
    described = events.describe_event_bus(Name="life")
    changed = events.update_event_bus(Name="life", Description="two", DeadLetterConfig={"Arn": "arn:q"})
    listed = [found["Name"] for found in events.list_event_buses(NamePrefix="li")["EventBuses"]]
    tags = events.list_tags_for_resource(ResourceARN=arn)["Tags"]
    with pytest.raises(events.exceptions.ResourceAlreadyExistsException):
        bus(shared_local, "life")
    events.delete_event_bus(Name="life")
    events.delete_event_bus(Name="life")

    assert arn == f"{ACCOUNT}:event-bus/life"
    assert (described["Name"], described["Arn"], described["Description"]) == ("life", arn, "one")
    assert described["CreationTime"] == described["LastModifiedTime"]
    assert (changed["Arn"], changed["Description"], changed["DeadLetterConfig"]) == (
        arn,
        "two",
        {"Arn": "arn:q"},
    )
    assert listed == ["life"]
    assert tags == [{"Key": "a", "Value": "1"}]
    with pytest.raises(events.exceptions.ResourceNotFoundException, match="Event bus life does not exist"):
        events.describe_event_bus(Name="life")


def test_the_default_bus_is_there_always(shared_local):
    events = shared_local.client("events")

    assert events.describe_event_bus()["Arn"] == f"{ACCOUNT}:event-bus/default"
    assert events.list_event_buses(NamePrefix="def")["EventBuses"][0]["Name"] == "default"
    with pytest.raises(ClientError, match="Cannot delete event bus default"):
        events.delete_event_bus(Name="default")
    with pytest.raises(events.exceptions.ResourceAlreadyExistsException):
        bus(shared_local, "default")
    with pytest.raises(ClientError, match="should have 1 to 256"):
        bus(shared_local, "a/b")


def test_a_rule_hears_its_own_bus_only(shared_local):
    arn = bus(shared_local, "own")
    own, other = queue(shared_local, "own"), queue(shared_local, "other")
    rule_arn = rule(shared_local, "same-name", "own", own[1])
    rule(shared_local, "same-name", "default", other[1])

    put(shared_local, 1, "own")
    put(shared_local, 2, arn)
    put(shared_local, 3, "default")

    assert rule_arn == f"{ACCOUNT}:rule/own/same-name"
    assert received(shared_local, own[0], count=2) == [1, 2]
    assert received(shared_local, other[0], count=1) == [3]
    assert put(shared_local, 4, "absent")["ErrorCode"] == "InvalidArgument"


def test_rules_are_listed_by_bus_and_keep_it(shared_local):
    events = shared_local.client("events")
    bus(shared_local, "kept")
    _, target = queue(shared_local, "kept")
    arn = rule(shared_local, "kept-rule", "kept", target)

    events.tag_resource(ResourceARN=arn, Tags=[{"Key": "a", "Value": "1"}])
    with pytest.raises(ClientError, match="can't be deleted since it has rules"):
        events.delete_event_bus(Name="kept")
    with pytest.raises(ClientError, match="only on the default event bus"):
        events.put_rule(Name="clock", EventBusName="kept", ScheduleExpression="rate(1 minute)")

    assert [it["Name"] for it in events.list_rules(EventBusName="kept")["Rules"]] == ["kept-rule"]
    assert events.list_rules(NamePrefix="kept-rule")["Rules"] == []
    assert events.describe_rule(Name="kept-rule", EventBusName="kept")["EventBusName"] == "kept"
    assert events.list_rule_names_by_target(TargetArn=target, EventBusName="kept")["RuleNames"] == [
        "kept-rule"
    ]
    assert events.list_tags_for_resource(ResourceARN=arn)["Tags"] == [{"Key": "a", "Value": "1"}]
    with pytest.raises(
        events.exceptions.ResourceNotFoundException, match="kept-rule does not exist on EventBus default"
    ):
        events.describe_rule(Name="kept-rule")
    events.remove_targets(Rule="kept-rule", EventBusName="kept", Ids=["target"])
    events.delete_rule(Name="kept-rule", EventBusName="kept")
    events.delete_event_bus(Name="kept")


def test_an_event_is_sent_on_to_a_bus_and_not_in_circles(local):
    first, second = bus(local, "first"), bus(local, "second")
    at_first, at_second = queue(local, "at-first"), queue(local, "at-second")
    rule(local, "there", "first", second)
    rule(local, "back", "second", first)
    rule(local, "seen-first", "first", at_first[1])
    rule(local, "seen-second", "second", at_second[1])

    put(local, 1, "first")
    assert received(local, at_second[0], count=1) == [1]
    put(local, 2, "second")

    assert received(local, at_first[0], count=2) == [1, 2]
    assert received(local, at_second[0], count=1) == [2]


def test_what_a_bus_takes_not_as_a_target_is_refused(shared_local):
    events = shared_local.client("events")
    arn, other = bus(shared_local, "itself"), bus(shared_local, "another")
    events.put_rule(Name="r", EventBusName="itself", EventPattern='{"source": ["x"]}')

    def targets(**target):
        events.put_targets(Rule="r", EventBusName="itself", Targets=[{"Id": "t", **target}])

    with pytest.raises(ClientError, match="can't be its target"):
        targets(Arn=arn)
    with pytest.raises(ClientError, match="takes no Input"):
        targets(Arn=other, Input="{}")
    with pytest.raises(events.exceptions.ResourceNotFoundException):
        targets(Arn=f"{ACCOUNT}:event-bus/absent")
    with pytest.raises(events.exceptions.ResourceNotFoundException):
        targets(Arn="arn:aws:events:eu-west-1:111111111111:event-bus/another")


def test_permissions_are_recorded_in_the_policy_of_the_bus(shared_local):
    events = shared_local.client("events")
    arn = bus(shared_local, "allowed")
    organization = {"Type": "StringEquals", "Key": "aws:PrincipalOrgID", "Value": "o-1"}

    def policy():
        return events.describe_event_bus(Name="allowed").get("Policy")

    for sid, principal, more in (("one", "222222222222", {}), ("all", "*", {"Condition": organization})):
        events.put_permission(
            EventBusName="allowed", StatementId=sid, Principal=principal, Action="events:PutEvents", **more
        )
    both = json.loads(policy())["Statement"]
    events.remove_permission(EventBusName="allowed", StatementId="one")
    left = json.loads(policy())["Statement"]
    with pytest.raises(events.exceptions.ResourceNotFoundException):
        events.remove_permission(EventBusName="allowed", StatementId="one")
    events.remove_permission(EventBusName="allowed", RemoveAllPermissions=True)

    one = {
        "Sid": "one",
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::222222222222:root"},
        "Action": "events:PutEvents",
        "Resource": arn,
    }
    everyone = {
        **one,
        "Sid": "all",
        "Principal": "*",
        "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-1"}},
    }
    assert (both, left, policy()) == ([one, everyone], [everyone], None)
    events.put_permission(EventBusName="allowed", Policy='{"Statement": []}')
    assert policy() == '{"Statement": []}'
    with pytest.raises(events.exceptions.PolicyLengthExceededException):
        events.put_permission(EventBusName="allowed", Policy=json.dumps("x" * 10_240))
    with pytest.raises(ClientError, match="must be specified"):
        events.put_permission(EventBusName="allowed", StatementId="x")
