"""AWS's request and response formats, from botocore's own service models.

JSON, REST-JSON and CBOR are read and written here; the query protocol and S3's through `moto.core.parse` and
`moto.core.serialize` (moto is pinned, and tests/local/test_protocol.py says what is relied upon).
What services see is what boto3 shows: blobs are bytes, timestamps are aware datetimes, None is absence.
"""

import base64
import binascii
import json
import math
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from botocore.utils import parse_timestamp

from stagegate.local import apis, cbor, event_stream
from stagegate.local.apis import CBOR, EC2, JSON, QUERY, REST_JSON, REST_XML, Target
from stagegate.local.messages import HttpRequest, HttpResponse
from stagegate.local.service import AWSError

_QUERY_NAMESPACE = "http://webservices.amazon.com/AWSFault/2005-15-09"


def parse(target: Target, request: HttpRequest, host: str) -> dict[str, Any]:
    """The operation's members; a SerializationException where the body is not what the protocol says."""
    operation = apis.operation_model(target.service, target.operation)
    try:
        if target.protocol == JSON:
            return dict(_from_document(operation.input_shape, _json(request.body)))
        if target.protocol == CBOR:
            document = cbor.decode(request.body) if request.body else {}
            return dict(_from_document(operation.input_shape, document))
        if target.protocol == REST_JSON:
            return _parse_rest_json(target, operation, request)
        return _with_empty_body(operation, _parse_with_moto(target, operation, request, host))
    except AWSError:
        raise
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        code = "MalformedInput" if target.protocol in (QUERY, EC2) else "SerializationException"
        raise AWSError(code, f"The request to {target.operation} cannot be read: {error}") from error


def _with_empty_body(operation: Any, members: dict[str, Any]) -> dict[str, Any]:
    """A body without bytes is a body too, where the operation must have one (InvokeEndpoint)."""
    shape = operation.input_shape
    payload: str | None = shape.serialization.get("payload") if shape else None
    if payload is None or members.get(payload) is not None or payload not in shape.required_members:
        return members
    return {**members, payload: b""} if shape.members[payload].type_name == "blob" else members


def write(target: Target, result: Mapping[str, Any] | None) -> HttpResponse:
    """`result` as the response to the operation."""
    operation = apis.operation_model(target.service, target.operation)
    result = result or {}
    request_id = str(uuid.uuid4())
    if target.protocol == JSON:
        body = _dumps(_to_document(operation.output_shape, result, binary=False))
        return _answer(200, request_id, _json_type(target.service), body)
    if target.protocol == CBOR:
        body = cbor.encode(_to_document(operation.output_shape, result, binary=True))
        return _answer(200, request_id, cbor.CONTENT_TYPE, body, {"smithy-protocol": "rpc-v2-cbor"})
    if target.protocol == REST_JSON:
        return _write_rest_json(operation, result, request_id)
    return _write_xml(target, operation, result, request_id)


def write_error(target: Target, error: AWSError) -> HttpResponse:
    """`error` in the words of the operation's protocol."""
    request_id = str(uuid.uuid4())
    if target.protocol in (QUERY, EC2, REST_XML):
        return _answer(error.status, request_id, "text/xml", _error_xml(target, error, request_id))
    metadata = apis.model(target.service).metadata if target.service in apis.APIS else {}
    named = {} if "Message" in error.members else {"message": error.message}
    members = {**named, **error.members}
    headers = {"x-amzn-errortype": error.code}
    if "awsQueryCompatible" in metadata:
        fault = "Sender" if error.status < 500 else "Receiver"
        headers["x-amzn-query-error"] = f"{error.code};{fault}"
    if target.protocol == CBOR:
        headers["smithy-protocol"] = "rpc-v2-cbor"
        return _answer(
            error.status,
            request_id,
            cbor.CONTENT_TYPE,
            cbor.encode({"__type": error.code, **members}),
            headers,
        )
    if target.protocol == REST_JSON:
        return _answer(error.status, request_id, "application/json", _dumps(members), headers)
    document = _dumps({"__type": error.code, **members})
    return _answer(error.status, request_id, _json_type(target.service), document, headers)


# Reading


def _json(body: bytes) -> Any:
    document = json.loads(body or b"{}")
    if not isinstance(document, dict):
        raise ValueError("the body is not a JSON object")
    return document


