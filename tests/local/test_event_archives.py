"""Archives, and replays of what they keep."""

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError

from stagegate.local.services import SERVICES

ACCOUNT = "arn:aws:events:us-east-1:111111111111"
NOON = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
PATIENCE = 30


def archive(runtime, name, on="default", **members):
    source = f"{ACCOUNT}:event-bus/{on}"
    answer = runtime.client("events").create_archive(ArchiveName=name, EventSourceArn=source, **members)
    return answer["ArchiveArn"]


def put(runtime, source, n, at=NOON):
    entry = {"Source": source, "DetailType": "t", "Detail": json.dumps({"n": n}), "Time": at}
    return runtime.client("events").put_events(Entries=[entry])["Entries"][0]["EventId"]


def heard(runtime, name, pattern):
    """The URL of a queue that a rule fills, and the rule's ARN."""
    sqs, events = runtime.client("sqs"), runtime.client("events")
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    rule = events.put_rule(Name=name, EventPattern=json.dumps(pattern))["RuleArn"]
    events.put_targets(Rule=name, Targets=[{"Id": "target", "Arn": arn}])
    return url, rule


def received(runtime, url, *, count):
    sqs, found = runtime.client("sqs"), []
    while len(found) < count:
        messages = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20, MaxNumberOfMessages=10)
        assert messages.get("Messages"), found
        found += [json.loads(message["Body"]) for message in messages["Messages"]]
    return found


def replay(runtime, name, source, *, start=NOON, end=NOON + timedelta(hours=1), **destination):
    return runtime.client("events").start_replay(
        ReplayName=name,
        EventSourceArn=source,
        EventStartTime=start,
        EventEndTime=end,
        Destination={"Arn": f"{ACCOUNT}:event-bus/default", **destination},
    )


