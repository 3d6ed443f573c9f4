"""Approvals: what waits for whom and until when, what it is about, and the answer."""

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from stagegate.approvals import Approval, decide, find_approval, list_approvals, show
from stagegate.aws import explained
from stagegate.console.pages import Console
from stagegate.errors import NotFound, ReleaseFailed


def list_page(request: Request) -> Response:
    """Those that wait, or all with `?all=1`; the newest first."""
    console: Console = request.app.state.console
    everything = "all" in request.query_params
    with explained(console.services.config):
        found = list_approvals(console.services, console.platform, pending=not everything)
    return console.page(request, "approvals.html", approvals=found[::-1], everything=everything)


def approval_page(request: Request) -> Response:
    """One of them; the start of its id is enough."""
    console: Console = request.app.state.console
    with explained(console.services.config):
        return _page(request, _found(request))


async def answer(request: Request) -> Response:
    """The form's decision; the page again where it does not count, with what was typed."""
    form = await request.app.state.console.form(request)
    return await run_in_threadpool(_decide, request, form.get("decision", ""), form.get("comment", ""))


def _decide(request: Request, decision: str, comment: str) -> Response:
    console: Console = request.app.state.console
    with explained(console.services.config):
        approval = _found(request)
        try:
            decide(console.services, approval.approval_id, decision=decision, comment=comment)
        except ReleaseFailed as error:
            return _page(request, _found(request), wrong=str(error), comment=comment)
    return RedirectResponse(f"/approvals/{approval.approval_id}", status_code=303)


def _found(request: Request) -> Approval:
    console: Console = request.app.state.console
    try:
        return find_approval(console.services, console.platform, request.path_params["approval_id"])
    except NotFound as error:
        raise HTTPException(404, str(error)) from error


def _page(request: Request, approval: Approval, *, wrong: str = "", comment: str = "") -> Response:
    console: Console = request.app.state.console
    return console.page(
        request,
        "approval.html",
        status=422 if wrong else 200,
        approval=approval,
        shown=show(console.services, approval.approval_id),
        caller=console.services.caller(),
        wrong=wrong,
        comment=comment,
    )


ROUTES = (
    Route("/approvals", list_page),
    Route("/approvals/{approval_id}", approval_page),
    Route("/approvals/{approval_id}", answer, methods=["POST"]),
)
