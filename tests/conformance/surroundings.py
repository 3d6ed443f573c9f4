"""What stands around a recorded state machine: queues, topics, tables, buckets, functions, other machines.

The recordings name things as they were called on AWS. `Names` puts ours in their place, and back again in
what is observed.
"""

import ast
import io
import json
import re
import threading
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from botocore.exceptions import ClientError

from tests.conformance.recordings import Case, checker

ROLE = "arn:aws:iam::111111111111:role/sfn-role"
ACCOUNT = "111111111111"
_BODIES = {"<bytes>": b"binary data", "<bytearray>": b"byte array data"}
_QUEUE = re.compile(r"https://sqs\.us-east-1\.amazonaws\.com/111111111111/([\w.-]+)")
_MOCKED_QUEUE = re.compile(r'"(sqs[_-]queue[_-]url)"')
_SUCCEEDS = ("sqs_send_task_success_state_machine", "sqs_send_heartbeat_and_task_success_state_machine")


class Names:
    """The recorded names of things, and what they are called here."""

    def __init__(self) -> None:
        self._pairs: list[tuple[str, str]] = []

    def add(self, recorded: str, ours: str) -> None:
        self._pairs.insert(0, (recorded, ours))

    def ours(self, value: Any) -> Any:
        return self._replaced(value, [(recorded, ours) for recorded, ours in self._pairs])

    def recorded(self, value: Any) -> Any:
        return self._replaced(value, [(ours, recorded) for recorded, ours in self._pairs])

    def _replaced(self, value: Any, pairs: list[tuple[str, str]]) -> Any:
        text = json.dumps(value, default=str)
        for one, other in pairs:
            text = text.replace(json.dumps(one)[1:-1], json.dumps(other)[1:-1])
        return json.loads(text)


@contextmanager
def surroundings(local: Any, case: Case) -> Iterator[Names]:
    """All that the case needs; gone again afterwards, as the next one may use the same names."""
    names = Names()
    with ExitStack() as stack:
        around = Surroundings(local, case, names, stack)
        for function in case.get("lambdas") or []:
            around.function(function)
        for arn, definition in (case.get("other_machines") or {}).items():
            around.machine(arn.rpartition(":")[2], definition)
        for operation, arguments in case.get("setup") or []:
            if build := getattr(around, operation.replace(".", "_"), None):
                build(arguments)
        around.queues()
        yield names


