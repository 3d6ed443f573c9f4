"""Messages of a queue that are brought to a function, on the real runtime."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.conftest import Local
from tests.local.test_functions import create, until

TAKE = """
import json, os, boto3

def handler(event, context):
    records = event["Records"]
    boto3.client("sqs").send_message(QueueUrl=os.environ["SEEN"], MessageBody=json.dumps(records))
    {then}
"""
FAIL = 'if records[0]["attributes"]["ApproximateReceiveCount"] == "1": raise ValueError'
REPORT = (
    'return {"batchItemFailures": [{"itemIdentifier": it["messageId"]} for it in records '
    'if it["body"] == "bad" and it["attributes"]["ApproximateReceiveCount"] == "1"]}'
)


class Mapped:
    """A queue whose messages go to a function, which sends what it was given to another queue."""

    def __init__(self, local: Local, name: str, then: str = "return None", **members: Any) -> None:
        self.sqs, self.functions = local.client("sqs"), local.client("lambda")
        given = {"VisibilityTimeout": "3"}
        self.queue = self.sqs.create_queue(QueueName=f"{name}-in", Attributes=given)["QueueUrl"]
        self.seen = self.sqs.create_queue(QueueName=f"{name}-out")["QueueUrl"]
        environment = {"Variables": {"SEEN": self.seen}}
        create(local, name, TAKE.format(then=then), Environment=environment, Timeout=3)
        self.arn = f"arn:aws:sqs:us-east-1:111111111111:{name}-in"
        self.mapping = self.functions.create_event_source_mapping(
            EventSourceArn=self.arn, FunctionName=name, **members
        )

    def send(self, *bodies: str) -> None:
        entries = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies)]
        self.sqs.send_message_batch(QueueUrl=self.queue, Entries=entries)

    def given(self) -> list[dict[str, Any]]:
        """The records of the function's next invocation."""
        message = until(
            lambda: self.sqs.receive_message(QueueUrl=self.seen, WaitTimeSeconds=1).get("Messages")
        )[0]
        self.sqs.delete_message(QueueUrl=self.seen, ReceiptHandle=message["ReceiptHandle"])
        records: list[dict[str, Any]] = json.loads(message["Body"])
        return records

    def left(self) -> tuple[int, int]:
        """How many messages wait, and how many are with the function."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=names)["Attributes"]
        return int(answer[names[0]]), int(answer[names[1]])

    def described(self) -> dict[str, Any]:
        found: dict[str, Any] = self.functions.get_event_source_mapping(UUID=self.mapping["UUID"])
        return found


def test_a_message_reaches_the_function_as_lambda_gives_it_and_is_taken_away(shared_local: Local) -> None:
    mapped = Mapped(shared_local, "plain")
    sent = mapped.sqs.send_message(
        QueueUrl=mapped.queue,
        MessageBody="hello",
        MessageAttributes={"colour": {"DataType": "String", "StringValue": "red"}},
    )

    (record,) = mapped.given()
    until(lambda: mapped.left() == (0, 0))
    until(lambda: mapped.described()["LastProcessingResult"] == "OK")

    assert record["messageId"] == sent["MessageId"]
    assert record["receiptHandle"]
    assert record["attributes"]["ApproximateReceiveCount"] == "1"
    assert {name: record[name] for name in ("body", "md5OfBody", "eventSource", "eventSourceARN")} == {
        "body": "hello",
        "md5OfBody": sent["MD5OfMessageBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": mapped.arn,
    }
    assert record["messageAttributes"] == {
        "colour": {
            "stringValue": "red", "stringListValues": [], "binaryListValues": [], "dataType": "String",
        }
    }  # fmt: skip
    assert (mapped.mapping["State"], mapped.described()["State"]) == ("Creating", "Enabled")


def test_a_batch_that_fails_comes_again(shared_local: Local) -> None:
    mapped = Mapped(shared_local, "failing", FAIL)
    mapped.send("bad")

    first = mapped.given()
    until(lambda: mapped.described()["LastProcessingResult"] == "PROBLEM: Function call failed")
    second = mapped.given()
    until(lambda: mapped.left() == (0, 0))

    assert first[0]["messageId"] == second[0]["messageId"]
    assert second[0]["attributes"]["ApproximateReceiveCount"] == "2"


def test_only_what_the_function_reports_comes_again(shared_local: Local) -> None:
    mapped = Mapped(
        shared_local,
        "reporting",
        REPORT,
        FunctionResponseTypes=["ReportBatchItemFailures"],
        BatchSize=3,
        MaximumBatchingWindowInSeconds=20,
    )
    mapped.send("good", "bad", "fine")

    first = mapped.given()
    until(lambda: mapped.left() == (0, 1))
    mapped.functions.update_event_source_mapping(
        UUID=mapped.mapping["UUID"], MaximumBatchingWindowInSeconds=0
    )
    second = mapped.given()

    assert sorted(record["body"] for record in first) == ["bad", "fine", "good"]
    assert [record["body"] for record in second] == ["bad"]


def test_what_no_filter_lets_through_is_taken_away_unseen(shared_local: Local) -> None:
    pattern = json.dumps({"body": {"kind": ["wanted"]}})
    mapped = Mapped(shared_local, "filtering", FilterCriteria={"Filters": [{"Pattern": pattern}]})
    mapped.send(json.dumps({"kind": "other"}), "no JSON", json.dumps({"kind": "wanted"}))

    (record,) = mapped.given()
    until(lambda: mapped.left() == (0, 0))

    assert json.loads(record["body"]) == {"kind": "wanted"}


def test_a_mapping_rests_while_it_is_disabled_and_goes_when_it_is_deleted(shared_local: Local) -> None:
    mapped = Mapped(shared_local, "resting", Enabled=False)
    mapped.send("waits")
    assert (mapped.described()["State"], mapped.left()) == ("Disabled", (1, 0))

    mapped.functions.update_event_source_mapping(UUID=mapped.mapping["UUID"], Enabled=True)
    (record,) = mapped.given()
    listed = mapped.functions.list_event_source_mappings(FunctionName="resting")["EventSourceMappings"]
    deleted = mapped.functions.delete_event_source_mapping(UUID=mapped.mapping["UUID"])

    assert record["body"] == "waits"
    assert [it["UUID"] for it in listed] == [mapped.mapping["UUID"]]
    assert deleted["State"] == "Deleting"
    with pytest.raises(ClientError, match="The resource you requested does not exist"):
        mapped.described()


def test_messages_are_brought_after_a_crash_too(local: Local) -> None:
    mapped = Mapped(local, "durable")
    local.kill()
    local.start()

    mapped.send("after")

    assert [record["body"] for record in mapped.given()] == ["after"]


@pytest.mark.parametrize(
    ("members", "code", "said"),
    [
        (
            {"EventSourceArn": "arn:aws:kinesis:us-east-1:111111111111:stream/x"},
            "InvalidParameterValue",
            "Unrecognized",
        ),
        (
            {"EventSourceArn": "arn:aws:sqs:us-east-1:111111111111:none"},
            "InvalidParameterValue",
            "NonExistent",
        ),
        ({"FunctionName": "nowhere"}, "ResourceNotFound", "Function not found"),
        ({"BatchSize": 11}, "InvalidParameterValue", "Maximum batch window"),
        ({"StartingPosition": "LATEST"}, "InvalidParameterValue", "StartingPosition is not supported"),
        ({"FilterCriteria": {"Filters": [{"Pattern": "{"}]}}, "InvalidParameterValue", "Invalid filter"),
        ({}, "ResourceConflict", "already exists. Please update or delete the existing mapping"),
    ],
)
def test_what_lambda_would_refuse_is_refused(
    refusing: Mapped, members: dict[str, Any], code: str, said: str
) -> None:
    given = {"EventSourceArn": refusing.arn, "FunctionName": "refusing"} | members

    with pytest.raises(ClientError) as caught:
        refusing.functions.create_event_source_mapping(**given)

    error = caught.value.response["Error"]
    assert (error["Code"], said in error["Message"]) == (f"{code}Exception", True), error


def test_a_function_that_may_take_longer_than_a_message_is_hidden_is_refused(refusing: Mapped) -> None:
    refusing.functions.update_function_configuration(FunctionName="refusing", Timeout=60)

    with pytest.raises(ClientError, match="3 seconds is less than Function timeout: 60 seconds"):
        refusing.functions.update_event_source_mapping(UUID=refusing.mapping["UUID"], BatchSize=5)


@pytest.fixture(scope="module")
def refusing(shared_local: Local) -> Mapped:
    return Mapped(shared_local, "refusing", Enabled=False)
