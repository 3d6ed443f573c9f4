"""Functions' URLs: an HTTP request as the event that Lambda makes of it, and back (payload format 2.0)."""

import base64
import json
import secrets
import time
import uuid
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from stagegate.local.service import AWSError, Service

URL = "lambda/url"

Document = dict[str, Any]

_TEXT = ("text/", "application/json", "application/xml", "application/javascript")


class FunctionUrls(Service):
    """A URL for each function that has one, below the endpoint's own."""

    async def create_function_url_config(
        self,
        *,
        FunctionName: str,
        AuthType: str,
        Qualifier: str | None = None,
        Cors: Document | None = None,
        InvokeMode: str = "BUFFERED",
    ) -> Document:
        function = await self._function(FunctionName, Qualifier)
        if self._of(function):
            raise AWSError(
                "ResourceConflictException",
                f"Failed to create function url config for [functionArn = {function['FunctionArn']}]. "
                "Error message:  FunctionUrlConfig exists for this Lambda function",
                status=409,
            )
        if AuthType != "NONE" or Cors or InvokeMode != "BUFFERED":
            raise AWSError(
                "InvalidParameterValueException",
                "The local runtime serves function URLs of AuthType NONE, BUFFERED, without Cors",
            )
        url_id = "".join(secrets.choice("abcdefghijklmnopqrstuvwxyz234567") for _ in range(32))
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        document = {
            "_id": url_id,
            "_function": function["FunctionName"],
            "FunctionUrl": f"{self.runtime.endpoint_url}/_aws/lambda-url/{url_id}/",
            "FunctionArn": function["FunctionArn"],
            "AuthType": AuthType,
            "InvokeMode": InvokeMode,
            "CreationTime": now,
        }
        self.runtime.store.put(URL, url_id, document | {"LastModifiedTime": now})
        return _public(document)

    async def get_function_url_config(self, *, FunctionName: str, Qualifier: str | None = None) -> Document:
        return _public(self._url(await self._function(FunctionName, Qualifier)))

    async def list_function_url_configs(
        self, *, FunctionName: str, Marker: str | None = None, MaxItems: int | None = None
    ) -> Document:
        """A function has one at most."""
        urls = self._of(await self._function(FunctionName))
        return {"FunctionUrlConfigs": [_public(url) for url in urls]}

    async def delete_function_url_config(
        self, *, FunctionName: str, Qualifier: str | None = None
    ) -> Document:
        self.runtime.store.delete(URL, self._url(await self._function(FunctionName, Qualifier))["_id"])
        return {}

    async def handle_url(self, url_id: str, request: Request) -> Response:
        """Answer a request to a function's URL."""
        url = self.runtime.store.get(URL, url_id)
        if url is None:
            return Response('{"Message":null}', status_code=404, media_type="application/json")
        event = await event_of(request, url_id, str(uuid.uuid4()))
        invocation = {"FunctionName": url["_function"], "Payload": json.dumps(event).encode()}
        try:
            answer = await self.runtime.aws("lambda", "Invoke", invocation)
        except AWSError as error:
            if error.code != "RequestTooLargeException":
                raise
            text = json.dumps({"Message": error.message})
            return Response(text, status_code=413, media_type="application/json")
        if "FunctionError" in answer:
            return Response("Internal Server Error", status_code=502, media_type="text/plain")
        return response_of(answer["Payload"])

    async def _function(self, name: str, qualifier: str | None = None) -> Document:
        """The function's description. Raises AWSError where there is none."""
        request = {"FunctionName": name, "Qualifier": qualifier}
        return await self.runtime.aws("lambda", "GetFunctionConfiguration", request)

    def _of(self, function: Document) -> list[Document]:
        name = function["FunctionName"]
        return [url for url in self.runtime.store.list(URL) if url["_function"] == name]

    def _url(self, function: Document) -> Document:
        for url in self._of(function):
            return url
        raise AWSError("ResourceNotFoundException", "The resource you requested does not exist.", status=404)


async def event_of(request: Request, url_id: str, request_id: str) -> dict[str, Any]:
    """The event of a request (Lambda Developer Guide, "Request payload format")."""
    path = request.url.path.partition(url_id)[2] or "/"
    client = request.client.host if request.client else "127.0.0.1"
    headers = {name: ",".join(request.headers.getlist(name)) for name in request.headers} | {
        "x-forwarded-for": client,
        "x-forwarded-port": str(request.url.port or 80),
        "x-forwarded-proto": request.url.scheme,
    }
    body = await request.body()
    is_text = headers.get("content-type", "").startswith(_TEXT)
    parameters: dict[str, list[str]] = {}
    for name, value in request.query_params.multi_items():
        parameters.setdefault(name, []).append(value)
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": request.url.query,
        "headers": headers,
        "requestContext": {
            "accountId": "anonymous",
            "apiId": url_id,
            "domainName": headers.get("host", ""),
            "domainPrefix": url_id,
            "http": {
                "method": request.method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": client,
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": request_id,
            "routeKey": "$default",
            "stage": "$default",
            "time": datetime.now(UTC).strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "timeEpoch": int(time.time() * 1000),
        },
        "isBase64Encoded": bool(body) and not is_text,
    }
    if cookies := headers.get("cookie"):
        event["cookies"] = cookies.split("; ")
    if parameters:
        event["queryStringParameters"] = {name: ",".join(values) for name, values in parameters.items()}
    if body:
        event["body"] = body.decode(errors="replace") if is_text else base64.b64encode(body).decode()
    return event


def response_of(payload: bytes) -> Response:
    """What a function's result is to its caller (the guide's "Response payload format")."""
    result = json.loads(payload)
    if not isinstance(result, dict) or "statusCode" not in result:
        return Response(payload, media_type="application/json")
    body = result.get("body") or ""
    content = base64.b64decode(body) if result.get("isBase64Encoded") else str(body).encode()
    response = Response(content, status_code=int(result["statusCode"]))
    response.headers["content-type"] = "application/json"
    for name, value in (result.get("headers") or {}).items():
        response.headers[name] = str(value)
    for cookie in result.get("cookies") or ():
        response.headers.append("set-cookie", cookie)
    return response


def _public(document: Document) -> Document:
    return {member: value for member, value in document.items() if member[0] != "_"}