def _from_document(shape: Any, value: Any) -> Any:
    """A value of JSON or CBOR as boto3 would have been given it. What the shape does not know is left out, as
    AWS does; a value of the wrong type stays, so that the validation can name it."""
    if shape is None:
        return {}
    kind = shape.type_name
    if kind == "structure":
        if getattr(shape, "is_document_type", False) or not isinstance(value, dict):
            return value
        members = {}
        for name, member in shape.members.items():
            given = value.get(member.serialization.get("name", name))
            if given is not None:
                members[name] = _from_document(member, given)
        return members
    if kind == "list" and isinstance(value, list):
        return [_from_document(shape.member, item) for item in value]
    if kind == "map" and isinstance(value, dict):
        return {key: _from_document(shape.value, item) for key, item in value.items() if item is not None}
    if kind == "blob" and isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error as error:
            raise ValueError(f"{shape.name} is not base64: {error}") from error
    if kind == "timestamp" and not isinstance(value, datetime):
        return _time(value)
    if kind in ("float", "double") and (isinstance(value, int) or value in ("NaN", "Infinity", "-Infinity")):
        return value if isinstance(value, bool) else float(value)
    return value


def _parse_rest_json(target: Target, operation: Any, request: HttpRequest) -> dict[str, Any]:
    shape = operation.input_shape
    if shape is None:
        return {}
    members: dict[str, Any] = {}
    payload = shape.serialization.get("payload")
    in_body = payload is None and any("location" not in each.serialization for each in shape.members.values())
    document = _json(request.body) if in_body else {}
    query = parse_qs(request.query, keep_blank_values=True)
    for name, member in shape.members.items():
        at = member.serialization.get("name", name)
        given: Any = None
        match member.serialization.get("location"):
            case "uri":
                given = _from_text(member, target.path_parameters[at])
            case "querystring" if member.type_name == "list":
                given = [_from_text(member.member, value) for value in query[at]] if at in query else None
            case "querystring":
                given = _from_text(member, query[at][0]) if at in query else None
            case "header":
                value = request.headers.get(at.lower())
                given = None if value is None else _from_text(member, value)
            case "headers":
                prefix = at.lower()
                given = {
                    header[len(prefix) :]: value
                    for header, value in request.headers.items()
                    if header.startswith(prefix)
                }
            case _ if name == payload:
                given = _payload(member, request.body)
            case _ if document.get(at) is not None:
                given = _from_document(member, document[at])
        if given is not None:
            members[name] = given
    return _with_empty_body(operation, members)


def _payload(shape: Any, body: bytes) -> Any:
    if not body:
        return None
    if shape.type_name == "blob":
        return body
    return body.decode() if shape.type_name == "string" else _from_document(shape, _json(body))


def _from_text(shape: Any, text: str) -> Any:
    """What stands in a path, a query or a header."""
    match shape.type_name:
        case "integer" | "long":
            return int(text)
        case "float" | "double":
            return float(text)
        case "boolean":
            return text.lower() == "true"
        case "timestamp":
            return _time(text)
    if shape.serialization.get("jsonvalue"):
        return json.loads(base64.b64decode(text))
    return text


def _parse_with_moto(target: Target, operation: Any, request: HttpRequest, host: str) -> dict[str, Any]:
    from moto.core.parse import PROTOCOL_PARSERS
    from moto.core.request import Request

    parsed_request = Request(request.wsgi_environ(host))
    parser = PROTOCOL_PARSERS[target.protocol](operation, timestamp_parser=_time)
    parsed = parser.parse(
        {
            "method": request.method,
            "values": parsed_request.values,
            "headers": parsed_request.headers,
            "body": request.body,
            "url_path": request.path,
            "url_params": dict(target.path_parameters),
        }
    )
    return {name: value for name, value in parsed.items() if value is not None}


def _time(value: Any) -> datetime:
    if isinstance(value, str) and value.replace(".", "", 1).isdigit():
        value = float(value)
    parsed: datetime = parse_timestamp(value)
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


# Writing


def _answer(
    status: int, request_id: str, content_type: str, body: bytes, headers: Mapping[str, str] | None = None
) -> HttpResponse:
    return HttpResponse(
        status=status,
        headers={"content-type": content_type, "x-amzn-requestid": request_id, **(headers or {})},
        body=body,
    )


def _json_type(service: str) -> str:
    version = apis.model(service).metadata.get("jsonVersion", "1.0") if service in apis.APIS else "1.0"
    return f"application/x-amz-json-{version}"


def _dumps(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":"), default=_plain).encode()


def _plain(value: Any) -> Any:
    """Times and bytes where the model has none: in a document, in an error's members."""
    if isinstance(value, datetime):
        return _seconds(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} has no form in JSON: {value!r}")


