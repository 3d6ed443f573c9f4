"""What is owed to the targets of rules and of schedules: brought to them at least once.

A delivery is written down in the same step as what it follows from, and deleted when its target has taken it:
what had not arrived when the server ended is delivered after the next start.
"""

import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Protocol

from stagegate.local.clock import Clock
from stagegate.local.service import AWSError, Service

log = logging.getLogger(__name__)

_RETRIES = 185  # EventBridge's default: as many, within 24 hours
_MAX_AGE = 24 * 3600
_MAX_WAIT = 60.0

Document = dict[str, Any]


class Call(Protocol):
    """Hands a delivery to its target. Raises AWSError where the target refuses it."""

    def __call__(self, delivery: Document, *, attempt: int) -> Awaitable[None]: ...


class Letter(Protocol):
    """What the dead-letter queue gets of a delivery: the message's body, and attributes of its own."""

    def __call__(self, delivery: Document, *, attempt: int) -> tuple[str, dict[str, str]]: ...


class Deliveries:
    """Those of one service, kept under one kind.

    A delivery has an `id`, a `target` with RetryPolicy and DeadLetterConfig, `since` when it is owed, perhaps
    `not_before` when it may come, and what the service needs to know of it. `ended` is called when it is no
    longer owed, in one step with that.
    """

    def __init__(
        self,
        service: Service,
        kind: str,
        *,
        call: Call,
        letter: Letter,
        ended: Callable[[Document], None] = lambda delivery: None,
        clock: Clock | None = None,
    ) -> None:
        self._service, self._kind = service, kind
        self._call, self._letter, self._ended = call, letter, ended
        self._clock = clock or Clock()

    def resume(self) -> None:
        """After a start: what had not arrived."""
        for delivery in self._service.runtime.store.list(self._kind):
            self._start(delivery)

    def send(self, delivery: Document) -> None:
        self._service.runtime.store.put(self._kind, delivery["id"], delivery)
        self._start(delivery)

    def _start(self, delivery: Document) -> None:
        self._service.spawn(self._deliver(delivery), name=f"delivery {delivery['id']}")

    async def _deliver(self, delivery: Document) -> None:
        """Until the target has taken it, or its retry policy ends; then it goes to the dead-letter queue."""
        store = self._service.runtime.store
        await store.committed()
        if not_before := delivery.get("not_before"):
            await self._clock.until(not_before)
        policy = delivery["target"].get("RetryPolicy", {})
        age = timedelta(seconds=policy.get("MaximumEventAgeInSeconds", _MAX_AGE))
        tries = policy.get("MaximumRetryAttempts", _RETRIES)
        for attempt in range(tries + 1):
            try:
                await self._call(delivery, attempt=attempt)
                break
            except AWSError as error:
                exhausted = None
                if attempt == tries:
                    exhausted = "MaximumRetryAttempts"
                elif self._clock.now() - delivery["since"] > age:
                    exhausted = "MaximumEventAgeInSeconds"
                if exhausted or not _is_passing(error):
                    await self._give_up(delivery, error, attempt=attempt, exhausted=exhausted)
                    break
            wait = timedelta(seconds=min(0.2 * 2**attempt, _MAX_WAIT))
            await self._clock.until(self._clock.now() + wait)
        store.delete(self._kind, delivery["id"])
        self._ended(delivery)

    async def _give_up(
        self, delivery: Document, error: AWSError, *, attempt: int, exhausted: str | None
    ) -> None:
        queue: str | None = delivery["target"].get("DeadLetterConfig", {}).get("Arn")
        if queue is None:
            return
        body, own = self._letter(delivery, attempt=attempt)
        attributes = {
            "ERROR_CODE": error.code,
            "ERROR_MESSAGE": error.message or error.code,
            "TARGET_ARN": delivery["target"]["Arn"],
            "RETRY_ATTEMPTS": str(attempt),
            **({"EXHAUSTED_RETRY_CONDITION": exhausted} if exhausted else {}),
            **own,
        }
        aws = self._service.runtime.aws
        try:
            url = (await aws("sqs", "GetQueueUrl", {"QueueName": queue.rsplit(":", 1)[-1]}))["QueueUrl"]
            await aws(
                "sqs",
                "SendMessage",
                {
                    "QueueUrl": url,
                    "MessageBody": body,
                    "MessageAttributes": {
                        name: {"DataType": "String", "StringValue": value}
                        for name, value in attributes.items()
                    },
                },
            )
        except AWSError as refused:  # EventBridge drops it then
            log.warning("%s: the dead-letter queue %s did not take it: %s", delivery["id"], queue, refused)


def _is_passing(error: AWSError) -> bool:
    """EventBridge tries again where the target was throttled or not there for a moment."""
    return error.status >= 500 or error.status == 429 or "Throttl" in error.code or "TooMany" in error.code
