"""moto behind our endpoint: what our own services do not answer, answered in memory and made durable.

moto works in one thread, as it is not made for more. A request that may change something is answered in a
recorded `Moment` and journaled before the answer goes out; when the server starts, the journal is replayed.
What moto does is repeatable that way, save for the few operations in `_NOT_REPEATABLE`, which are refused.
"""

import asyncio
import functools
import json
import logging
import os
import re
import warnings
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

from stagegate.local import apis
from stagegate.local.apis import Target
from stagegate.local.messages import HttpRequest, HttpResponse
from stagegate.local.moto_answers import check_request, corrected
from stagegate.local.moto_journal import Entry, Journal
from stagegate.local.moto_moment import Moment, instrument, within
from stagegate.local.moto_repairs import repair
from stagegate.local.s3_events import object_events
from stagegate.local.service import Announcement, AWSError

log = logging.getLogger(__name__)

MOTO_BEHIND = frozenset(
    {
        "budgets", "cloudwatch", "dynamodb", "dynamodbstreams", "ec2", "ecr", "iam", "kms", "logs", "s3",
        "secretsmanager", "ses", "sesv2", "sns", "sqs", "ssm", "sts",
    }
)  # fmt: skip
"""The services that moto answers where ours do not."""

_NOT_REPEATABLE = {("ec2", "CreateKeyPair"): b"", ("kms", "CreateKey"): rb'"(RSA|ECC|SM2|ML_DSA)_'}
"""Operations that draw numbers which nothing can draw again, where their body matches."""

_READS = re.compile(
    r"(Get|List|Describe|Head|BatchGet|TransactGet|Select|Search|Filter|Lookup|Simulate|GenerateDataKey).*"
    r"|Query|Scan|Encrypt|Decrypt|ReEncrypt|Sign|Verify|VerifyMac|GenerateMac|GenerateRandom"
)
_WITHOUT_REGION = frozenset({"budgets"})
"""Services that moto knows by a host without one."""
_LOOK_AGAIN_SECONDS = 1.0  # for SQS messages that become visible by the clock

Result = TypeVar("Result")
Handlers = list[tuple[re.Pattern[str], Callable[..., Any]]]


