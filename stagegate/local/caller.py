"""The in-process caller: a service's operation by name, without a socket, as boto3 would give it."""

import inspect
import io
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import Any
from urllib.parse import urlencode

from stagegate.local import apis
from stagegate.local.apis import Target
from stagegate.local.messages import HttpRequest, HttpResponse
from stagegate.local.service import AWSError

_SIGNED = "AWS4-HMAC-SHA256 Credential=local/20260101/{}/{}/aws4_request, SignedHeaders=host, Signature=0"

Method = Callable[..., dict[str, Any] | Awaitable[dict[str, Any] | None] | None]


async def call_method(operation: str, method: Method, members: Mapping[str, Any]) -> dict[str, Any]:
    """The operation of a service of ours. A member that its method does not take is refused by name."""
    takes, takes_all = _parameters(getattr(method, "__func__", method))
    if not takes_all:
        for name in members:
            if name not in takes:
                raise AWSError(
                    "ValidationException",
                    f"{operation}: the member {name} is not supported by Stagegate's local runtime.",
                )
    result = method(**members)
    if inspect.isawaitable(result):
        result = await result
    return dict(result or {})


@cache
def _parameters(method: Callable[..., Any]) -> tuple[frozenset[str], bool]:
    parameters = inspect.signature(method).parameters.values()
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    return frozenset(parameter.name for parameter in parameters), takes_all


def http_request(
    service: str, operation: str, members: Mapping[str, Any], *, region: str
) -> tuple[Target, HttpRequest]:
    """The request that a client of the region would send for the operation."""
    from botocore import handlers
    from botocore.serialize import create_serializer

    api = apis.APIS[service]
    model = apis.operation_model(service, operation)
    members = dict(members)
    if service == "s3" and "CopySource" in members:
        handlers.handle_copy_source_param(members)
    written = create_serializer(api.protocol, include_validation=False).serialize_to_request(members, model)
    body = written["body"]
    if isinstance(body, dict):
        body = urlencode(body)
    elif hasattr(body, "read"):
        body = body.read()
    content = body.encode() if isinstance(body, str) else bytes(body)
    query = written["query_string"]
    path, _, fixed_query = written["url_path"].partition("?")
    headers = {name.lower(): str(value) for name, value in written["headers"].items()}
    request = HttpRequest(
        method=written["method"],
        path=path,
        query="&".join(part for part in (fixed_query, urlencode(query, doseq=True) if query else "") if part),
        headers=headers | {"authorization": _SIGNED.format(region, api.signing_name)},
        body=content,
    )
    return Target(service=service, operation=operation, protocol=api.protocol, path_parameters={}), request


def read_response(target: Target, response: HttpResponse) -> dict[str, Any]:
    """What the response says, without metadata, streams as bytes; an AWSError where it says that."""
    from botocore import handlers
    from botocore.awsrequest import HeadersDict
    from botocore.parsers import create_parser

    operation = apis.operation_model(target.service, target.operation)
    streaming = operation.has_streaming_output and response.status < 300
    # A stream is given as one, so that the parser does not take its bytes for text.
    body = io.BytesIO(response.body) if streaming else response.body
    parsed: dict[str, Any] = create_parser(target.protocol).parse(
        {"headers": HeadersDict(response.headers), "status_code": response.status, "body": body},
        operation.output_shape,
    )
    metadata = parsed.pop("ResponseMetadata", None) or {}
    if response.status >= 300:
        error = parsed.pop("Error", None) or {}
        status = metadata.get("HTTPStatusCode", response.status)
        raise AWSError(error.get("Code") or str(status), error.get("Message") or "", status=status)
    if streaming:
        parsed[operation.output_shape.serialization["payload"]] = response.body
    if target.service == "iam":
        handlers.json_decode_policies(parsed, operation)
    return parsed