def _to_document(shape: Any, value: Any, *, binary: bool) -> Any:
    """The members that the model knows, as JSON has them; `binary` keeps bytes and times, as CBOR does."""
    if shape is None:
        return {}
    kind = shape.type_name
    if kind == "structure":
        if getattr(shape, "is_document_type", False):
            return value
        return {
            member.serialization.get("name", name): _to_document(member, value[name], binary=binary)
            for name, member in shape.members.items()
            if value.get(name) is not None
        }
    if kind == "list":
        return [_to_document(shape.member, item, binary=binary) for item in value]
    if kind == "map":
        return {
            key: _to_document(shape.value, item, binary=binary)
            for key, item in value.items()
            if item is not None
        }
    if kind == "timestamp":
        return value if binary else _timestamp(shape, value, default="unixtimestamp")
    if kind == "blob":
        content = value.encode() if isinstance(value, str) else bytes(value)
        return content if binary else base64.b64encode(content).decode()
    if kind in ("float", "double") and not binary and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    return value


def _timestamp(shape: Any, value: datetime, *, default: str) -> float | str:
    form = shape.serialization.get("timestampFormat", default)
    if form == "iso8601":
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if form == "rfc822":
        return format_datetime(value.astimezone(UTC), usegmt=True)
    return _seconds(value)


def _seconds(value: datetime) -> float:
    """Seconds since 1970, to the millisecond, as AWS gives them."""
    return math.floor(value.timestamp() * 1000 + 0.0001) / 1000


def _write_rest_json(operation: Any, result: Mapping[str, Any], request_id: str) -> HttpResponse:
    shape = operation.output_shape
    status = operation.http.get("responseCode", 200)
    if shape is None:
        return _answer(status, request_id, "application/json", b"" if status == 204 else b"{}")
    headers: dict[str, str] = {}
    content: dict[str, Any] = {}
    payload = shape.serialization.get("payload")
    for name, member in shape.members.items():
        value = result.get(name)
        location = member.serialization.get("location")
        if value is None or name == payload:
            continue
        if location == "statusCode":
            status = value
        elif location == "header":
            headers[member.serialization.get("name", name)] = _header(member, value)
        elif location == "headers":
            prefix = member.serialization.get("name", "")
            headers |= {f"{prefix}{key}": str(item) for key, item in value.items()}
        else:
            content[member.serialization.get("name", name)] = _to_document(member, value, binary=False)
    stream = None
    if payload is None:
        body = b"" if status == 204 else _dumps(content)
    elif shape.members[payload].serialization.get("eventstream"):
        body, stream = b"", event_stream.encoded(shape.members[payload], result[payload])
        headers["content-type"] = event_stream.CONTENT_TYPE
    elif shape.members[payload].type_name in ("blob", "string"):
        value = result.get(payload) or b""
        body = value.encode() if isinstance(value, str) else bytes(value)
    else:
        body = _dumps(_to_document(shape.members[payload], result.get(payload) or {}, binary=False))
    content_type = {name.lower(): value for name, value in headers.items()}.pop(
        "content-type", "application/json"
    )
    headers = {name: value for name, value in headers.items() if name.lower() != "content-type"}
    return replace(_answer(status, request_id, content_type, body, headers), stream=stream)


def _header(shape: Any, value: Any) -> str:
    if shape.type_name == "timestamp":
        return str(_timestamp(shape, value, default="rfc822"))
    if shape.type_name == "boolean":
        return "true" if value else "false"
    if shape.serialization.get("jsonvalue"):
        return base64.b64encode(_dumps(value)).decode()
    if shape.type_name == "list":
        return ",".join(str(item) for item in value)
    return str(value)


def _write_xml(target: Target, operation: Any, result: Mapping[str, Any], request_id: str) -> HttpResponse:
    from moto.core.serialize import SerializationContext, get_serializer_class

    serializer = get_serializer_class(target.service, target.protocol)(
        operation, context=SerializationContext(request_id)
    )
    written = serializer.serialize(dict(result))
    body = written["body"]
    return _answer(
        written["status_code"],
        request_id,
        written["headers"].get("Content-Type", "text/xml"),
        body.encode() if isinstance(body, str) else body,
    )


def _error_xml(target: Target, error: AWSError, request_id: str) -> bytes:
    code, message = escape(error.code), escape(error.message)
    further = "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in error.members.items())
    if target.protocol == REST_XML:
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f"<Error><Code>{code}</Code><Message>{message}</Message>{further}"
            f"<RequestId>{request_id}</RequestId></Error>"
        ).encode()
    if target.protocol == EC2:
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>"
            f"<RequestID>{request_id}</RequestID></Response>"
        ).encode()
    namespace = _QUERY_NAMESPACE
    if target.service in apis.APIS:
        namespace = apis.model(target.service).metadata.get("xmlNamespace", namespace)
    fault = "Sender" if error.status < 500 else "Receiver"
    return (
        f'<ErrorResponse xmlns="{namespace}"><Error><Type>{fault}</Type><Code>{code}</Code>'
        f"<Message>{message}</Message>{further}</Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    ).encode()
