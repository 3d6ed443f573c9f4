"""Between the JSON of a state and an AWS API: requests, responses, names of errors, by botocore's models.

Step Functions writes members with a capital first letter, whatever the API does; gives streams as text;
and gives times as ISO 8601 text from "aws-sdk:" and as milliseconds from the optimised integrations. Behind
"aws-sdk:" is the AWS SDK for Java 2, whose names for members and exceptions show (`sdk_names`).
"""

import base64
import json
import re
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from typing import Any

from stagegate.local import apis
from stagegate.local.service import AnswerLost, AWSError, Json
from stagegate.local.states.errors import EvaluationFailed, StateFailed
from stagegate.local.states.integrations import ERROR_NAMES, SDK_ERROR_PREFIXES, Resource
from stagegate.local.states.jsontext import to_text
from stagegate.local.states.sdk_names import exception_name, member_name


def check_parameters(resource: Resource, parameters: Json) -> None:
    """Fail when the API can't take these."""
    if resource.takes_anything:
        return
    problems = [
        f'The field "{name}" is not supported by Step Functions'
        for name in unknown_fields(resource, parameters)
    ]
    if not isinstance(parameters, dict):
        problems = ["A JSON object is expected"]
    if problems:
        raise EvaluationFailed(
            f"The Parameters '{to_text(parameters)}' could not be used to start the Task: "
            f"[{', '.join(problems)}]"
        )


def unknown_fields(resource: Resource, parameters: Json) -> Iterator[str]:
    """The names in a task's parameters (or in their template) that the API does not have."""
    shape = apis.operation_model(resource.botocore, resource.operation).input_shape
    yield from _unknown_fields(parameters, shape)


def _unknown_fields(value: Json, shape: Any) -> Iterator[str]:
    kind = None if shape is None else shape.type_name
    if (
        isinstance(value, dict)
        and kind in ("structure", None)
        and not getattr(shape, "is_document_type", False)
    ):
        names = {} if shape is None else _members(shape)
        for name, member in value.items():
            if (known := names.get(name.removesuffix(".$").lower())) is None:
                yield name.removesuffix(".$")
            else:
                yield from _unknown_fields(member, shape.members[known])
    elif isinstance(value, list) and kind == "list":
        for item in value:
            yield from _unknown_fields(item, shape.member)
    elif isinstance(value, dict) and kind == "map":
        for member in value.values():
            yield from _unknown_fields(member, shape.value)


@lru_cache(maxsize=1000)
def _members(shape: Any) -> dict[str, str]:
    """A structure's members, by each way to write them in small letters."""
    return {written.lower(): name for name in shape.members for written in (name, member_name(name))}


def to_request(resource: Resource, parameters: dict[str, Json]) -> dict[str, Any]:
    """The API's request from a task's parameters."""
    shape = apis.operation_model(resource.botocore, resource.operation).input_shape
    request = {} if shape is None else _request_structure(parameters, shape)
    return {**request, **_checksum(resource, request)} if resource.is_sdk else request


def _checksum(resource: Resource, request: Mapping[str, Any]) -> dict[str, str]:
    """The SDK sends a checksum with what it uploads to S3, where none is given."""
    operation = apis.operation_model(resource.botocore, resource.operation)
    has_algorithm = "requestAlgorithmMember" in (operation.http_checksum or {})
    if not has_algorithm or "ChecksumCRC32" not in operation.input_shape.members:
        return {}
    if any(name.startswith("Checksum") for name in request):
        return {}
    checksum = zlib.crc32(request.get("Body", b"")).to_bytes(4, "big")
    return {"ChecksumAlgorithm": "CRC32", "ChecksumCRC32": base64.b64encode(checksum).decode()}


def _request_structure(value: Mapping[str, Json], shape: Any) -> dict[str, Any]:
    names = _members(shape)
    request = {}
    for name, member in value.items():
        if member is None:
            continue
        known = names[name.lower()]
        request[known] = _request_value(member, shape.members[known])
    return request