class Moto:
    """Answers requests with moto, one after the other, in a thread of its own. One at a time in a process."""

    def __init__(
        self,
        journal: Journal,
        *,
        host: str,
        account_id: str,
        region: str = "us-east-1",
        announce: Callable[[Announcement], None] = lambda announcement: None,
    ) -> None:
        os.environ["MOTO_ACCOUNT_ID"] = account_id  # where moto looks for it, also at each request
        self._journal = journal
        self._host = host
        self._account_id = account_id
        self._region = region
        self._announce = announce
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="moto")
        self._changing = asyncio.Lock()
        self._queues_changed = asyncio.Event()
        self._handlers: dict[str, Handlers] = {}
        self._birth = journal.birth()

    async def replay(self) -> int:
        """Bring moto to where it was; gives the number of requests that it took."""
        return await self._run(self._replay)

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def answer(self, target: Target, request: HttpRequest) -> HttpResponse:
        """moto's answer. What changed something is in the journal then, though not yet committed."""
        draws = _NOT_REPEATABLE.get((target.service, target.operation))
        if draws is not None and re.search(draws, request.body):
            raise AWSError(
                "UnsupportedOperationException",
                f"{target.service}:{target.operation} with asymmetric keys is not supported: "
                "they could not be made durable.",
            )
        check_request(target, request)
        if target.service == "sqs" and target.operation == "ReceiveMessage":
            return await self._receive_messages(target, request)
        if _READS.fullmatch(target.operation):
            response = await self._run(self._dispatch, target, request)
        else:
            response = await self._change(target, request)
        return corrected(target, request, response)

    async def _change(
        self, target: Target, request: HttpRequest, *, journaled_with: bytes = b""
    ) -> HttpResponse:
        """An answer without `journaled_with` in it has changed nothing that must be remembered."""
        async with self._changing:  # so that the journal has the order in which moto was changed
            moment = Moment.now()
            response = await self._run(self._dispatch_within, moment, target, request)
            if response.status < 400 and journaled_with in response.body:
                events = await self._events(moment, target, request, response)
                await self._journal.add(target, request, moment, response.body)
                for event in events:  # committed together with the entry
                    self._announce(event)
        if target.service in ("sqs", "sns") and not journaled_with:
            self._queues_changed.set()
            self._queues_changed = asyncio.Event()
        return response

    async def _events(
        self, moment: Moment, target: Target, request: HttpRequest, response: HttpResponse
    ) -> list[Announcement]:
        if target.service != "s3":
            return []
        find = functools.partial(object_events, account_id=self._account_id)
        return await self._run(find, target.operation, request, response, moment)

    async def _receive_messages(self, target: Target, request: HttpRequest) -> HttpResponse:
        """moto would wait in its thread, and everybody with it; we wait here."""
        if target.protocol != apis.JSON:
            return await self._change(target, request, journaled_with=b"<Message>")
        members = json.loads(request.body)
        deadline = asyncio.get_running_loop().time() + float(members.get("WaitTimeSeconds") or 0)
        request = replace(request, body=json.dumps(members | {"WaitTimeSeconds": 0}).encode())
        while True:
            changed = self._queues_changed
            response = await self._change(target, request, journaled_with=b'"Messages"')
            left = deadline - asyncio.get_running_loop().time()
            if response.status >= 400 or b'"Messages"' in response.body or left <= 0:
                return response
            try:
                async with asyncio.timeout(min(left, _LOOK_AGAIN_SECONDS)):
                    await changed.wait()
            except TimeoutError:
                pass

    async def _run(self, function: Callable[..., Result], *arguments: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def _replay(self) -> int:
        _forget_everything()
        number = 0
        for number, entry in enumerate(self._journal.entries(), start=1):  # noqa: B007
            self._replay_one(entry)
        self._journal.tidy()
        return number

    def _replay_one(self, entry: Entry) -> None:
        named = f"{entry.target.service}:{entry.target.operation}"
        try:
            if (entry.target.service, entry.target.operation) == ("logs", "PutLogEvents"):
                self._put_log_events(entry)
                answer = b""
            else:
                response = self._dispatch_within(entry.moment, entry.target, entry.request)
                answer = response.body
                if response.status >= 400:
                    log.error("the replay of %s was answered %s: %s", named, response.status, answer[:500])
        except Exception:
            log.exception("the replay of %s failed", named)
            answer = b""
        self._journal.replayed(entry, answer)

    def _put_log_events(self, entry: Entry) -> None:
        """A job's log is most of a journal: past moto's reading and writing, which is 20 times as slow."""
        self._of_service("logs")
        from moto.logs.models import logs_backends

        members = json.loads(entry.request.body)
        with within(entry.moment):
            logs_backends[self._account_id][self._region].put_log_events(
                members["logGroupName"], members["logStreamName"], members["logEvents"]
            )

    def _dispatch_within(self, moment: Moment, target: Target, request: HttpRequest) -> HttpResponse:
        self._of_service(target.service)
        with within(moment):
            return self._dispatch(target, request)

    def _dispatch(self, target: Target, request: HttpRequest) -> HttpResponse:
        from botocore.exceptions import ClientError
        from moto.core.request import Request
        from werkzeug.exceptions import HTTPException

        region = "" if target.service in _WITHOUT_REGION else f"{self._region}."
        endpoint = f"https://{apis.model(target.service).endpoint_prefix}.{region}amazonaws.com"
        handlers = self._of_service(target.service)
        handler = next((handler for url, handler in handlers if url.match(endpoint + request.path)), None)
        if handler is None:
            raise apis.unknown_operation(target.service, target.operation)
        wsgi_request = Request(request.wsgi_environ(self._host))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of errors that moto raises and no model knows
                answer = handler(wsgi_request, wsgi_request.raw_url, wsgi_request.headers)
        except HTTPException as error:
            answer = error.code or 500, dict(error.get_headers()), error.get_body()
        except ClientError as error:
            answer = 400, {}, error.response["Error"]["Message"]
        except NotImplementedError as error:
            log.info("moto: %s", error)
            raise apis.unknown_operation(target.service, target.operation) from error
        status, headers, body = (
            answer if isinstance(answer, tuple) and len(answer) == 3 else (200, {}, answer)
        )
        return HttpResponse(status=int(status), headers=_headers(headers), body=_bytes(body))

    def _of_service(self, service: str) -> Handlers:
        """moto's functions for the service, each with the URLs that it answers, in moto's order."""
        if service not in self._handlers:
            from moto import backends
            from moto.iam import models  # noqa: F401  (else moto would load it within a request)

            instrument()
            with within(replace(self._birth, seed=self._birth.seed + zlib.crc32(service.encode()))):
                regions = backends.get_backend(service)[self._account_id]
                instrument()
                backend = regions[self._region] if self._region in regions else regions["aws"]
            repair(service)
            self._handlers[service] = [(re.compile(url), handler) for url, handler in backend.urls.items()]
        instrument()
        return self._handlers[service]


def _forget_everything() -> None:
    """moto's state is the process's: a runtime that starts after another, as in tests, starts with none."""
    from moto.core import responses
    from moto.core.base_backend import BackendDict
    from moto.core.utils import method_names_from_class

    BackendDict.reset()
    if responses.method_names_from_class is method_names_from_class:  # asked for, unchanged, at each request
        responses.method_names_from_class = functools.cache(method_names_from_class)


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
