"""What signs the links of the mails, and the forms behind them: HMAC-SHA-256 with a key in Secrets Manager.

Two keys are valid: the current one signs; the one before it, which Secrets Manager keeps as AWSPREVIOUS,
still verifies. So a rotation leaves the links that are in mailboxes alone, and a second one ends them.
"""

import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Mapping
from urllib.parse import urlencode

from approval_aws import client, error_code
from botocore.exceptions import ClientError

DECISIONS = ("approve", "reject")
LOOK = "look"
"""In place of a decision: a link that shows what is asked, and takes no answer."""
TESTS = "tests"
"""In place of a decision: a link that leads to the report of the endpoint tests."""
FORM_SECONDS = 3600
"""How long after a page was opened its form may be sent."""
LINK = ("id", "decision", "approver", "expires", "signature")
"""The members of a link's query."""
_KEYS_SECONDS = 300
_FORGED_SECONDS = 10
"""A signature that no known key made may be a new key's: asked for at most so often."""

_known: tuple[float, list[bytes]] = (0.0, [])


def link(base: str, *, approval_id: str, decision: str, approver: str, expires_at: int) -> str:
    """The address that shows the approval; `approver` is the number of who is asked, or "" for a topic."""
    query = {"id": approval_id, "decision": decision, "approver": approver, "expires": str(expires_at)}
    signature = _sign(_keys()[0], "link", *query.values())
    return f"{base}?{urlencode(query | {'signature': signature})}"


def is_signed(query: Mapping[str, str]) -> bool:
    """Whether a link's query is one of ours, untouched."""
    members = [query.get(name, "") for name in LINK]
    return members[1] in (*DECISIONS, LOOK, TESTS) and _is_by_us(members.pop(), "link", *members)


def new_nonce() -> str:
    """What the cookie and the form of one opened page have in common."""
    return secrets.token_urlsafe(24)


def form_token(query: Mapping[str, str], nonce: str) -> str:
    """The form's own token, against cross-site requests: bound to the link, the cookie and the hour."""
    now = str(int(time.time()))
    return f"{now}.{_sign(_keys()[0], 'form', query['signature'], nonce, now)}"


def is_form_token(token: str, query: Mapping[str, str], nonce: str) -> bool:
    opened, _, signature = token.partition(".")
    if not (opened.isascii() and opened.isdigit() and nonce):
        return False
    is_fresh = len(opened) < 12 and 0 <= time.time() - int(opened) + 1 <= FORM_SECONDS
    return _is_by_us(signature, "form", query.get("signature", ""), nonce, opened) and is_fresh


def _is_by_us(signature: str, *parts: str) -> bool:
    if any(_equal(_sign(key, *parts), signature) for key in _keys()):
        return True
    return any(_equal(_sign(key, *parts), signature) for key in _keys(older_than=_FORGED_SECONDS))


def _equal(expected: str, given: str) -> bool:
    return hmac.compare_digest(expected.encode(), given.encode())


def _sign(key: bytes, *parts: str) -> str:
    """The lengths keep one part from running into the next."""
    message = b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in parts)
    return hmac.new(key, message, hashlib.sha256).hexdigest()


def _keys(*, older_than: float = _KEYS_SECONDS) -> list[bytes]:
    """The current key, and the one before where there is one; asked for again when they are that old."""
    global _known
    asked, keys = _known
    if not keys or time.monotonic() - asked > older_than:
        keys = [key for stage in ("AWSCURRENT", "AWSPREVIOUS") if (key := _key(stage))]
        _known = (time.monotonic(), keys)
    return keys


def _key(stage: str) -> bytes | None:
    try:
        secret = client("secretsmanager").get_secret_value(
            SecretId=os.environ["SIGNING_KEY_ARN"], VersionStage=stage
        )
    except ClientError as error:
        if stage == "AWSPREVIOUS" and error_code(error) == "ResourceNotFoundException":
            return None
        raise
    return str(secret["SecretString"]).encode()