def _request_value(value: Json, shape: Any) -> Any:
    if shape.type_name == "structure" and isinstance(value, dict):
        if getattr(shape, "is_document_type", False):
            return value
        return _request_structure(value, shape)
    if shape.type_name == "list" and isinstance(value, list):
        return [_request_value(item, shape.member) for item in value]
    if shape.type_name == "map" and isinstance(value, dict):
        return {key: _request_value(member, shape.value) for key, member in value.items()}
    convert = _REQUEST_SCALARS.get(shape.type_name)
    return convert(value) if convert else value


def _request_time(value: Json) -> datetime:
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    return datetime.fromisoformat(value)


def _request_text(value: Json) -> str:
    return value if isinstance(value, str) else to_text(value)


_REQUEST_SCALARS: dict[str, Callable[[Json], Any]] = {
    "string": _request_text,
    "blob": lambda value: _request_text(value).encode(),
    "timestamp": _request_time,
}


def to_json(resource: Resource, operation: str, response: Mapping[str, Any]) -> dict[str, Json]:
    """A task's result from the API's response."""
    shape = apis.operation_model(resource.botocore, operation).output_shape
    return {} if shape is None else _structure(response, shape, _SDK if resource.is_sdk else _OPTIMISED)


@dataclass(frozen=True, kw_only=True)
class _Style:
    """How an integration writes what an API answers."""

    name: Callable[[str], str]
    time: Callable[[datetime], Json]


def _structure(value: Mapping[str, Any], shape: Any, style: _Style) -> dict[str, Json]:
    converted = {}
    for name, member in value.items():
        if member is not None and name in shape.members:
            converted[style.name(name)] = _value(member, shape.members[name], style)
    return converted


def _value(value: Any, shape: Any, style: _Style) -> Json:
    if shape.type_name == "structure" and isinstance(value, dict):
        if getattr(shape, "is_document_type", False):
            return value
        return _structure(value, shape, style)
    if shape.type_name == "list":
        return [_value(item, shape.member, style) for item in value]
    if shape.type_name == "map":
        return {key: _value(member, shape.value, style) for key, member in value.items()}
    if isinstance(value, datetime):
        return style.time(value)
    if isinstance(value, bytes | bytearray):
        return _text(bytes(value))
    return value


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()


def _iso(value: datetime) -> str:
    value = value.astimezone(UTC)
    text = value.isoformat(timespec="milliseconds" if value.microsecond else "seconds")
    return text.replace("+00:00", "Z")


def _milliseconds(value: datetime) -> int:
    return round(value.timestamp() * 1000)


_SDK = _Style(name=member_name, time=_iso)
_OPTIMISED = _Style(name=lambda name: name[:1].upper() + name[1:], time=_milliseconds)


def with_metadata(resource: Resource, output: dict[str, Json], size: int) -> dict[str, Json]:
    """The optimised integrations give the HTTP response's metadata too."""
    request_id = str(uuid.uuid4())
    headers = {
        "Connection": "keep-alive",
        "Content-Length": str(size),
        "Content-Type": _CONTENT_TYPES.get(resource.botocore, "application/x-amz-json-1.1"),
        "Date": format_datetime(datetime.now(UTC), usegmt=True),
        "x-amzn-RequestId": request_id,
    }
    if resource.service == "lambda":
        headers |= {
            "X-Amz-Executed-Version": output.get("ExecutedVersion", "$LATEST"),
            "x-amzn-Remapped-Content-Length": "0",
            "X-Amzn-Trace-Id": f"root=1-{uuid.uuid4().hex[:8]}-{uuid.uuid4().hex[:24]};sampled=0",
        }
    elif resource.service == "dynamodb":
        headers |= {"Server": "Server", "x-amz-crc32": str(zlib.crc32(to_text(output).encode()))}
    else:
        headers["connection"] = headers.pop("Connection")
    metadata = {
        "AllHttpHeaders": {name: [value] for name, value in headers.items()},
        "HttpHeaders": headers,
        "HttpStatusCode": 200,
    }
    return {**output, "SdkHttpMetadata": metadata, "SdkResponseMetadata": {"RequestId": request_id}}


