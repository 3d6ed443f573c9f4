"""What SageMaker's resources have in common: their names, their tags, and how they are listed."""

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from stagegate.local.service import AWSError
from stagegate.local.store import Store

NAME = r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"
SESSION = "SageMaker"
"""The name of the session in which SageMaker takes on a role."""
TAGS = "sagemaker/tags"
MODEL = "sagemaker/model"
CONFIG = "sagemaker/endpoint-config"
ENDPOINT = "sagemaker/endpoint"
TUNED = "sagemaker/tuned-training-job"
"""A training job of a tuning job, written down before it is created."""
OBJECTIVES = "sagemaker/objective-metrics"
"""What such a training job has printed of the objective, while it runs: early stopping goes by it."""

Document = dict[str, Any]


def check_name(value: str, *, member: str, pattern: str = NAME) -> None:
    """Refuse a name that SageMaker would refuse, in its words."""
    if re.fullmatch(pattern, value) is None:
        raise invalid(
            f"1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: "
            f"Member must satisfy regular expression pattern: {pattern}"
        )


def invalid(message: str) -> AWSError:
    return AWSError("ValidationException", message)


def refuse(members: Iterable[tuple[str, object]], *, operation: str) -> None:
    """Refuse members that would change what happens, and that this runtime does not do."""
    for name, value in members:
        if value:
            raise invalid(f"{operation}: {name} is not supported by the local runtime")


def put_tags(store: Store, arn: str, tags: Sequence[Document] | None) -> None:
    """The tags that a resource is created with; none leaves none behind of an earlier one of that name."""
    if tags:
        store.put(TAGS, arn, {"Tags": list(tags)})
    else:
        store.delete(TAGS, arn)


def tags_of(store: Store, arn: str) -> dict[str, str]:
    document = store.get(TAGS, arn) or {"Tags": []}
    return {tag["Key"]: tag["Value"] for tag in document["Tags"]}


def select(
    documents: Iterable[Document],
    *,
    name: str,
    contains: str | None = None,
    created_after: datetime | None = None,
    created_before: datetime | None = None,
    modified_after: datetime | None = None,
    modified_before: datetime | None = None,
    equal: dict[str, Any] | None = None,
) -> list[Document]:
    """The documents that SageMaker's usual filters let through; `name` is the member that holds the name."""
    wanted = {member: value for member, value in (equal or {}).items() if value is not None}
    return [
        document
        for document in documents
        if (contains is None or contains.lower() in str(document.get(name, "")).lower())
        and (created_after is None or document["CreationTime"] > created_after)
        and (created_before is None or document["CreationTime"] < created_before)
        and (modified_after is None or document["LastModifiedTime"] > modified_after)
        and (modified_before is None or document["LastModifiedTime"] < modified_before)
        and all(document.get(member) == value for member, value in wanted.items())
    ]


def order(
    documents: list[Document], *, by: str, default: str = "CreationTime", descending: bool
) -> list[Document]:
    """Sorted by a member; those that are equal keep the order in which they were made (or its reverse)."""
    ordered = sorted(documents, key=lambda document: document[by if by in document else default])
    return ordered[::-1] if descending else ordered


def page(
    documents: Sequence[Document], *, member: str, token: str | None, size: int | None, default: int = 10
) -> Document:
    """One page under `member`, with the token of the next."""
    start = _position(token) if token else 0
    end = start + (size or default)
    answer: Document = {member: list(documents[start:end])}
    if end < len(documents):
        answer["NextToken"] = base64.urlsafe_b64encode(str(end).encode()).decode()
    return answer


def pick(document: Document, members: Iterable[str]) -> Document:
    """The members that the document has."""
    return {member: document[member] for member in members if document.get(member) is not None}


def _position(token: str) -> int:
    try:
        return int(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, binascii.Error) as error:
        raise invalid(f"Invalid NextToken: '{token}'") from error
