"""Event source mappings of Lambda: the messages of a queue are brought to a function, batch by batch.

A message is deleted when the function has taken it, and comes again after the queue's visibility timeout
where it has not: at least once, as on AWS (Lambda Developer Guide, "Using Lambda with Amazon SQS").
"""

import asyncio
import base64
import json
import logging
import re
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from stagegate.local import event_patterns
from stagegate.local.service import AWSError, Runtime, Service

MAPPING = "lambda/event-source-mapping"

_QUEUE = re.compile(r"arn:aws:sqs:[a-z0-9-]+:\d{12}:([\w-]{1,80}(?:\.fifo)?)")
_AT_ONCE = 5
"""Batches of one queue that are in the function at the same time; of a FIFO queue one, for its order."""
_RECEIVED = 10  # messages that SQS gives at a time, and takes away at a time
_POLL_SECONDS = 20
_TRY_AGAIN_SECONDS = 1.0
_PAGE = 100

log = logging.getLogger(__name__)

Document = dict[str, Any]


class EventSources(Service):
    """Mappings of SQS queues; each has a task that asks its queue."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._polling: dict[str, asyncio.Task[Any]] = {}

    async def start(self) -> None:
        for mapping in self.runtime.store.list(MAPPING):
            self._follow(mapping)

    async def create_event_source_mapping(
        self,
        *,
        FunctionName: str,
        EventSourceArn: str | None = None,
        Enabled: bool = True,
        BatchSize: int = 10,
        MaximumBatchingWindowInSeconds: int = 0,
        FilterCriteria: Document | None = None,
        FunctionResponseTypes: list[str] | None = None,
        ScalingConfig: Document | None = None,
        **rest: Any,
    ) -> Document:
        match = _QUEUE.fullmatch(EventSourceArn or "")
        if match is None:
            raise _invalid(
                f"Unrecognized event source: {EventSourceArn}. The local runtime takes the ARN of a queue"
            )
        _refuse(rest)
        function = await self._function(FunctionName)
        mapping = {
            "UUID": str(uuid.uuid4()),
            "EventSourceArn": EventSourceArn,
            "FunctionArn": function["FunctionArn"],
            "BatchSize": BatchSize,
            "MaximumBatchingWindowInSeconds": MaximumBatchingWindowInSeconds,
            "FilterCriteria": FilterCriteria,
            "FunctionResponseTypes": FunctionResponseTypes or [],
            "ScalingConfig": ScalingConfig or {},
            "State": "Enabled" if Enabled else "Disabled",
            "StateTransitionReason": "USER_INITIATED",
            "LastProcessingResult": "No records processed",
        }
        mapping["EventSourceMappingArn"] = self.runtime.arn(
            "lambda", f"event-source-mapping:{mapping['UUID']}"
        )
        await self._check(mapping, function_timeout=function["Timeout"])
        for other in self.runtime.store.list(MAPPING):
            if (other["EventSourceArn"], other["FunctionArn"]) == (EventSourceArn, function["FunctionArn"]):
                raise AWSError(
                    "ResourceConflictException",
                    f'An event source mapping with SQS arn (" {EventSourceArn} ") and function (" '
                    f'{function["FunctionName"]} ") already exists. Please update or delete the existing '
                    f"mapping with UUID {other['UUID']}",
                    status=409,
                )
        self._save(mapping)
        self._follow(mapping)
        return _public({**mapping, "State": "Creating"})

    def get_event_source_mapping(self, *, UUID: str) -> Document:
        return _public(self._mapping(UUID))

    async def list_event_source_mappings(
        self,
        *,
        EventSourceArn: str | None = None,
        FunctionName: str | None = None,
        Marker: str | None = None,
        MaxItems: int | None = None,
    ) -> Document:
        function = (await self._function(FunctionName))["FunctionArn"] if FunctionName else None
        found = [
            _public(mapping)
            for mapping in self.runtime.store.list(MAPPING)
            if EventSourceArn in (None, mapping["EventSourceArn"])
            and function in (None, mapping["FunctionArn"])
        ]
        if Marker and not Marker.isdigit():
            raise _invalid(f"Invalid Marker: {Marker}")
        start = int(Marker or 0)
        end = start + min(MaxItems or _PAGE, _PAGE)
        more = {"NextMarker": str(end)} if end < len(found) else {}
        return {"EventSourceMappings": found[start:end], **more}

    async def update_event_source_mapping(
        self,
        *,
        UUID: str,
        FunctionName: str | None = None,
        Enabled: bool | None = None,
        BatchSize: int | None = None,
        MaximumBatchingWindowInSeconds: int | None = None,
        FilterCriteria: Document | None = None,
        FunctionResponseTypes: list[str] | None = None,
        ScalingConfig: Document | None = None,
        **rest: Any,
    ) -> Document:
        before = self._mapping(UUID)
        _refuse(rest)
        function = await self._function(FunctionName or before["FunctionArn"])
        given = {
            "FunctionArn": function["FunctionArn"],
            "BatchSize": BatchSize,
            "MaximumBatchingWindowInSeconds": MaximumBatchingWindowInSeconds,
            "FilterCriteria": FilterCriteria,
            "FunctionResponseTypes": FunctionResponseTypes,
            "ScalingConfig": ScalingConfig,
            "State": None if Enabled is None else "Enabled" if Enabled else "Disabled",
        }
        mapping = {**before, **{name: value for name, value in given.items() if value is not None}}
        await self._check(mapping, function_timeout=function["Timeout"])
        self._save(mapping)
        self._follow(mapping)
        return _public({**mapping, "State": "Updating"})

    def delete_event_source_mapping(self, *, UUID: str) -> Document:
        mapping = self._mapping(UUID)
        self.runtime.store.delete(MAPPING, UUID)
        self._unfollow(UUID)
        return _public({**mapping, "State": "Deleting"})

    async def _function(self, name: str) -> Document:
        return await self.runtime.aws("lambda", "GetFunctionConfiguration", {"FunctionName": name})

    async def _check(self, mapping: Document, *, function_timeout: int) -> None:
        """Refuse what Lambda would refuse."""
        is_fifo, size = mapping["EventSourceArn"].endswith(".fifo"), mapping["BatchSize"]
        window = mapping["MaximumBatchingWindowInSeconds"]
        if is_fifo and (size > _RECEIVED or window):
            raise _invalid("BatchSize is at most 10 for a FIFO queue, without MaximumBatchingWindowInSeconds")
        if size > _RECEIVED and not window:
            raise _invalid("Maximum batch window in seconds must be greater than 0 if maximum batch size is "
                           "greater than 10")  # fmt: skip
        if unknown := set(mapping["FunctionResponseTypes"]) - {"ReportBatchItemFailures"}:
            raise _invalid(f"FunctionResponseTypes has {sorted(unknown)}; there is ReportBatchItemFailures")
        for pattern in _patterns(mapping):
            event_patterns.check(pattern)
        try:
            attributes = await (await self._by_role(mapping)).aws(
                "sqs",
                "GetQueueAttributes",
                {"QueueUrl": await self._queue_url(mapping), "AttributeNames": ["VisibilityTimeout"]},
            )
        except AWSError as error:
            raise _invalid(
                f"Error occurred while ReceiveMessage. SQS Error Code: {error.code}. "
                f"SQS Error Message: {error.message}"
            ) from error
        if (visible := int(attributes["Attributes"]["VisibilityTimeout"])) < function_timeout:
            raise _invalid(
                f"Queue visibility timeout: {visible} seconds is less than Function timeout: "
                f"{function_timeout} seconds"
            )

    def _save(self, mapping: Document) -> None:
        self.runtime.store.put(MAPPING, mapping["UUID"], {**mapping, "LastModified": datetime.now(UTC)})

    def _mapping(self, mapping_id: str) -> Document:
        mapping = self.runtime.store.get(MAPPING, mapping_id)
        if mapping is None:
            raise AWSError(
                "ResourceNotFoundException", "The resource you requested does not exist.", status=404
            )
        return mapping

    # Bringing the messages

    def _follow(self, mapping: Document) -> None:
        self._unfollow(mapping["UUID"])
        if mapping["State"] == "Enabled":
            self._polling[mapping["UUID"]] = self.spawn(
                self._poll(mapping), name=f"event source mapping {mapping['UUID']}"
            )

    def _unfollow(self, mapping_id: str) -> None:
        """What was received and not given to the function comes again, when it is visible."""
        if task := self._polling.pop(mapping_id, None):
            task.cancel()

    async def _poll(self, mapping: Document) -> None:
        most = mapping["ScalingConfig"].get("MaximumConcurrency", _AT_ONCE)
        free = asyncio.Semaphore(1 if mapping["EventSourceArn"].endswith(".fifo") else most)
        await self.runtime.store.committed()
        while True:
            await free.acquire()
            try:
                url = await self._queue_url(mapping)
                batch = await self._receive(mapping, url)
            except AWSError as error:
                free.release()
                self._note(mapping, f"PROBLEM: {error.message}")
                await asyncio.sleep(_TRY_AGAIN_SECONDS)
                continue
            task = self.spawn(self._process(mapping, url, batch), name=f"batch of {mapping['UUID']}")
            task.add_done_callback(lambda _: free.release())

    async def _by_role(self, mapping: Document) -> Runtime:
        """As the function's role sees it: by that Lambda receives and deletes."""
        function = await self._function(mapping["FunctionArn"])
        return self.runtime.as_role(function["Role"], session=function["FunctionName"])

    async def _queue_url(self, mapping: Document) -> str:
        name = mapping["EventSourceArn"].rpartition(":")[2]
        url: str = (await self.runtime.aws("sqs", "GetQueueUrl", {"QueueName": name}))["QueueUrl"]
        return url

    async def _receive(self, mapping: Document, url: str) -> list[Document]:
        """A batch of one message at least: what is there, or what comes within the batching window."""
        loop, messages = asyncio.get_running_loop(), list[Document]()
        aws = (await self._by_role(mapping)).aws
        over: float | None = None
        while len(messages) < mapping["BatchSize"]:
            left = _POLL_SECONDS if over is None else over - loop.time()
            if left < 0:
                break
            answer = await aws(
                "sqs",
                "ReceiveMessage",
                {
                    "QueueUrl": url,
                    "MaxNumberOfMessages": min(_RECEIVED, mapping["BatchSize"] - len(messages)),
                    "WaitTimeSeconds": min(int(left), _POLL_SECONDS),
                    "AttributeNames": ["All"],
                    "MessageAttributeNames": ["All"],
                },
            )
            messages += answer.get("Messages", [])
            if messages and over is None:
                over = loop.time() + mapping["MaximumBatchingWindowInSeconds"]
            if messages and not mapping["MaximumBatchingWindowInSeconds"]:
                break
        return messages

    async def _process(self, mapping: Document, url: str, messages: Sequence[Document]) -> None:
        """Invoke the function, and take away what it has taken; what no filter lets through is taken away."""
        patterns = _patterns(mapping)
        records = {message["MessageId"]: _record(message, mapping) for message in messages}
        wanted = [
            record
            for record in records.values()
            if not patterns or any(event_patterns.matches(pattern, _parsed(record)) for pattern in patterns)
        ]
        failed: set[str] = set()
        try:
            if wanted:
                failed = await self._invoke(mapping, wanted)
            aws = (await self._by_role(mapping)).aws
            done = [message for message in messages if message["MessageId"] not in failed]
            for start in range(0, len(done), _RECEIVED):
                entries = [
                    {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                    for number, message in enumerate(done[start : start + _RECEIVED])
                ]
                await aws("sqs", "DeleteMessageBatch", {"QueueUrl": url, "Entries": entries})
        except AWSError as error:
            self._note(mapping, f"PROBLEM: {error.message}")
            return
        self._note(mapping, "PROBLEM: Function call failed" if failed else "OK")

    async def _invoke(self, mapping: Document, records: Sequence[Document]) -> set[str]:
        """The ids of the messages that the function has not taken."""
        every = {record["messageId"] for record in records}
        answer = await self.runtime.aws(
            "lambda",
            "Invoke",
            {
                "FunctionName": mapping["FunctionArn"],
                "Payload": json.dumps({"Records": list(records)}).encode(),
            },
        )
        if answer.get("FunctionError"):
            return every
        if "ReportBatchItemFailures" not in mapping["FunctionResponseTypes"]:
            return set()
        return _reported(answer["Payload"], every)

    def _note(self, mapping: Document, result: str) -> None:
        current = self.runtime.store.get(MAPPING, mapping["UUID"])
        if current is not None and current["LastProcessingResult"] != result:
            self.runtime.store.put(MAPPING, mapping["UUID"], {**current, "LastProcessingResult": result})


def _reported(payload: bytes, every: set[str]) -> set[str]:
    """The failures that the function reports; a report that makes no sense means that all failed."""
    try:
        report = json.loads(payload or b"null")
        failures = (report or {}).get("batchItemFailures") or []
        failed = {failure["itemIdentifier"] for failure in failures}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        log.warning("a function's report of batch item failures makes no sense: %r", error)
        return every
    return failed if failed <= every else every


def _record(message: Document, mapping: Document) -> Document:
    """A message as Lambda gives it to a function."""
    attributes = {
        name: {
            **({"stringValue": value["StringValue"]} if "StringValue" in value else {}),
            **({"binaryValue": _text(value["BinaryValue"])} if "BinaryValue" in value else {}),
            "stringListValues": [],
            "binaryListValues": [],
            "dataType": value["DataType"],
        }
        for name, value in message.get("MessageAttributes", {}).items()
    }
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message.get("Attributes", {}),
        "messageAttributes": attributes,
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": mapping["EventSourceArn"],
        "awsRegion": mapping["EventSourceArn"].split(":")[3],
    }


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _patterns(mapping: Document) -> list[Document]:
    """The filters of a mapping, as event patterns."""
    filters = (mapping.get("FilterCriteria") or {}).get("Filters") or []
    try:
        return [json.loads(it["Pattern"]) for it in filters if it.get("Pattern")]
    except ValueError as error:
        raise _invalid("Invalid filter pattern definition.") from error


def _parsed(record: Document) -> Document:
    """What a filter sees of a record: its body as JSON, where it is that."""
    try:
        return {**record, "body": json.loads(record["body"])}
    except ValueError:
        return record


def _refuse(members: Document) -> None:
    """Refuse what belongs to other sources than queues, or is not done here."""
    if given := sorted(name for name, value in members.items() if value):
        raise _invalid(f"{given[0]} is not supported by the local runtime for an SQS queue")


def _public(mapping: Document) -> Document:
    return {name: value for name, value in mapping.items() if value not in (None, {}, [])}


def _invalid(message: str) -> AWSError:
    return AWSError("InvalidParameterValueException", message)
