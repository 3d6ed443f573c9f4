"""The record of all decisions: read, and verified by computing its chain of hashes anew.

deploy/functions/approval_record.py writes it: each entry's `body` is JSON with the entry's number and the
hash of the entry before it; its hash is the SHA-256 of that body.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from stagegate.approvals import Approval, list_approvals
from stagegate.aws import Services
from stagegate.deployment import Platform

FIRST = hashlib.sha256(b"stagegate").hexdigest()


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An entry of the record as it is stored."""

    number: int
    hash: str
    body: str

    @property
    def content(self) -> dict[str, Any]:
        """What it says; nothing where it is no JSON object."""
        try:
            content = json.loads(self.body)
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}

    @property
    def time(self) -> datetime:
        return datetime.strptime(self.content["at"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def read_record(services: Services, platform: Platform) -> list[Entry]:
    """Every entry, oldest first."""
    pages = (
        services("dynamodb")
        .get_paginator("query")
        .paginate(
            TableName=platform.approval_record,
            KeyConditionExpression="#log = :log",
            ExpressionAttributeNames={"#log": "log"},
            ExpressionAttributeValues={":log": {"S": "approvals"}},
            ConsistentRead=True,
        )
    )
    return [
        Entry(number=int(item["number"]["N"]), hash=item["hash"]["S"], body=item["body"]["S"])
        for page in pages
        for item in page["Items"]
    ]


def verify(services: Services, platform: Platform, *, expected: str | None = None) -> list[str]:
    """What is wrong with the record, a sentence each; nothing where it is whole.

    `expected` is an entry that was seen before, as `number:hash`: in an execution's output, in a model
    package's properties, or at an earlier verification.
    """
    # The approvals first: what is decided between the two readings is in the record, and not missed in it.
    approvals = list_approvals(services, platform, pending=False)
    entries = read_record(services, platform)
    wrong = [*chain_faults(entries), *approval_faults(entries, approvals)]
    if expected is not None:
        number, _, digest = expected.partition(":")
        found = {str(entry.number): entry.hash for entry in entries}.get(number, "not there")
        if found != digest:
            wrong.append(f"Entry {number} should have the hash {digest}; it is {found}.")
    return wrong


def chain_faults(entries: Sequence[Entry]) -> Iterable[str]:
    """Entries that were changed, taken out or put in."""
    number, previous = 0, FIRST
    for entry in entries:
        if entry.number != number + 1:
            yield f"After entry {number} comes entry {entry.number}: what was between them is missing."
        elif entry.content.get("previous") != previous:
            yield f"Entry {entry.number} does not follow from the one before it."
        if hashlib.sha256(entry.body.encode()).hexdigest() != entry.hash:
            yield f"Entry {entry.number} was changed: its content does not have its hash."
        if entry.content.get("number") != entry.number:
            yield f"Entry {entry.number} says that it is entry {entry.content.get('number')}."
        number, previous = entry.number, entry.hash


def approval_faults(entries: Sequence[Entry], approvals: Sequence[Approval]) -> Iterable[str]:
    """Decisions in the approvals that the record does not have so."""
    by_number = {entry.number: entry for entry in entries}
    for approval in approvals:
        if not approval.record_number:
            if approval.status != "pending" or approval.votes:
                yield f"Approval {approval.approval_id} is {approval.status}, which is not in the record."
            continue
        entry = by_number.get(approval.record_number)
        if entry is None or entry.hash != approval.record_hash:
            yield (
                f"Approval {approval.approval_id} was decided with entry {approval.record_number}, "
                "which is missing or another one."
            )
        recorded = [
            (told["decision"], told["by"], told["comment"])
            for told in (entry.content for entry in entries)
            if told.get("approval_id") == approval.approval_id
            and told.get("decision") != "expire"
            and told["number"] <= approval.record_number  # later ones came after the approvals were read
        ]
        if recorded != [(vote.decision, vote.by, vote.comment) for vote in approval.votes]:
            yield f"The votes of approval {approval.approval_id} are not those in the record."
        status = entry.content.get("status") if entry else None
        if entry and status != approval.status:
            yield f"Approval {approval.approval_id} is {approval.status}; by the record it is {status}."
