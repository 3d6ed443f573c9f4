"""Lambda: functions in warm processes, invoked and waited for, or queued."""

import asyncio
import base64
import contextlib
import hashlib
import io
import json
import math
import re
import shutil
import uuid
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stagegate.local.function_processes import Configured, Outcome, Workers
from stagegate.local.function_urls import URL
from stagegate.local.log_stream import LogStream
from stagegate.local.service import AWSError, Runtime, Service

FUNCTION = "lambda/function"
EVENT = "lambda/event"

_MAX_PAYLOAD = 6 * 1024 * 1024
_MAX_EVENT = 1024 * 1024
_TAIL = 4096
_RECORDED = (
    *("Description", "Role", "TracingConfig", "DeadLetterConfig", "Layers", "FileSystemConfigs", "VpcConfig"),
    *(
        "EphemeralStorage",
        "SnapStart",
        "LoggingConfig",
        "KMSKeyArn",
        "Architectures",
        "RuntimeManagementConfig",
    ),
)
_NAME = re.compile(r"(?:.*:function:)?([a-zA-Z0-9-_]{1,64})(?::(\$LATEST))?")

Document = dict[str, Any]


class Functions(Service):
    """Functions of Python's runtimes, as zip packages."""

    retry_seconds = (60.0, 120.0)
    """Before the second and the third try of a queued event, as in Lambda."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._workers = Workers()
        self._logs: dict[str, LogStream] = {}

    async def start(self) -> None:
        for event in self.runtime.store.list(EVENT):
            self.spawn(self._deliver(event), name=f"event {event['request_id']}")

    async def stop(self) -> None:
        await super().stop()
        await self._workers.stop()
        for log in self._logs.values():
            await log.flush()

    async def create_function(
        self,
        *,
        FunctionName: str,
        Role: str,
        Code: Document,
        Runtime: str | None = None,
        Handler: str | None = None,
        Timeout: int = 3,
        MemorySize: int = 128,
        Environment: Document | None = None,
        Tags: dict[str, str] | None = None,
        PackageType: str = "Zip",
        Publish: bool = False,
        **rest: Any,
    ) -> Document:
        name = _name(FunctionName)
        if self.runtime.store.get(FUNCTION, name):
            raise AWSError("ResourceConflictException", f"Function already exist: {name}", status=409)
        for member, value in rest.items():
            if member not in _RECORDED and value:
                raise _invalid(f"{member} is not supported by the local runtime")
        if PackageType != "Zip" or Publish:
            raise _invalid("The local runtime takes PackageType Zip, and no Publish")
        _check_runtime(Runtime, Handler)
        now = _now()
        document = {
            "FunctionName": name,
            "FunctionArn": self._arn(name),
            "Runtime": Runtime,
            "Role": Role,
            "Handler": Handler,
            "Timeout": Timeout,
            "MemorySize": MemorySize,
            "Environment": {"Variables": (Environment or {}).get("Variables", {})},
            "PackageType": PackageType,
            "Architectures": ["x86_64"],
            "TracingConfig": {"Mode": "PassThrough"},
            "EphemeralStorage": {"Size": 512},
            "Version": "$LATEST",
            "State": "Active",
            "LastUpdateStatus": "Successful",
            "LoggingConfig": {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}"},
            **{member: value for member, value in rest.items() if value is not None},
            **await self._unpacked(name, Code),
            "LastModified": now,
            "RevisionId": str(uuid.uuid4()),
            "_tags": Tags or {},
            "_policy": [],
        }
        self.runtime.store.put(FUNCTION, name, document)
        return _public(document)

    def get_function(self, *, FunctionName: str, Qualifier: str | None = None) -> Document:
        document = self._function(FunctionName, Qualifier)
        return {
            "Configuration": _public(document),
            "Code": {"RepositoryType": "S3"},
            "Tags": document["_tags"],
        }

    def get_function_configuration(self, *, FunctionName: str, Qualifier: str | None = None) -> Document:
        return _public(self._function(FunctionName, Qualifier))

    async def update_function_code(
        self,
        *,
        FunctionName: str,
        ZipFile: bytes | None = None,
        S3Bucket: str | None = None,
        S3Key: str | None = None,
        S3ObjectVersion: str | None = None,
        DryRun: bool = False,
        Architectures: list[str] | None = None,
        **rest: Any,
    ) -> Document:
        document = self._function(FunctionName)
        for member, value in rest.items():
            if value:
                raise _invalid(f"{member} is not supported by the local runtime")
        code = {
            "ZipFile": ZipFile,
            "S3Bucket": S3Bucket,
            "S3Key": S3Key,
            "S3ObjectVersion": S3ObjectVersion,
        }
        unpacked = await self._unpacked(document["FunctionName"], code)
        if DryRun:
            return _public(document | unpacked)
        return await self._changed(document | unpacked)

    async def update_function_configuration(self, *, FunctionName: str, **members: Any) -> Document:
        document = self._function(FunctionName)
        known = ("Runtime", "Handler", "Timeout", "MemorySize", "Environment", *_RECORDED)
        for member, value in members.items():
            if member not in known and value:
                raise _invalid(f"{member} is not supported by the local runtime")
        changed = document | {member: value for member, value in members.items() if value is not None}
        _check_runtime(changed["Runtime"], changed["Handler"])
        return await self._changed(changed)

    async def delete_function(self, *, FunctionName: str, Qualifier: str | None = None) -> Document:
        name = self._function(FunctionName, Qualifier)["FunctionName"]
        self.runtime.store.delete(FUNCTION, name)
        for url in self.runtime.store.list(URL):
            if url["_function"] == name:
                self.runtime.store.delete(URL, url["_id"])
        await self._workers.retire(name)
        await asyncio.to_thread(shutil.rmtree, self._folder(name), ignore_errors=True)
        return {}

    def list_functions(
        self, *, Marker: str | None = None, MaxItems: int = 50, FunctionVersion: str | None = None, **_: Any
    ) -> Document:
        functions = [_public(document) for document in self.runtime.store.list(FUNCTION)]
        start = int(Marker) if Marker else 0
        answer: Document = {"Functions": functions[start : start + MaxItems]}
        if start + MaxItems < len(functions):
            answer["NextMarker"] = str(start + MaxItems)
        return answer

    def add_permission(
        self,
        *,
        FunctionName: str,
        StatementId: str,
        Action: str,
        Principal: str,
        SourceArn: str | None = None,
        SourceAccount: str | None = None,
        FunctionUrlAuthType: str | None = None,
        InvokedViaFunctionUrl: bool | None = None,
        **_: Any,
    ) -> Document:
        document = self._function(FunctionName)
        if any(statement["Sid"] == StatementId for statement in document["_policy"]):
            raise AWSError(
                "ResourceConflictException",
                f"The statement id ({StatementId}) provided already exists. Please provide a new statement "
                "id, or remove the existing statement.",
                status=409,
            )
        conditions: Document = {}
        if SourceArn:
            conditions["ArnLike"] = {"AWS:SourceArn": SourceArn}
        equal = {
            "AWS:SourceAccount": SourceAccount,
            "lambda:FunctionUrlAuthType": FunctionUrlAuthType,
        }
        if given := {key: value for key, value in equal.items() if value}:
            conditions["StringEquals"] = given
        if InvokedViaFunctionUrl is not None:
            conditions["Bool"] = {"lambda:InvokedViaFunctionUrl": str(InvokedViaFunctionUrl).lower()}
        principal: Any = {"Service": Principal} if Principal.endswith(".com") else {"AWS": Principal}
        statement = {
            "Sid": StatementId,
            "Effect": "Allow",
            "Principal": "*" if Principal == "*" else principal,
            "Action": Action,
            "Resource": document["FunctionArn"],
            **({"Condition": conditions} if conditions else {}),
        }
        document["_policy"].append(statement)
        self.runtime.store.put(FUNCTION, document["FunctionName"], document)
        return {"Statement": json.dumps(statement)}

    def remove_permission(self, *, FunctionName: str, StatementId: str, **_: Any) -> Document:
        document = self._function(FunctionName)
        left = [statement for statement in document["_policy"] if statement["Sid"] != StatementId]
        if len(left) == len(document["_policy"]):
            raise _not_found(f"Statement {StatementId} is not found in resource policy.")
        self.runtime.store.put(FUNCTION, document["FunctionName"], document | {"_policy": left})
        return {}

    def get_policy(self, *, FunctionName: str, Qualifier: str | None = None) -> Document:
        document = self._function(FunctionName, Qualifier)
        if not document["_policy"]:
            raise _not_found("The resource you requested does not exist.")
        policy = {"Version": "2012-10-17", "Id": "default", "Statement": document["_policy"]}
        return {"Policy": json.dumps(policy), "RevisionId": document["RevisionId"]}

    def list_tags(self, *, Resource: str) -> Document:
        return {"Tags": self._function(Resource)["_tags"]}

    def tag_resource(self, *, Resource: str, Tags: dict[str, str]) -> Document:
        document = self._function(Resource)
        self.runtime.store.put(
            FUNCTION, document["FunctionName"], document | {"_tags": document["_tags"] | Tags}
        )
        return {}

    def untag_resource(self, *, Resource: str, TagKeys: list[str]) -> Document:
        document = self._function(Resource)
        left = {key: value for key, value in document["_tags"].items() if key not in TagKeys}
        self.runtime.store.put(FUNCTION, document["FunctionName"], document | {"_tags": left})
        return {}

    async def invoke(
        self,
        *,
        FunctionName: str,
        InvocationType: str = "RequestResponse",
        LogType: str = "None",
        ClientContext: str | None = None,
        Payload: bytes | None = None,
        Qualifier: str | None = None,
        **rest: Any,
    ) -> Document:
        document = self._function(FunctionName, Qualifier)
        for member, value in rest.items():
            if value:
                raise _invalid(f"{member} is not supported by the local runtime")
        event = _event(Payload or b"{}", limit=_MAX_EVENT if InvocationType == "Event" else _MAX_PAYLOAD)
        if InvocationType == "DryRun":
            return {"StatusCode": 204}
        request_id = str(uuid.uuid4())
        if InvocationType == "Event":
            queued = {
                "request_id": request_id,
                "function": document["FunctionName"],
                "event": event,
                "tries": 0,
            }
            self.runtime.store.put(EVENT, request_id, queued)
            self.spawn(self._deliver(queued), name=f"event {request_id}")
            return {"StatusCode": 202, "Payload": b""}
        outcome, lines = await self._run(document, event, request_id)
        answer: Document = {"StatusCode": 200, "ExecutedVersion": "$LATEST"}
        if LogType == "Tail":
            answer["LogResult"] = base64.b64encode("\n".join(lines).encode()[-_TAIL:]).decode()
        if outcome.error is not None:
            return answer | {"FunctionError": "Unhandled", "Payload": json.dumps(outcome.error).encode()}
        if len(outcome.result) > _MAX_PAYLOAD:
            message = f"Response payload size ({len(outcome.result)} bytes) exceeded maximum allowed payload "
            error = {
                "errorType": "Function.ResponseSizeTooLarge",
                "errorMessage": f"{message}size ({_MAX_PAYLOAD} bytes).",
            }
            return answer | {"FunctionError": "Unhandled", "Payload": json.dumps(error).encode()}
        return answer | {"Payload": outcome.result.encode()}

    async def _run(self, document: Document, event: Any, request_id: str) -> tuple[Outcome, list[str]]:
        """One invocation, and what it logged."""
        name, log = document["FunctionName"], self._log(document)
        lines = [f"START RequestId: {request_id} Version: $LATEST"]
        outcome = await self._workers.invoke(
            self._configured(document),
            {
                "event": event,
                "request_id": request_id,
                "function_arn": self._arn(name),
                "timeout": document["Timeout"],
            },
            lines.append,
        )
        duration, init = outcome.seconds * 1000, (outcome.init_seconds or 0) * 1000
        if outcome.error and outcome.error["errorType"] in ("Sandbox.Timedout", "Runtime.ExitError"):
            lines.append(outcome.error["errorMessage"])
        lines += [
            f"END RequestId: {request_id}",
            f"REPORT RequestId: {request_id}\tDuration: {duration:.2f} ms\tBilled Duration: "
            f"{math.ceil(duration + init)} ms\tMemory Size: {document['MemorySize']} MB"
            + (f"\tInit Duration: {init:.2f} ms" if init else ""),
        ]
        for line in lines:
            log.write(line)
        self.spawn(log.flush(), name=f"log of {name}")
        return outcome, lines

    async def _deliver(self, queued: Document) -> None:
        """A queued event: tried three times, then dropped, as by Lambda without a dead-letter queue."""
        await self.runtime.store.committed()
        while True:
            document = self.runtime.store.get(FUNCTION, queued["function"])
            if document is None:
                break
            outcome, _ = await self._run(document, queued["event"], queued["request_id"])
            if outcome.error is None or queued["tries"] >= len(self.retry_seconds):
                break
            wait = self.retry_seconds[queued["tries"]]
            queued = queued | {"tries": queued["tries"] + 1}
            self.runtime.store.put(EVENT, queued["request_id"], queued)
            await asyncio.sleep(wait)
        self.runtime.store.delete(EVENT, queued["request_id"])

    def _configured(self, document: Document) -> Configured:
        name = document["FunctionName"]
        return Configured(
            name=name,
            revision=document["RevisionId"],
            root=self._folder(name) / document["_code"],
            environment={
                **self._by_role(document).environment(),
                "AWS_LAMBDA_FUNCTION_NAME": name,
                "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(document["MemorySize"]),
                "AWS_LAMBDA_LOG_GROUP_NAME": self._group(document),
                "AWS_LAMBDA_LOG_STREAM_NAME": _stream(document),
                "AWS_EXECUTION_ENV": f"AWS_Lambda_{document['Runtime']}",
                "LAMBDA_TASK_ROOT": str(self._folder(name) / document["_code"]),
                "TZ": ":UTC",
                "PYTHONUNBUFFERED": "1",
                "_HANDLER": document["Handler"],
                **document["Environment"].get("Variables", {}),
            },
        )

    def _log(self, document: Document) -> LogStream:
        name = document["FunctionName"]
        if name not in self._logs:
            self._logs[name] = LogStream(
                self._by_role(document).aws, group=self._group(document), stream=_stream(document)
            )
        return self._logs[name]

    def _by_role(self, document: Document) -> Runtime:
        """As the function's role sees it."""
        return self.runtime.as_role(document["Role"], session=document["FunctionName"])

    def _group(self, document: Document) -> str:
        group: str = document["LoggingConfig"].get("LogGroup", f"/aws/lambda/{document['FunctionName']}")
        return group

    async def _unpacked(self, name: str, code: Document) -> Document:
        """The package on disk, below its hash; gives what the description says of it."""
        if code.get("ZipFile"):
            package: bytes = code["ZipFile"]
        elif code.get("S3Bucket") and code.get("S3Key"):
            where = {
                "Bucket": code["S3Bucket"],
                "Key": code["S3Key"],
                "VersionId": code.get("S3ObjectVersion"),
            }
            try:
                package = (await self.runtime.as_caller().aws("s3", "GetObject", where))["Body"]
            except AWSError as error:
                raise _invalid(
                    f"Error occurred while GetObject. S3 Error Code: {error.code}. "
                    f"S3 Error Message: {error.message}"
                ) from error
        else:
            raise _invalid("Please provide a source for function code: ZipFile, or S3Bucket and S3Key.")
        digest = hashlib.sha256(package).digest()
        folder = self._folder(name) / digest.hex()[:16]
        await asyncio.to_thread(_unzip, package, folder)
        return {
            "CodeSha256": base64.b64encode(digest).decode(),
            "CodeSize": len(package),
            "_code": folder.name,
        }

    async def _changed(self, document: Document) -> Document:
        document = document | {"RevisionId": str(uuid.uuid4()), "LastModified": _now()}
        self.runtime.store.put(FUNCTION, document["FunctionName"], document)
        await self._workers.retire(document["FunctionName"])
        self._logs.pop(document["FunctionName"], None)
        return _public(document)

    def _function(self, name_or_arn: str, qualifier: str | None = None) -> Document:
        name = _name(name_or_arn)
        document = self.runtime.store.get(FUNCTION, name)
        if document is None or qualifier not in (None, "$LATEST"):
            suffix = f":{qualifier}" if qualifier else ""
            raise _not_found(f"Function not found: {self._arn(name)}{suffix}")
        return document

    def _arn(self, name: str) -> str:
        return self.runtime.arn("lambda", f"function:{name}")

    def _folder(self, name: str) -> Path:
        return self.runtime.data / "functions" / name


