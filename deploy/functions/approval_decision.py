"""Takes a person's decision: behind a function URL as a page with a form, or invoked directly by who may.

GET and HEAD show and change nothing, so that whatever follows the links of a mail decides nothing. The form's
POST decides, once. A direct call (`stagegate approve`, the console) needs no link: IAM says who it is.
"""

import base64
import binascii
import json
import logging
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import approval_webhook
from approval_caller import NotKnown, caller_of
from approval_facts import NotReadable, address_of
from approval_links import DECISIONS, LOOK, TESTS, form_token, is_form_token, is_signed, link, new_nonce
from approval_pages import HEADERS, form_page, look_page, message_page
from approval_text import class_columns, class_rows, facts
from approval_votes import Refused, Wish, decide
from approvals import Approval, find, moment, said
from botocore.exceptions import BotoCoreError, ClientError

BODY_BYTES = 16_384
FIELDS = 20
FORM = "application/x-www-form-urlencoded"
COOKIE = "stagegate-form"
METHODS = ("GET", "HEAD", "POST")

logger = logging.getLogger()
logger.setLevel(logging.INFO)

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What we take of a function URL's request."""

    method: str
    query: dict[str, str]
    headers: dict[str, str]
    nonce: str
    """The cookie of the page whose form this is."""
    source: str
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    page: str
    nonce: str = ""
    """A cookie to set."""
    location: str = ""
    """Where to go instead."""


def handler(event: Json, context: object) -> Json:
    if "http" in event.get("requestContext", {}):
        return _respond_to(event)
    if event.get("show"):
        return show_directly(event)
    return decide_directly(event)


def show_directly(event: Json) -> Json:
    """What mail and page show of an approval, for a page of somebody else's. Raises Refused."""
    approval = _known(str(event["approval_id"]))
    return {
        "said": said(approval),
        "facts": facts(approval),
        "class_columns": class_columns(approval),
        "classes": class_rows(approval),
        "matrix": approval.details.get("matrix"),
        "confusions": approval.details["confusions"],
    }


def decide_directly(event: Json) -> Json:
    """`{"message": …}`; raises Refused where the decision does not count."""
    approval_id, decision = str(event["approval_id"]), str(event["decision"])
    try:
        arn = caller_of(event.get("identity") or {}, approval_id=approval_id, decision=decision)
    except NotKnown as error:
        raise Refused(403, str(error)) from error
    wish = Wish(
        decision=decision,
        by=arn,
        source=f"IAM {event.get('source') or ''}".strip()[:300],
        comment=str(event.get("comment") or ""),
    )
    message = decide(_known(approval_id), wish)
    _decided(approval_id, wish)
    return {"message": message}


def _respond_to(event: Json) -> Json:
    method = str(event["requestContext"]["http"].get("method", ""))
    try:
        answer = respond(read_request(event))
    except Refused as refused:
        _log_refusal(event, refused)
        answer = Answer(status=refused.status, page=message_page("This does not count", refused.message))
    except (ClientError, BotoCoreError, TimeoutError):
        # What was written stays written: the run takes it in its next round at the latest.
        logger.exception("A service failed")
        answer = Answer(
            status=503,
            page=message_page("Try again", "A service did not answer. Open the link again in a moment."),
        )
    headers = HEADERS | ({"Allow": ", ".join(METHODS)} if answer.status == 405 else {})
    if answer.location:
        headers |= {"Location": answer.location}
    response: Json = {
        "statusCode": answer.status,
        "headers": headers,
        "body": "" if method == "HEAD" else answer.page,
    }
    if answer.nonce:
        secure = "; Secure" if _headers(event).get("x-forwarded-proto") == "https" else ""
        response["cookies"] = [f"{COOKIE}={answer.nonce}; HttpOnly; SameSite=Strict; Max-Age={3600}{secure}"]
    return response


def _log_refusal(event: Json, refused: Refused) -> None:
    http = event["requestContext"]["http"]
    told = {
        "status": refused.status,
        "why": refused.message,
        "method": http.get("method"),
        "from": http.get("sourceIp"),
        "user_agent": str(http.get("userAgent", ""))[:200],
    }
    logger.warning("refused: %s", json.dumps(told))


def read_request(event: Json) -> Request:
    """Raises Refused for a body that is too large or no Base64."""
    body = str(event.get("body") or "")
    if len(body) > 2 * BODY_BYTES:
        raise Refused(413, "The request is too large.")
    try:
        content = base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else body.encode()
    except (binascii.Error, ValueError) as error:
        raise Refused(400, "The request cannot be read.") from error
    http = event["requestContext"]["http"]
    cookies = [str(cookie).partition("=") for cookie in event.get("cookies") or ()]
    return Request(
        method=str(http.get("method", "")),
        query=_pairs(str(event.get("rawQueryString") or "")),
        headers=_headers(event),
        nonce=next((value for name, _, value in cookies if name == COOKIE), ""),
        source=f"{http.get('sourceIp', '')} {http.get('userAgent', '')}".strip()[:300],
        body=content,
    )


