"""Who calls the function directly: a signed request to STS that the caller made and only STS can check.

A direct invocation does not say who made it. So the caller signs GetCallerIdentity with their own
credentials, together with what they decide, and hands over the headers: STS tells whose signature it is, and
a signature for one decision is none for another. (The way of HashiCorp Vault's IAM authentication.)
"""

import re
import urllib.error
import urllib.request
from typing import Any

from approval_aws import client

BODY = b"Action=GetCallerIdentity&Version=2011-06-15"
BOUND = "x-stagegate-decision"
"""The signed header that says what the signature is for: "approval_id/decision"."""
ALLOWED = ("authorization", "x-amz-date", "x-amz-security-token", "content-type", BOUND)
_ARN = re.compile(r"<Arn>([^<]+)</Arn>")
_TIMEOUT = 10


class NotKnown(Exception):
    """STS does not know the signature, or it was made for something else."""


def caller_of(identity: dict[str, Any], *, approval_id: str, decision: str) -> str:
    """The ARN of whoever signed. Raises NotKnown."""
    headers = {str(name).lower(): str(value) for name, value in identity.items()}
    if unknown := sorted(set(headers) - set(ALLOWED)):
        raise NotKnown(f"The identity has headers that it should not have: {', '.join(unknown)}.")
    if headers.get(BOUND) != f"{approval_id}/{decision}":
        raise NotKnown("The identity was signed for another decision.")
    signed = re.search(r"SignedHeaders=([^,\s]+)", headers.get("authorization", ""))
    if signed is None or BOUND not in signed[1].split(";"):
        raise NotKnown(f"The identity's signature does not cover the header {BOUND}.")
    request = urllib.request.Request(  # noqa: S310
        client("sts").meta.endpoint_url, data=BODY, headers=headers, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:  # noqa: S310
            answer = response.read(65_536).decode()
    except urllib.error.HTTPError as error:
        raise NotKnown(f"STS does not accept the identity: HTTP {error.code}.") from error
    arn = _ARN.search(answer)
    if arn is None:
        raise NotKnown("STS did not say whose signature it is.")
    return arn[1]
