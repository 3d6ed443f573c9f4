"""A signed POST to an address of the user's, so that a chat can show what is asked and what was decided.

The headers are those of the Standard Webhooks specification (standardwebhooks.com): `webhook-id`,
`webhook-timestamp`, and `webhook-signature`, which is HMAC-SHA-256 over "id.timestamp.body". The receiver
gets no link that decides: whoever reads a chat is not asked.
"""

import base64
import hashlib
import hmac
import json
import logging
import os
import time

import urllib3
from approval_aws import client
from approval_links import LOOK, link
from approval_text import facts
from approvals import Approval, said
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

_TRIES = 3
_TIMEOUT = 5

logger = logging.getLogger(__name__)


def announce(approval: Approval, event: str) -> None:
    """`event`: "approval.requested", "approval.decided". A receiver that is not there holds up nothing."""
    url = os.environ.get("WEBHOOK_URL")
    if not url:
        return
    body = json.dumps(_content(approval, event)).encode()
    try:
        secret = client("secretsmanager").get_secret_value(SecretId=os.environ["WEBHOOK_SECRET_ARN"])
    except (ClientError, BotoCoreError) as error:
        logger.warning("the webhook could not be signed: %s", error)
        return
    identity = f"{event}/{approval.approval_id}/{approval.version}"
    for attempt in range(_TRIES):
        try:
            _post(url, body, identity=identity, secret=str(secret["SecretString"]))
            return
        except (HTTPError, ValueError) as error:
            logger.warning("the webhook was not taken: %s", error)
            time.sleep(0.5 * attempt)


def signature(secret: str, *, identity: str, timestamp: str, body: bytes) -> str:
    """`v1,<Base64>`; the secret is Base64 too, with or without its prefix `whsec_`."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{identity}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _post(url: str, body: bytes, *, identity: str, secret: str) -> None:
    if not url.startswith(("https://", "http://")):
        raise ValueError(f"{url} is no http address")
    timestamp = str(int(time.time()))
    headers = {
        "Content-Type": "application/json",
        "webhook-id": identity,
        "webhook-timestamp": timestamp,
        "webhook-signature": signature(secret, identity=identity, timestamp=timestamp, body=body),
    }
    with urllib3.PoolManager() as pool:
        answer = pool.request("POST", url, body=body, headers=headers, timeout=_TIMEOUT, retries=False)
    if answer.status >= 300:
        raise ValueError(f"{url} answered {answer.status}")


def _content(approval: Approval, event: str) -> dict[str, object]:
    base = os.environ.get("DECISION_URL")  # a function does not know its own
    shown = {"approval_id": approval.approval_id, "approver": "", "expires_at": approval.expires_at}
    return {
        "type": event,
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "data": {
            "approval_id": approval.approval_id,
            "subject": approval.subject,
            "status": approval.status,
            "said": said(approval),
            "expires_at": approval.expires_at,
            "facts": dict(facts(approval)),
            "look": link(base, decision=LOOK, **shown) if base else "",
            "answer_with": f"stagegate approve {approval.approval_id}",
        },
    }