def body_size(resource: Resource, output: Mapping[str, Json], response: Mapping[str, Any]) -> int:
    """How long the API's answer is, as its protocol writes it."""
    if resource.service == "sns":
        return sum(_XML_SIZES[name] + len(output[name]) for name in _XML_SIZES if name in output)
    times = sum(isinstance(value, datetime) for value in response.values())
    return len(to_text(output)) + _LONGER_TIME * times


_XML_SIZES = {"MessageId": 258, "SequenceNumber": 38}
"""What stands around these in the answer of SNS."""
_LONGER_TIME = len("1.234567890123E9") - len("1234567890123")
"""AWS writes times as floating-point seconds."""

_CONTENT_TYPES = {
    "lambda": "application/json",
    "dynamodb": "application/x-amz-json-1.0",
    "sqs": "application/x-amz-json-1.0",
    "stepfunctions": "application/x-amz-json-1.0",
    "sns": "text/xml",
}


def function_result(response: Mapping[str, Any], *, compact: bool) -> Json:
    """What a function returned; `StateFailed` with its own error's name when it failed."""
    payload = bytes(response.get("Payload") or b"")
    try:
        value = json.loads(payload) if payload else None
    except ValueError:
        value = _text(payload)
    if not response.get("FunctionError"):
        return value
    error = value.get("errorType") if isinstance(value, dict) else None
    cause = to_text(value) if compact else _text(payload)
    raise StateFailed(error or "Lambda.Unknown", cause, from_task=True)


def as_state_failed(resource: Resource, error: AWSError) -> StateFailed:
    """The API's error as Step Functions names it."""
    if isinstance(error, AnswerLost):
        cause = f"Unable to execute HTTP request: {error.message}"
        return StateFailed(f"{_prefix(resource)}.SdkClientException", cause, from_task=True)
    request_id = str(uuid.uuid4())
    if error.code == "404" and resource.operation in _MISSING:  # there is no body that would say more
        error = AWSError(_MISSING[resource.operation], "null", status=404)
    modelled = _exceptions(resource.botocore).get(error.code)
    if (resource.botocore, modelled) == ("s3", "AccessDenied"):
        modelled = None  # the model has it for one operation alone; Step Functions says S3.S3Exception
    if resource.is_sdk:
        name = None if modelled is None else exception_name(modelled)
        prefix = _prefix(resource)
        extended = f", Extended Request ID: {uuid.uuid4().hex}" if resource.service == "s3" else ""
        return StateFailed(
            f"{prefix}.{name or prefix + 'Exception'}",
            f"{error.message} (Service: {prefix}, Status Code: {error.status}, "
            f"Request ID: {request_id}{extended}) (SDK Attempt Count: 1)",
            from_task=True,
        )
    name = modelled if modelled is None or modelled.endswith("Exception") else f"{modelled}Exception"
    names = ERROR_NAMES[resource.service]
    # Step Functions asks for a function's latest version, and Lambda's words name it.
    latest = ":$LATEST" if re.fullmatch(r"Function not found: [^:]+(:[^:]+){6}", error.message) else ""
    return StateFailed(
        f"{names.prefix}.{name or names.base}",
        f"{error.message}{latest} (Service: {names.service}; Status Code: {error.status}; "
        f"Error Code: {error.code}; Request ID: {request_id}; Proxy: null)",
        from_task=True,
    )


def _prefix(resource: Resource) -> str:
    """What the names of the service's errors begin with."""
    if resource.is_sdk:
        return SDK_ERROR_PREFIXES.get(resource.service, resource.service.capitalize())
    return ERROR_NAMES[resource.service].prefix


_MISSING = {"HeadBucket": "NoSuchBucket", "HeadObject": "NoSuchKey"}


@lru_cache
def _exceptions(service: str) -> dict[str, str]:
    """The exceptions that the service's model has, by an error's code."""
    model = apis.model(service)
    exceptions = {}
    for name in model.shape_names:
        metadata = model.shape_for(name).metadata
        if metadata.get("exception"):
            exceptions[name] = name
            exceptions[metadata.get("error", {}).get("code") or name] = name
    return exceptions
