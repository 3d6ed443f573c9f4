"""Task tokens: what is handed to people and programs, so that they can answer for a task.

An answer is kept in the store before SendTaskSuccess or SendTaskFailure is answered, so it counts also
when the server is killed before the execution has gone on.
"""

import asyncio
import base64
import json
import secrets
import time

from stagegate.local.service import AWSError, Json
from stagegate.local.store import Store

_KIND = "stepfunctions/task-token"
_PREFIX = "AQCg"


def issue_token(execution_arn: str) -> str:
    """A token that can't be guessed, and that can be told from no token when its task has ended."""
    content = json.dumps({"execution": execution_arn, "secret": secrets.token_urlsafe(24)})
    return _PREFIX + base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


def _execution_of(token: str) -> str:
    try:
        content = token.removeprefix(_PREFIX)
        decoded = json.loads(base64.urlsafe_b64decode(content + "=" * (-len(content) % 4)))
        return str(decoded["execution"])
    except (ValueError, TypeError, KeyError):
        raise AWSError("InvalidToken", "Invalid Token: 'Invalid token'") from None


class Tokens:
    """The tokens that wait for an answer."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[str, asyncio.Event] = {}

    def open(self, token: str, *, heartbeat: int | None) -> None:
        if self._store.get(_KIND, token) is None:
            self._store.put(_KIND, token, {"heartbeat": heartbeat, "beat_at": time.time()})

    def close(self, token: str) -> None:
        self._waiting.pop(token, None)
        self._store.delete(_KIND, token)

    def wake(self, token: str | None, event: asyncio.Event) -> None:
        """Set `event` when the token is answered, or its heartbeat comes."""
        if token is not None:
            self._waiting[token] = event

    def take(self, token: str, worker: str | None) -> None:
        """A worker has fetched the task of an activity; from now on its heartbeats count."""
        self._update(token, {**self._document(token), "worker": worker, "beat_at": time.time()})

    def is_taken(self, token: str) -> bool:
        return "worker" in (self._store.get(_KIND, token) or {})

    def worker(self, token: str) -> str | None:
        """The name of the worker that has fetched the task."""
        worker: str | None = (self._store.get(_KIND, token) or {}).get("worker")
        return worker

    def answer(self, token: str | None) -> dict[str, Json] | None:
        document = self._store.get(_KIND, token) if token else None
        return None if document is None else document.get("answer")

    def silence_ends(self, token: str | None) -> float | None:
        """When the next heartbeat must have come."""
        document = self._store.get(_KIND, token) if token else None
        if document is None or document["heartbeat"] is None:
            return None
        return float(document["beat_at"] + document["heartbeat"])

    def succeed(self, token: str, output: str) -> None:
        self._answer(token, {"output": output})

    def fail(self, token: str, error: str | None, cause: str | None) -> None:
        self._answer(token, {"error": error, "cause": cause})

    def beat(self, token: str) -> None:
        self._update(token, {**self._document(token), "beat_at": time.time()})

    def _answer(self, token: str, answer: dict[str, Json]) -> None:
        self._update(token, {**self._document(token), "answer": answer})

    def _document(self, token: str) -> dict[str, Json]:
        _execution_of(token)
        document = self._store.get(_KIND, token)
        if document is None or "answer" in document:
            raise AWSError("TaskTimedOut", "Task Timed Out: 'Provided task does not exist anymore'")
        return document

    def _update(self, token: str, document: dict[str, Json]) -> None:
        if event := self._waiting.get(token):
            event.set()  # before the write, so that who waits comes to its commit in time to wait for it
        self._store.put(_KIND, token, document)
