"""The record of all decisions: entries that only are added, each with the hash of the one before it.

An entry is written in one transaction with the change that it tells of, so that neither is without the other.
`stagegate audit verify` reads them all and computes the hashes anew.
"""

import hashlib
import json
import os
import random
import time
from dataclasses import dataclass
from typing import Any

from approval_aws import client, error_code
from botocore.exceptions import ClientError

LOG = "approvals"
"""The partition of the record's table: there is one log."""
FIRST = hashlib.sha256(b"stagegate").hexdigest()
"""What the first entry has as the hash of the one before it."""
_TRIES = 40
_WAIT_SECONDS = 0.5


class Changed(Exception):
    """The approval was changed by somebody else meanwhile."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Where an entry stands in the record: its number, from 1 on, and its hash."""

    number: int
    hash: str


def write(content: dict[str, Any], *, changing: dict[str, Any]) -> Entry:
    """Add an entry with this content, together with an update of the approval.

    `changing` is what UpdateItem takes; `:number` and `:hash` in it become the entry's. Raises Changed where
    its condition does not hold.
    """
    for attempt in range(_TRIES):
        last = _last()
        body = json.dumps(
            {"number": last.number + 1, "previous": last.hash, **content}, sort_keys=True, ensure_ascii=False
        )
        entry = Entry(number=last.number + 1, hash=hashlib.sha256(body.encode()).hexdigest())
        values = changing["ExpressionAttributeValues"] | {
            ":number": {"N": str(entry.number)},
            ":hash": {"S": entry.hash},
        }
        try:
            client("dynamodb").transact_write_items(
                TransactItems=[
                    {"Update": changing | {"ExpressionAttributeValues": values}},
                    {"Put": _new(entry, body)},
                ]
            )
            return entry
        except ClientError as error:
            if error_code(error) != "TransactionCanceledException":
                raise
            approval, record = _reasons(error)
            if approval == "ConditionalCheckFailed":
                raise Changed from error
            if "ConditionalCheckFailed" not in record and "Conflict" not in approval + record:
                raise
        # Somebody else wrote an entry of the same number first.
        time.sleep(random.uniform(0, min(_WAIT_SECONDS, 0.01 * 2**attempt)))
    raise TimeoutError(f"The record had no place for a new entry in {_TRIES} tries.")


def _new(entry: Entry, body: str) -> dict[str, Any]:
    return {
        "TableName": os.environ["RECORD_TABLE"],
        "Item": {
            "log": {"S": LOG},
            "number": {"N": str(entry.number)},
            "body": {"S": body},
            "hash": {"S": entry.hash},
        },
        "ConditionExpression": "attribute_not_exists(#number)",
        "ExpressionAttributeNames": {"#number": "number"},
    }


def _last() -> Entry:
    found = client("dynamodb").query(
        TableName=os.environ["RECORD_TABLE"],
        KeyConditionExpression="#log = :log",
        ExpressionAttributeNames={"#log": "log"},
        ExpressionAttributeValues={":log": {"S": LOG}},
        ScanIndexForward=False,
        Limit=1,
        ConsistentRead=True,
    )["Items"]
    if not found:
        return Entry(number=0, hash=FIRST)
    return Entry(number=int(found[0]["number"]["N"]), hash=found[0]["hash"]["S"])


def _reasons(error: ClientError) -> tuple[str, str]:
    """Why the change of the approval and the entry were refused; "None" for the one that was not."""
    codes = [reason.get("Code") or "None" for reason in error.response.get("CancellationReasons", ())]
    return (codes[0], codes[1]) if len(codes) == 2 else ("Unknown", "Unknown")
