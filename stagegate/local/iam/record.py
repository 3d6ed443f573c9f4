"""The record of what roles asked for: each role's action on a resource once, with how it was decided last.

It is kept in the store, and bounded: what was asked for first goes first.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from stagegate.local.iam.policies import Decision
from stagegate.local.iam.resources import Request
from stagegate.local.store import Store

_KIND = "iam/asked"
_MOST = 20_000

Document = dict[str, Any]


class Record:
    def __init__(self, store: Store, *, most: int = _MOST) -> None:
        self._store = store
        self._most = most
        self._asked: dict[str, Document] = {
            _key(document): document
            for document in sorted(store.list(_KIND), key=lambda document: document["FirstAsked"])
        }

    def add(self, role_arn: str, request: Request, decision: Decision) -> None:
        """Written down where it is new; the same again costs nothing."""
        document = {
            "Role": role_arn,
            "Action": request.action,
            "Resource": request.resource,
            "IsAllowed": decision.is_allowed,
            "Statements": list(decision.statements),
            "Reason": decision.reason,
        }
        key = _key(document)
        known = self._asked.get(key)
        if known is not None and document.items() <= known.items():
            return
        document["FirstAsked"] = known["FirstAsked"] if known else datetime.now(UTC)
        self._asked[key] = document
        self._store.put(_KIND, key, document)
        if len(self._asked) > self._most:
            oldest = next(iter(self._asked))
            del self._asked[oldest]
            self._store.delete(_KIND, oldest)

    def all(self) -> Iterable[Document]:
        return self._asked.values()

    def clear(self) -> None:
        for key in self._asked:
            self._store.delete(_KIND, key)
        self._asked.clear()


def _key(document: Document) -> str:
    return " ".join((document["Role"], document["Action"], document["Resource"]))
