"""Objects that come and go are events, where their bucket sends them."""

import json
import time
import uuid

import pytest

ACCOUNT = "111111111111"


@pytest.fixture
def name():
    return f"b-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def s3(shared_local, name):
    client = shared_local.client("s3")
    client.create_bucket(Bucket=name)
    return client


@pytest.fixture
def queue(shared_local, name, s3):
    """A queue that gets the events of the bucket."""
    s3.put_bucket_notification_configuration(
        Bucket=name, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    url = shared_local.client("sqs").create_queue(QueueName=name)["QueueUrl"]
    events = shared_local.client("events")
    pattern = {"source": ["aws.s3"], "detail": {"bucket": {"name": [name]}}}
    events.put_rule(Name=name, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:{name}"}])
    return url


def received(runtime, queue, count):
    sqs, events, deadline = runtime.client("sqs"), [], time.monotonic() + 30
    while len(events) < count:
        assert time.monotonic() < deadline, events
        answer = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=2)
        events += [json.loads(message["Body"]) for message in answer.get("Messages", ())]
    return sorted(events, key=lambda event: event["detail"]["object"]["sequencer"])


def test_an_object_that_is_made_is_an_event(shared_local, name, s3, queue):
    etag = s3.put_object(Bucket=name, Key="datasets/ä b.zip", Body=b"twelve bytes")["ETag"]

    (event,) = received(shared_local, queue, 1)

    assert event["detail-type"] == "Object Created"
    assert event["resources"] == [f"arn:aws:s3:::{name}"]
    detail = event["detail"]
    assert detail["object"] == {
        "key": "datasets/ä b.zip",
        "size": 12,
        "etag": etag.strip('"'),
        "sequencer": detail["object"]["sequencer"],
    }
    assert (detail["bucket"], detail["reason"]) == ({"name": name}, "PutObject")
    assert (detail["requester"], detail["version"]) == (ACCOUNT, "0")


def test_copies_and_uploads_in_parts_are_events_too(shared_local, name, s3, queue):
    s3.put_object(Bucket=name, Key="first", Body=b"1")
    s3.copy_object(Bucket=name, Key="second", CopySource=f"{name}/first")
    upload = {"Bucket": name, "Key": "third"}
    upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
    part = s3.upload_part(**upload, PartNumber=1, Body=b"3" * 20)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(**upload, MultipartUpload=parts)

    events = received(shared_local, queue, 3)

    assert [(it["detail"]["object"]["key"], it["detail"]["reason"]) for it in events] == [
        ("first", "PutObject"),
        ("second", "CopyObject"),
        ("third", "CompleteMultipartUpload"),
    ]
    assert events[2]["detail"]["object"]["size"] == 20


def test_what_is_deleted_is_an_event_which_says_how(shared_local, name, s3, queue):
    s3.put_object(Bucket=name, Key="first", Body=b"1")
    s3.put_object(Bucket=name, Key="second", Body=b"2")
    s3.delete_object(Bucket=name, Key="first")
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    s3.delete_objects(Bucket=name, Delete={"Objects": [{"Key": "second"}]})

    gone, marked = received(shared_local, queue, 4)[2:]

    assert (gone["detail-type"], gone["detail"]["object"]["key"]) == ("Object Deleted", "first")
    assert (gone["detail"]["deletion-type"], gone["detail"]["reason"]) == (
        "Permanently Deleted",
        "DeleteObject",
    )
    assert (marked["detail"]["object"]["key"], marked["detail"]["deletion-type"]) == (
        "second",
        "Delete Marker Created",
    )
    assert marked["detail"]["object"]["version-id"]


def test_a_version_is_named(shared_local, name, s3, queue):
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    version = s3.put_object(Bucket=name, Key="first", Body=b"1")["VersionId"]

    (event,) = received(shared_local, queue, 1)

    assert event["detail"]["object"]["version-id"] == version


def test_a_bucket_says_that_it_sends_events_and_one_that_does_not_sends_none(shared_local, name, s3, queue):
    told = s3.get_bucket_notification_configuration(Bucket=name)
    s3.put_bucket_notification_configuration(Bucket=name, NotificationConfiguration={})
    s3.put_object(Bucket=name, Key="silent", Body=b"1")
    s3.put_bucket_notification_configuration(
        Bucket=name, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    s3.put_object(Bucket=name, Key="told", Body=b"1")

    (event,) = received(shared_local, queue, 1)

    assert told["EventBridgeConfiguration"] == {}
    assert event["detail"]["object"]["key"] == "told"
