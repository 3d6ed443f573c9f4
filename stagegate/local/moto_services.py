"""moto behind our endpoint: what our own services do not answer, answered in memory and made durable.

moto works in one thread. A request that may change something is answered in a recorded `Moment` and
journaled before the answer goes out; when the server starts, the journal is replayed.
"""

import asyncio
import logging
import os
import re
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

from stagegate.local import apis
from stagegate.local.apis import Target
from stagegate.local.messages import HttpRequest, HttpResponse
from stagegate.local.moto_journal import Entry, Journal
from stagegate.local.moto_moment import Moment, instrument, within
from stagegate.local.service import AWSError

log = logging.getLogger(__name__)

MOTO_BEHIND = frozenset(
    {
        "cloudwatch", "dynamodb", "dynamodbstreams", "ec2", "ecr", "iam", "kms", "logs", "s3",
        "secretsmanager", "ses", "sesv2", "sns", "sqs", "ssm", "sts",
    }
)  # fmt: skip
"""The services that moto answers where ours do not."""

_READS = re.compile(
    r"^(Get|List|Describe|Head|BatchGet|Query|Scan|Select|Search|Filter|Lookup|Test|Simulate|Check|Encrypt|Decrypt"
    r"|ReEncrypt|Sign|Verify|GenerateData|GenerateMac|GenerateRandom|TransactGet|StartQuery|StopQuery|BatchCheck"
    r"|DecodeAuthorization|OptInPhone)"
)
_REGION = "us-east-1"

Result = TypeVar("Result")


class Moto:
    """Answers requests with moto, one after the other, in a thread of its own."""

    def __init__(self, journal: Journal, *, host: str, account_id: str) -> None:
        os.environ["MOTO_ACCOUNT_ID"] = (
            account_id  # moto reads it from there, when it is loaded and at each request
        )
        self._journal = journal
        self._host = host
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="moto")
        self._changing = asyncio.Lock()

    async def replay(self) -> int:
        """Bring moto to where it was; gives the number of requests that it took."""
        return await self._run(self._replay)

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def answer(self, target: Target, request: HttpRequest) -> HttpResponse:
        """moto's answer. One that changed something is in the journal, though not yet committed."""
        if target.protocol == apis.CBOR:
            raise AssertionError("moto reads no CBOR: it is translated before")
        if _READS.match(target.operation):
            return await self._run(_dispatch, target, request, self._host)
        async with self._changing:  # so that the journal has the order in which moto was changed
            moment = Moment.now()
            response = await self._run(_dispatch_within, moment, target, request, self._host)
            if response.status < 400:
                await self._journal.add(Entry.of(target, request, moment))
        return response

    async def _run(self, function: Callable[..., Result], *arguments: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def _replay(self) -> int:
        number = 0
        for number, entry in enumerate(self._journal.entries(), start=1):  # noqa: B007
            try:
                response = _dispatch_within(entry.moment, entry.target, entry.request, self._host)
            except AWSError as error:
                log.error("replay: %s %s: %s", entry.target.service, entry.target.operation, error)
                continue
            if response.status >= 400:
                log.error(
                    "replay: %s %s answered %s: %s",
                    entry.target.service, entry.target.operation, response.status, response.body[:500],
                )  # fmt: skip
        return number


def _dispatch_within(moment: Moment, target: Target, request: HttpRequest, host: str) -> HttpResponse:
    _handlers(target.service)  # loaded before the moment: what loading draws is not the request's
    with within(moment):
        return _dispatch(target, request, host)


def _dispatch(target: Target, request: HttpRequest, host: str) -> HttpResponse:
    from botocore.exceptions import ClientError
    from moto.core.request import Request
    from werkzeug.exceptions import HTTPException

    aws_url = f"https://{apis.model(target.service).endpoint_prefix}.{_REGION}.amazonaws.com{request.path}"
    handler = next((handler for url, handler in _handlers(target.service) if url.match(aws_url)), None)
    if handler is None:
        raise AWSError(
            "UnknownOperationException", f"{request.method} {request.path} is not implemented.", status=404
        )
    wsgi_request = Request(request.wsgi_environ(host))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # moto's own, of its errors that are not in the model
            answer = handler(wsgi_request, wsgi_request.raw_url, wsgi_request.headers)
    except HTTPException as error:
        answer = error.code or 500, dict(error.get_headers()), error.get_body()
    except ClientError as error:
        answer = 400, {}, error.response["Error"]["Message"]
    except NotImplementedError as error:
        log.info("moto: %s", error)
        raise apis.unknown_operation(target.service, target.operation) from error
    status, headers, body = answer if isinstance(answer, tuple) and len(answer) == 3 else (200, {}, answer)
    return HttpResponse(status=int(status), headers=_headers(headers), body=_bytes(body))


def _headers(headers: Mapping[str, Any]) -> dict[str, str]:
    return {str(name).lower(): str(value) for name, value in headers.items() if name != "status"}


def _bytes(body: Any) -> bytes:
    if isinstance(body, bytes):
        return body
    if isinstance(body, str):
        return body.encode()
    if body is None:
        return b""
    return b"".join(part.encode() if isinstance(part, str) else part for part in body)


@cache
def _handlers(service: str) -> list[tuple[re.Pattern[str], Callable[..., Any]]]:
    """moto's functions for the service, each with the URLs that it answers, in moto's order."""
    from moto import backends
    from moto.core import DEFAULT_ACCOUNT_ID

    regions = backends.get_backend(service)[DEFAULT_ACCOUNT_ID]
    backend = regions[_REGION] if _REGION in regions else regions["aws"]
    handlers = [(re.compile(url), handler) for url, handler in backend.urls.items()]
    instrument()
    return handlers
