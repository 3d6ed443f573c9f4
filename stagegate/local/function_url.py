"""A function's URL: an HTTP request as the event that Lambda makes of it, and back (payload format 2.0)."""

import base64
import json
import time
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from stagegate.local.function_processes import Outcome

_TEXT = ("text/", "application/json", "application/xml", "application/javascript")


async def event_of(request: Request, url_id: str, request_id: str) -> dict[str, Any]:
    """The event of a request (Lambda Developer Guide, "Request payload format")."""
    path = request.url.path.partition(url_id)[2] or "/"
    headers = {name: ",".join(request.headers.getlist(name)) for name in request.headers}
    body = await request.body()
    is_text = headers.get("content-type", "").startswith(_TEXT)
    client = request.client.host if request.client else "127.0.0.1"
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


def response_of(outcome: Outcome) -> Response:
    """What a function's outcome is to its caller (the guide's "Response payload format")."""
    if outcome.error is not None:
        return Response("Internal Server Error", status_code=502, media_type="text/plain")
    result = json.loads(outcome.result)
    if not isinstance(result, dict) or "statusCode" not in result:
        return Response(outcome.result, media_type="application/json")
    body = result.get("body") or ""
    content = base64.b64decode(body) if result.get("isBase64Encoded") else str(body).encode()
    response = Response(content, status_code=int(result["statusCode"]))
    response.headers["content-type"] = "application/json"
    for name, value in (result.get("headers") or {}).items():
        response.headers[name] = str(value)
    for cookie in result.get("cookies") or ():
        response.headers.append("set-cookie", cookie)
    return response