def _name(name_or_arn: str) -> str:
    match = _NAME.fullmatch(name_or_arn)
    if match is None:
        raise AWSError(
            "ValidationException",
            f"1 validation error detected: Value '{name_or_arn}' at 'functionName' failed to satisfy "
            "constraint: Member must be a function's name or ARN",
        )
    return match.group(1)


def _check_runtime(runtime: str | None, handler: str | None) -> None:
    if runtime is None or not runtime.startswith("python3."):
        raise _invalid(f"Runtime {runtime} is not supported by the local runtime; python3.x is")
    if handler is None or "." not in handler:
        raise _invalid(f"Handler '{handler}' should read module.function")


def _event(payload: bytes, *, limit: int) -> Any:
    if len(payload) > limit:
        raise AWSError(
            "RequestTooLargeException",
            f"Request must be smaller than {limit} bytes for the InvokeFunction operation",
            status=413,
        )
    try:
        return json.loads(payload or b"{}")
    except ValueError as error:
        raise AWSError(
            "InvalidRequestContentException",
            f"Could not parse request body into json: Could not parse payload into json: {error}",
        ) from error


def _unzip(package: bytes, folder: Path) -> None:
    if folder.is_dir():
        return
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with zipfile.ZipFile(io.BytesIO(package)) as archive:
            archive.extractall(partial)  # zipfile keeps paths inside
    except zipfile.BadZipFile as error:
        raise _invalid(
            "Could not unzip uploaded file. Please check your file, then try to upload again."
        ) from error
    with contextlib.suppress(OSError):
        partial.rename(folder)


def _stream(document: Document) -> str:
    return f"{datetime.now(UTC):%Y/%m/%d}/[$LATEST]{document['RevisionId'].replace('-', '')}"


def _public(document: Document) -> Document:
    return {member: value for member, value in document.items() if member[0] != "_"}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "+0000"


def _invalid(message: str) -> AWSError:
    return AWSError("InvalidParameterValueException", message)


def _not_found(message: str) -> AWSError:
    return AWSError("ResourceNotFoundException", message, status=404)
