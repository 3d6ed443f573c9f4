"""An account that remembers: what was made once is there, and asking twice makes nothing twice."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import boto3
from botocore.exceptions import ClientError

from stagegate.local.faults import CLIENT
from stagegate.local.service import AnswerLost, AWSError
from tests.workflows.releases import FAILED_SUMMARY
from tests.workflows.simulation import APPROVED, EXPIRED, PACKAGE, Cloud, absent, stack

BEFORE = "before"
STAGES = ("stagegate-staging", "stagegate-production")
COMMIT = "c" * 40
RELEASE = {
    "Commit": COMMIT,
    "Start": "model-build",
    "IsObsolete": False,
    "CodeUri": "s3://assets/code/0123456789abcdef",
    "AccuracyThreshold": 0.8,
    "HyperParameters": {},
    "Preprocess": {},
    "RemoveStaging": False,
    "TemplateUrl": "https://assets.s3.us-east-1.amazonaws.com/templates/x.yaml",
    "Declared": ["ModelPackageName"],
    "Parameters": {"ModelPackageName": PACKAGE},
}
NO_REPORT = AWSError("NoSuchKey", "The specified key does not exist.", status=404)


def both_serving() -> dict[str, str]:
    return dict.fromkeys(STAGES, BEFORE)


@dataclass
class Account(Cloud):
    """Stacks by the package that they serve, packages, builds, decisions: as faults leave them."""

    serving: dict[str, str] = field(default_factory=dict)
    planned: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Change sets that were not executed."""
    executed: set[str] = field(default_factory=set)
    updates: set[str] = field(default_factory=set)
    packages: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, str] = field(default_factory=dict)
    """Of packages, once somebody has decided."""
    decision: dict[str, Any] | None = field(default_factory=lambda: APPROVED)
    """What the person answers; None is silence."""
    is_recorded: bool = True
    """Whether the answer is written down before it is sent, as our function does it."""
    decided: set[str] = field(default_factory=set)
    failing: tuple[str, ...] = ()
    """The folders of tests that fail."""
    builds: dict[str, bool] = field(default_factory=dict)
    """Whether each ran its commands."""

    # Stacks

    def _DescribeStacks(self, request: dict[str, Any]) -> dict[str, Any]:
        name = request["StackName"].rpartition(":")[2]
        if name not in self.serving:
            raise absent(name)
        return {"Stacks": [stack("UPDATE_COMPLETE", package=self.serving[name])]}

    def _CreateChangeSet(self, request: dict[str, Any]) -> dict[str, Any]:
        assert request["ChangeSetName"] == request["ClientToken"]
        change_set_id = f"arn:change-set/{request['StackName']}-{request['ChangeSetName']}"
        self.planned[change_set_id] = request
        return {"Id": change_set_id, "StackId": f"arn:aws:{request['StackName']}"}

    def _ExecuteChangeSet(self, request: dict[str, Any]) -> dict[str, Any]:
        change_set_id, token = request["ChangeSetName"], request["ClientRequestToken"]
        if token in self.executed:
            return {}
        planned = self.planned[change_set_id]
        name = planned["StackName"]
        self.serving[name] = next(
            entry["ParameterValue"]
            for entry in planned["Parameters"]
            if entry["ParameterKey"] == "ModelPackageName"
        )
        self.planned = {it: other for it, other in self.planned.items() if other["StackName"] != name}
        self.executed.add(token)
        return {}

    def _DeleteChangeSet(self, request: dict[str, Any]) -> dict[str, Any]:
        self.planned.pop(request["ChangeSetName"], None)
        return {}

    def _UpdateStack(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["ClientRequestToken"] in self.updates:
            return {"StackId": f"arn:aws:{request['StackName']}"}
        if self.updates:
            raise AWSError("ValidationError", "Stack is in UPDATE_IN_PROGRESS state and can not be updated.")
        self.updates.add(request["ClientRequestToken"])
        self.serving[request["StackName"]] = BEFORE
        return {"StackId": f"arn:aws:{request['StackName']}"}

    def _DeleteStack(self, request: dict[str, Any]) -> dict[str, Any]:
        name = request["StackName"].rpartition(":")[2]
        self.serving.pop(name, None)
        self.planned = {it: other for it, other in self.planned.items() if other["StackName"] != name}
        return {}

    # Packages and builds

    def _CreateModelPackage(self, request: dict[str, Any]) -> dict[str, Any]:
        self.packages[request["ClientToken"]] = PACKAGE
        return {"ModelPackageArn": PACKAGE}

    def _UpdateModelPackage(self, request: dict[str, Any]) -> dict[str, Any]:
        if "ModelApprovalStatus" in request:
            self.statuses[request["ModelPackageArn"]] = request["ModelApprovalStatus"]
        return {"ModelPackageArn": request["ModelPackageArn"]}

    def _StartBuild(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self.runtime is not None
        folder, token = request["artifactsOverride"]["name"], request["idempotencyToken"]
        build_id = f"tests:{token}-{folder}"
        if build_id not in self.builds:
            self.builds[build_id] = not self.runtime.fate("codebuild", "StartBuild", request)
        return {"build": {"id": build_id, "buildStatus": "IN_PROGRESS"}}

    def _BatchGetBuilds(self, request: dict[str, Any]) -> dict[str, Any]:
        (build_id,) = request["ids"]
        folder = build_id.rpartition("-")[2]
        is_failed = not self.builds[build_id] or folder in self.failing
        return {"builds": [{"id": build_id, "buildStatus": "FAILED" if is_failed else "SUCCEEDED"}]}

    def _GetObject(self, request: dict[str, Any]) -> dict[str, Any]:
        *_, folder, name = request["Key"].split("/")
        if name == "summary.json":
            if not any(ran for build_id, ran in self.builds.items() if build_id.endswith(f"-{folder}")):
                raise NO_REPORT
            if folder in self.failing:
                return FAILED_SUMMARY
        return super()._GetObject(request)

    # The approval function: it writes down what was decided, and tells whoever waits for it

    def _Invoke(self, request: dict[str, Any]) -> dict[str, Any]:
        payload = json.loads(request["Payload"])
        kind = payload.get("Kind")
        if payload["Action"] == "check":
            return {"StatusCode": 200, "Payload": json.dumps({"matches": True, "differences": ""}).encode()}
        if payload["Action"] == "expire":
            answer = self.decision if kind in self.decided else EXPIRED
            return {"StatusCode": 200, "Payload": json.dumps(answer).encode()}
        if self.decision is not None:
            if self.is_recorded:
                self.decided.add(kind)
            assert self.service is not None
            self.service.spawn(self._tell(payload["TaskToken"]), name="the decision is sent")
        return {"StatusCode": 200, "Payload": b"{}"}

    async def _tell(self, token: str) -> None:
        service, output = self.service, json.dumps(self.decision)
        assert service is not None

        async def send() -> dict[str, Any]:
            answer: dict[str, Any] = service.send_task_success(taskToken=token, output=output)
            return answer

        try:
            if self.faults is None:
                await send()
            else:
                members = {"taskToken": token, "output": output}
                await self.faults.call(CLIENT, "stepfunctions", "SendTaskSuccess", lambda: members, send)
        except AnswerLost:
            self.calls.append(("Lost", {}))
        except AWSError as error:  # the task does not wait any more: the next round asks again
            self.calls.append((error.code, {}))

    def _DescribeModelPackage(self, request: dict[str, Any]) -> dict[str, Any]:
        return super()._DescribeModelPackage(request) | {"ModelPackageArn": request["ModelPackageName"]}


@dataclass
class Integrated(Account):
    """An account with a repository: the platform's stack "serves" what a commit makes of it."""

    release: dict[str, Any] = field(default_factory=lambda: RELEASE)
    started: dict[str, str] = field(default_factory=dict)
    """The state machine of each run."""
    told: list[str] = field(default_factory=list)

    def _GetBranch(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"branch": {"branchName": request["branchName"], "commitId": COMMIT}}

    def _GetCommit(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"commit": {"author": {"email": "ann@example.com"}}}

    def _GetObject(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"Body": json.dumps(self.release).encode()}

    def _StartExecution(self, request: dict[str, Any]) -> dict[str, Any]:
        self.started[request["name"]] = request["stateMachineArn"]
        return {"executionArn": f"arn:{request['name']}", "startDate": datetime.now(UTC)}

    def _DescribeExecution(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"executionArn": request["executionArn"], "status": "RUNNING"}

    def _GetExecutionHistory(self, request: dict[str, Any]) -> dict[str, Any]:
        details = {"resourceType": "lambda", "resource": "invoke.waitForTaskToken"}
        event = {"timestamp": datetime.now(UTC), "type": "TaskSubmitted", "id": 9, "previousEventId": 8}
        return {"events": [event | {"taskSubmittedEventDetails": details}]}

    def _Publish(self, request: dict[str, Any]) -> dict[str, Any]:
        self.told.append(request["Subject"])
        return {"MessageId": "1"}

    # The table of locks is moto's, which takes conditions seriously.

    def _PutItem(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._of_table("put_item", request)

    def _GetItem(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._of_table("get_item", request)

    def _UpdateItem(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._of_table("update_item", request)

    def _of_table(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        dynamodb = locks_table()
        try:
            answer: dict[str, Any] = getattr(dynamodb, operation)(**request)
        except ClientError as error:
            raise AWSError(error.response["Error"]["Code"], error.response["Error"]["Message"]) from error
        return answer


def locks_table() -> Any:
    """A client of moto's DynamoDB, with the table; within `mock_aws` only."""
    dynamodb = boto3.client("dynamodb", "us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    if not dynamodb.list_tables()["TableNames"]:
        dynamodb.create_table(
            TableName="the-LocksTable",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "LockId", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "LockId", "KeyType": "HASH"}],
        )
    return dynamodb