class Surroundings:
    """One method for each step of a case's `setup` that makes something; the other steps only look."""

    def __init__(self, local: Any, case: Case, names: Names, stack: ExitStack) -> None:
        self.local = local
        self.case = case
        self.names = names
        self.stack = stack
        self.text = json.dumps([case["definition"], case.get("input"), case.get("setup")]) if (
            "definition" in case) else ""  # fmt: skip
        self._queues: dict[str, str] = {}

    def function(self, behaviour: dict[str, Any]) -> None:
        functions = self.local.client("lambda")
        with suppress(ClientError):
            functions.delete_function(FunctionName=behaviour["name"])
        if behaviour["lambda"].startswith("raise:"):
            _create_raising(functions, behaviour)
        else:
            checker().create_lambda(functions, behaviour)
        self.stack.callback(functions.delete_function, FunctionName=behaviour["name"])

    def machine(self, name: str, definition: Any) -> str:
        states = self.local.client("stepfunctions")
        arn = states.create_state_machine(
            name=name, definition=json.dumps(self.names.ours(definition)), roleArn=ROLE
        )["stateMachineArn"]
        self.stack.callback(states.delete_state_machine, stateMachineArn=arn)
        return str(arn)

    def queues(self) -> None:
        """Every queue that the case speaks of."""
        for name in sorted(set(_QUEUE.findall(self.text))):
            self.queue(f"https://sqs.us-east-1.amazonaws.com/{ACCOUNT}/{name}", name)

    def queue(self, recorded: str, name: str) -> str:
        if name not in self._queues:
            sqs = self.local.client("sqs")
            fifo = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
            url = sqs.create_queue(QueueName=name, Attributes=fifo)["QueueUrl"]
            self.stack.callback(sqs.delete_queue, QueueUrl=url)
            self.names.add(recorded, url)
            self._queues[name] = url
        return self._queues[name]

    def sns_create_topic(self, arguments: dict[str, Any]) -> None:
        name = (
            arguments.get("Name") or re.findall(r"arn:aws:sns:us-east-1:111111111111:([\w.-]+)", self.text)[0]
        )
        sns = self.local.client("sns")
        arn = sns.create_topic(Name=name, Attributes=arguments.get("Attributes", {}))["TopicArn"]
        self.stack.callback(sns.delete_topic, TopicArn=arn)

    def sns_delete_topic(self, arguments: dict[str, Any]) -> None:
        self.local.client("sns").delete_topic(**self.names.ours(arguments))

    def sns_subscribe(self, arguments: dict[str, Any]) -> None:
        """A queue gets what is published; for a task token somebody answers what comes."""
        name = arguments["Endpoint"].rpartition(":")[2]
        url = self.queue(f"https://sqs.us-east-1.amazonaws.com/{ACCOUNT}/{name}", name)
        self.local.client("sns").subscribe(**self.names.ours(arguments))
        if "token" in self.case["needs"]:
            self._answer(url, lambda body: ("{}", json.loads(body["Message"])["TaskToken"]))

    def s3_create_bucket(self, arguments: dict[str, Any]) -> None:
        s3 = self.local.client("s3")
        for name in set(re.findall(r"bucket-uid\d+", self.text)):
            s3.create_bucket(Bucket=name)
            self.stack.callback(s3.delete_bucket, Bucket=name)
            self.stack.callback(self._empty, name)

    def _empty(self, bucket: str) -> None:
        s3 = self.local.client("s3")
        for entry in s3.list_objects_v2(Bucket=bucket).get("Contents", ()):
            s3.delete_object(Bucket=bucket, Key=entry["Key"])

    def s3_put_object(self, arguments: dict[str, Any]) -> None:
        body = _BODIES.get(arguments["Body"], arguments["Body"])
        self.local.client("s3").put_object(**{**arguments, "Body": body})

    def dynamodb_create_table(self, arguments: dict[str, Any]) -> None:
        tables, key = self.local.client("dynamodb"), arguments["partition_key"]
        tables.create_table(
            TableName=arguments["table_name"],
            KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        self.stack.callback(tables.delete_table, TableName=arguments["table_name"])

    def sfn_activity_consumer(self, arguments: dict[str, Any]) -> None:
        states = self.local.client("stepfunctions")
        arn = states.create_activity(name=self.case["definition"]["States"]["ActivityTask"]["Resource"]
                                     .rpartition(":")[2])["activityArn"]  # fmt: skip
        self.stack.callback(states.delete_activity, activityArn=arn)
        consumer = self.machine("consumer", arguments["template"])
        states.start_execution(stateMachineArn=consumer, input=json.dumps({"ActivityArn": arn}))

    def sqs_send_task_success_state_machine(self, arguments: dict[str, Any]) -> None:
        self._answer(self._queue_of(arguments), lambda body: (json.dumps(body["Message"]), body["TaskToken"]))

    def sqs_send_heartbeat_and_task_success_state_machine(self, arguments: dict[str, Any]) -> None:
        self.sqs_send_task_success_state_machine(arguments)

    def sqs_send_task_failure_state_machine(self, arguments: dict[str, Any]) -> None:
        self._answer(self._queue_of(arguments), lambda body: (None, body["TaskToken"]))

    def mock_config_file(self, arguments: dict[str, Any]) -> None:
        """What another emulator was to answer by itself is there in earnest, and behaves so."""
        responses = ast.literal_eval(arguments["args"][0])["MockedResponses"]
        (answer,) = (response["0"] for response in responses.values())
        for recorded in set(_MOCKED_QUEUE.findall(self.text)):
            url = self.queue(recorded, "mocked-queue")
            if "Throw" in answer:
                self._answer(url, lambda body: (None, body["TaskToken"]))
        if "StateMachineArn" in answer.get("Return", {}):
            output = {"Type": "Pass", "Result": json.loads(answer["Return"]["Output"]), "End": True}
            arn = self.machine("Part", {"StartAt": "Result", "States": {"Result": output}})
            self.names.add("state-machine-arn", arn)

    def _queue_of(self, arguments: dict[str, Any]) -> str:
        recorded = arguments["args"][0]
        return self.queue(recorded, recorded.rpartition("/")[2])

    def _answer(self, url: str, read: Any) -> None:
        """Answer for each task whose token comes to the queue: with an output, or with a failure."""
        over = threading.Event()
        sqs, states = self.local.client("sqs"), self.local.client("stepfunctions")

        def listen() -> None:
            while not over.is_set():
                found = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=0).get("Messages", ())
                for message in found:
                    output, token = read(json.loads(message["Body"]))
                    if output is None:
                        states.send_task_failure(
                            taskToken=token, error="Failure error", cause="Failure cause"
                        )
                    else:
                        states.send_task_success(taskToken=token, output=output)
                over.wait(0.02)

        listener = threading.Thread(target=listen)
        listener.start()
        self.stack.callback(listener.join)
        self.stack.callback(over.set)


def _create_raising(functions: Any, behaviour: dict[str, Any]) -> None:
    """The function as it was recorded: the stack that it leaves shows its source."""
    _, error, message = behaviour["lambda"].split(":", 2)
    if error == "Exception":
        source = f'def handler(event, context):\n    raise Exception("{message}")\n'
    else:
        kind = f"class {error}(Exception):\n    pass\n\n\n\n\n\n"
        source = f"{kind}def handler(event, context):\n    raise {error}()\n"
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("handler.py", source)
    functions.create_function(
        FunctionName=behaviour["name"],
        Runtime="python3.12",
        Role=ROLE,
        Handler="handler.handler",
        Code={"ZipFile": archive.getvalue()},
    )
