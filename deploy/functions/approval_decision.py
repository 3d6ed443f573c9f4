"""Takes a person's decision: behind a function URL as a page with a form, or invoked directly by who may.

GET and HEAD show and change nothing, so that whatever follows the links of a mail decides nothing. The form's
POST decides, once. A direct call (`stagegate approve`) needs no signature: IAM says who may invoke.
"""

import base64
import binascii
import json
import logging
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from approval_pages import HEADERS, decided_page, form_page, message_page
from approvals import Approval, Decision, Refused, decide, is_signed, link, load, moment
from botocore.exceptions import BotoCoreError, ClientError

BODY_BYTES = 16_384
FIELDS = 20
FORM = "application/x-www-form-urlencoded"

logger = logging.getLogger()
logger.setLevel(logging.INFO)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What we take of a function URL's request."""

    method: str
    host: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    if "requestContext" in event and "http" in event["requestContext"]:
        return _respond_to(event)
    wish = Decision(
        decision=str(event["decision"]),
        decided_by=str(event["decided_by"]),
        comment=str(event.get("comment") or ""),
    )
    return {"message": decide(load(str(event["approval_id"])), wish)}


def _respond_to(event: dict[str, Any]) -> dict[str, Any]:
    method = event["requestContext"]["http"]["method"]
    try:
        status, page = respond(read_request(event))
    except Refused as refused:
        logger.warning("refused: %s", json.dumps({"status": refused.status, "why": refused.message}))
        status, page = refused.status, message_page("This does not count", refused.message)
    except (ClientError, BotoCoreError):
        # What was written stays written: the same answer again is taken further.
        logger.exception("A service failed")
        status = 503
        page = message_page("Try again", "A service did not answer. Send your decision again in a moment.")
    headers = HEADERS | ({"Allow": "GET, HEAD, POST"} if status == 405 else {})
    return {"statusCode": status, "headers": headers, "body": "" if method == "HEAD" else page}


def read_request(event: dict[str, Any]) -> Request:
    """Raises Refused for a body that is too large or no Base64."""
    body = str(event.get("body") or "")
    if len(body) > 2 * BODY_BYTES:
        raise Refused(413, "The request is too large.")
    try:
        content = base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else body.encode()
    except (binascii.Error, ValueError) as error:
        raise Refused(400, "The request cannot be read.") from error
    return Request(
        method=event["requestContext"]["http"]["method"],
        host=str(event["requestContext"].get("domainName", "")),
        query=_pairs(str(event.get("rawQueryString") or "")),
        headers={name.lower(): value for name, value in (event.get("headers") or {}).items()},
        body=content,
    )


def respond(request: Request) -> tuple[int, str]:
    """The status and the page. Raises Refused where there is nothing to show or to decide."""
    if request.method not in ("GET", "HEAD", "POST"):
        raise Refused(405, "This page is opened, and its form is sent; nothing else.")
    if request.method == "POST":
        form = _form(request)
        approval = _linked(form)
        return _decide(approval, form)
    approval = _linked(request.query)
    if approval.status != "pending":
        return 200, decided_page(approval)
    return 200, _form_again(approval, request.query)


def _linked(query: dict[str, str]) -> Approval:
    """The approval that a signed link names. Raises Refused for any other link."""
    if not is_signed(query):
        raise Refused(403, "This link is not one of ours, or it was changed on the way.")
    if int(query["expires"]) <= time.time():
        raise Refused(410, f"The request expired at {moment(int(query['expires']))}.")
    return load(query["id"])


def _form(request: Request) -> dict[str, str]:
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Refused(403, "The form was sent from another site.")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise Refused(415, f"The form is sent as {FORM}.")
    if len(request.body) > BODY_BYTES:
        raise Refused(413, "The form is too large.")
    return _pairs(request.body.decode(errors="replace"))


def _decide(approval: Approval, form: dict[str, str]) -> tuple[int, str]:
    wish = Decision(
        decision=form["decision"], decided_by=form.get("decided_by", ""), comment=form.get("comment", "")
    )
    try:
        message = decide(approval, wish)
    except Refused as refused:
        if refused.status != 422:
            raise
        return 422, _form_again(approval, form, said=refused.message)
    logger.info("decided: %s", json.dumps({"approval_id": approval.approval_id, "decision": wish.decision}))
    return 200, message_page("Thank you", message)


def _form_again(approval: Approval, query: dict[str, str], *, said: str = "") -> str:
    opposite = "reject" if query["decision"] == "approve" else "approve"
    return form_page(
        approval, query["decision"], query, other=link("", approval, opposite), typed=query, said=said
    )


def _pairs(text: str) -> dict[str, str]:
    try:
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS))
    except ValueError as error:
        raise Refused(400, "The request has too many fields.") from error