def respond(request: Request) -> Answer:
    """The status and the page. Raises Refused where there is nothing to show or to decide."""
    if request.method not in METHODS:
        raise Refused(405, "This page is opened, and its form is sent; nothing else.")
    if request.method == "POST":
        form = _form(request)
        return _decide(_linked(form), form, request)
    approval = _linked(request.query)
    if request.query["decision"] == TESTS:
        return _test_report(approval)
    if not approval.is_pending or request.query["decision"] == LOOK:
        return Answer(status=200, page=look_page(approval))
    return _form_again(approval, request.query)


def _test_report(approval: Approval) -> Answer:
    """Lead to the report itself, which whoever has the link may read for some minutes."""
    try:
        return Answer(status=303, page="", location=address_of(approval.details["test_report"]))
    except (KeyError, NotReadable) as error:
        raise Refused(404, "The tests left no report, or it was removed.") from error


def _linked(query: dict[str, str]) -> Approval:
    """The approval that a signed link names. Raises Refused for any other link."""
    if not is_signed(query):
        raise Refused(403, "This link is not one of ours, or it was changed on the way.")
    approval = _known(query["id"])
    if approval.is_pending and approval.expires_at <= time.time():
        raise Refused(410, f"The request expired at {moment(approval.expires_at)}. Nothing was decided.")
    return approval


def _known(approval_id: str) -> Approval:
    approval = find(approval_id)
    if approval is None:
        raise Refused(404, "This approval does not exist, or it was removed long after it had ended.")
    return approval


def _form(request: Request) -> dict[str, str]:
    """The form's fields. Raises Refused for one that is not from our own page, opened in this browser."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Refused(403, "The form was sent from another site.")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise Refused(415, f"The form is sent as {FORM}.")
    if len(request.body) > BODY_BYTES:
        raise Refused(413, "The form is too large.")
    form = _pairs(request.body.decode(errors="replace"))
    if not is_signed(form) or form["decision"] not in DECISIONS:
        raise Refused(403, "This link is not one of ours, or it was changed on the way.")
    if not is_form_token(form.get("form_token", ""), form, request.nonce):
        raise Refused(
            403,
            "The form is not from a page that this browser opened within the last hour: open the link again.",
        )
    return form


def _decide(approval: Approval, form: dict[str, str], request: Request) -> Answer:
    approvers = approval.rules.approvers
    wish = Wish(
        decision=form["decision"],
        by=approvers[int(form["approver"])]
        if form["approver"]
        else form.get("decided_by", "").strip().lower(),
        source=request.source,
        comment=form.get("comment", ""),
    )
    try:
        message = decide(approval, wish)
    except Refused as refused:
        if refused.status != 422:
            raise
        return _form_again(approval, form, said_wrong=refused.message)
    _decided(approval.approval_id, wish)
    return Answer(status=200, page=message_page("Thank you", message))


def _decided(approval_id: str, wish: Wish) -> None:
    logger.info(
        "decided: %s", json.dumps({"approval_id": approval_id, "decision": wish.decision, "by": wish.by})
    )
    approval_webhook.announce(_known(approval_id), "approval.decided")


def _form_again(approval: Approval, query: dict[str, str], *, said_wrong: str = "") -> Answer:
    opposite = "reject" if query["decision"] == "approve" else "approve"
    nonce = new_nonce()
    page = form_page(
        approval,
        query,
        token=form_token(query, nonce),
        opposite=_beside(approval, query, opposite),
        report=_beside(approval, query, TESTS) if "test_report" in approval.details else "",
        typed=query,
        said_wrong=said_wrong,
    )
    return Answer(status=422 if said_wrong else 200, page=page, nonce=nonce)


def _beside(approval: Approval, query: dict[str, str], decision: str) -> str:
    """Another link of the same approver's, from the page that has this one."""
    return link(
        "",
        approval_id=approval.approval_id,
        decision=decision,
        approver=query["approver"],
        expires_at=approval.expires_at,
    )


def _headers(event: Json) -> dict[str, str]:
    return {str(name).lower(): str(value) for name, value in (event.get("headers") or {}).items()}


def _pairs(text: str) -> dict[str, str]:
    try:
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS))
    except ValueError as error:
        raise Refused(400, "The request has too many fields.") from error