def ended(runtime, name):
    """The replay, once it is neither starting nor running."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = runtime.client("events").describe_replay(ReplayName=name)
        if found["State"] not in ("STARTING", "RUNNING", "CANCELLING"):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def test_an_archive_is_created_described_changed_listed_and_deleted(shared_local):
    events = shared_local.client("events")
    pattern = '{"source": ["life"]}'

    arn = archive(shared_local, "life", Description="one", EventPattern=pattern, RetentionDays=7)
    put(shared_local, "life", 1, datetime.now(UTC))
    put(shared_local, "other", 2, datetime.now(UTC))
    described = events.describe_archive(ArchiveName="life")
    events.update_archive(ArchiveName="life", RetentionDays=8)
    listed = events.list_archives(NamePrefix="life")["Archives"]
    with pytest.raises(events.exceptions.ResourceAlreadyExistsException):
        archive(shared_local, "life")
    with pytest.raises(events.exceptions.InvalidEventPatternException):
        archive(shared_local, "bad", EventPattern='{"source": 1}')
    with pytest.raises(events.exceptions.ResourceNotFoundException):
        archive(shared_local, "bad", on="absent")
    events.delete_archive(ArchiveName="life")

    assert arn == described["ArchiveArn"] == f"{ACCOUNT}:archive/life"
    assert (described["Description"], described["EventPattern"]) == ("one", pattern)
    assert (described["State"], described["RetentionDays"], described["EventCount"]) == ("ENABLED", 7, 1)
    assert described["SizeBytes"] > 0
    assert [(found["ArchiveName"], found["RetentionDays"]) for found in listed] == [("life", 8)]
    with pytest.raises(events.exceptions.ResourceNotFoundException, match="Archive life does not exist"):
        events.describe_archive(ArchiveName="life")


def test_what_is_older_than_the_retention_is_gone(shared_local):
    archive(shared_local, "old", EventPattern='{"source": ["old"]}', RetentionDays=1)

    put(shared_local, "old", 1, datetime.now(UTC) - timedelta(days=2))
    put(shared_local, "old", 2, datetime.now(UTC))

    assert shared_local.client("events").describe_archive(ArchiveName="old")["EventCount"] == 1


def test_a_bus_with_an_archive_stays(shared_local):
    events = shared_local.client("events")
    events.create_event_bus(Name="archived")
    archive(shared_local, "of-a-bus", on="archived")

    with pytest.raises(ClientError, match="can't be deleted since it has rules"):
        events.delete_event_bus(Name="archived")


def test_a_replay_sends_the_events_of_its_times_again_with_its_name(shared_local):
    source = archive(shared_local, "again", EventPattern='{"source": ["again"]}')
    ids = {n: put(shared_local, "again", n, NOON + timedelta(minutes=30 * n)) for n in (2, 1, 0)}
    url, _ = heard(shared_local, "again", {"source": ["again"]})

    started = replay(shared_local, "again-1", source)
    found = received(shared_local, url, count=2)
    done = ended(shared_local, "again-1")

    assert started["State"] == "STARTING"
    assert {(event["detail"]["n"], event["id"], event["replay-name"]) for event in found} == {
        (0, ids[0], "again-1"),
        (1, ids[1], "again-1"),
    }
    assert done["State"] == "COMPLETED"
    assert done["EventLastReplayedTime"] == NOON + timedelta(minutes=30)
    assert shared_local.client("events").describe_archive(ArchiveName="again")["EventCount"] == 3


def test_a_replay_goes_to_the_rules_that_it_names(shared_local):
    source = archive(shared_local, "named", EventPattern='{"source": ["named"]}')
    put(shared_local, "named", 1)
    wanted, arn = heard(shared_local, "wanted", {"source": ["named"]})
    unwanted, _ = heard(shared_local, "unwanted", {"source": ["named"]})

    replay(shared_local, "named-1", source, FilterArns=[arn])
    ended(shared_local, "named-1")
    put(shared_local, "named", 2)

    assert sorted(event["detail"]["n"] for event in received(shared_local, wanted, count=2)) == [1, 2]
    assert [event["detail"]["n"] for event in received(shared_local, unwanted, count=1)] == [2]


def test_a_replay_goes_on_after_a_kill(local):
    source = archive(local, "killed", EventPattern='{"source": ["killed"]}')
    for n in range(40):
        put(local, "killed", n, NOON + timedelta(seconds=n))
    url, _ = heard(local, "killed", {"source": ["killed"]})
    replay(local, "killed-1", source)

    local.restart()

    assert ended(local, "killed-1")["State"] == "COMPLETED"
    assert {event["detail"]["n"] for event in received(local, url, count=40)} == set(range(40))


def test_what_cannot_be_replayed_is_refused(shared_local):
    events = shared_local.client("events")
    events.create_event_bus(Name="elsewhere")
    source, other = archive(shared_local, "here"), archive(shared_local, "there", on="elsewhere")
    replay(shared_local, "taken", source)
    ended(shared_local, "taken")

    with pytest.raises(events.exceptions.ResourceAlreadyExistsException, match="Replay taken already"):
        replay(shared_local, "taken", source)
    with pytest.raises(ClientError, match="Cross event bus replay is not permitted"):
        replay(shared_local, "r", other)
    with pytest.raises(ClientError, match="EventStartTime must be before EventEndTime"):
        replay(shared_local, "r", source, end=NOON)
    with pytest.raises(ClientError, match="Must contain an archive ARN"):
        replay(shared_local, "r", f"{ACCOUNT}:event-bus/default")
    with pytest.raises(events.exceptions.ResourceNotFoundException, match="Archive absent does not exist"):
        replay(shared_local, "r", f"{ACCOUNT}:archive/absent")
    with pytest.raises(events.exceptions.IllegalStatusException):
        events.cancel_replay(ReplayName="taken")
    with pytest.raises(events.exceptions.ResourceNotFoundException):
        events.cancel_replay(ReplayName="absent")
    assert [found["State"] for found in events.list_replays(NamePrefix="taken")["Replays"]] == ["COMPLETED"]


def test_a_replay_that_is_cancelled_sends_no_more(open_endpoint):
    async def cancelled():
        async with open_endpoint({"events": SERVICES["events"]}) as endpoint:
            bus = f"{ACCOUNT}:event-bus/default"

            async def call(operation, **members):
                return await endpoint.aws("events", operation, members)

            source = (await call("CreateArchive", ArchiveName="a", EventSourceArn=bus))["ArchiveArn"]
            entry = {"Source": "s", "DetailType": "t", "Detail": "{}", "Time": NOON}
            await call("PutEvents", Entries=[entry] * 10)
            await call(
                "StartReplay",
                ReplayName="r",
                EventSourceArn=source,
                EventStartTime=NOON,
                EventEndTime=NOON + timedelta(hours=1),
                Destination={"Arn": bus},
            )
            answer = await call("CancelReplay", ReplayName="r")
            while (replay := await call("DescribeReplay", ReplayName="r"))["State"] == "CANCELLING":
                await endpoint.runtime.store.committed()
                await asyncio.sleep(0)
            return answer, replay

    answer, replay = asyncio.run(cancelled())

    assert answer["State"] == "CANCELLING"
    assert replay["State"] == "CANCELLED"
    assert "EventLastReplayedTime" not in replay
