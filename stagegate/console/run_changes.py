"""What one can do to a run: stop it, redrive it, start it again with another input."""

import json
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from stagegate.aws import explained
from stagegate.console.execution import Execution, read_execution
from stagegate.console.pages import Console
from stagegate.console.run_list import read_json
from stagegate.errors import StagegateError
from stagegate.pipeline import new_run_id, started_by

INPUT_BYTES = 262_144
_FORM_BYTES = 4 * INPUT_BYTES  # a byte is up to three characters of a form


async def stop(request: Request) -> Response:
    await request.app.state.console.form(request)
    return await run_in_threadpool(_stop, request)


def _stop(request: Request) -> Response:
    console, run = _console(request), _read(request)
    with explained(console.services.config):
        cause = f"Stopped in the console by {console.services.caller()}"
        console.services("stepfunctions").stop_execution(executionArn=run.arn, error="Stopped", cause=cause)
    return _to(run.arn)


async def redrive(request: Request) -> Response:
    await request.app.state.console.form(request)
    return await run_in_threadpool(_redrive, request)


def _redrive(request: Request) -> Response:
    console, run = _console(request), _read(request)
    with explained(console.services.config):
        console.services("stepfunctions").redrive_execution(executionArn=run.arn)
    return _to(run.arn)


def again_page(request: Request) -> Response:
    """The form with the run's own input; what is to be new in it is new already."""
    console, run = _console(request), _read_alone(request)
    given = read_json(run.described.get("input", "{}"))
    with explained(console.services.config):
        proposed = _renewed(console, given, given)
    return _again(request, run, text=json.dumps(proposed, indent=2, ensure_ascii=False))


async def again(request: Request) -> Response:
    form = await request.app.state.console.form(request, at_most=_FORM_BYTES)
    return await run_in_threadpool(_start, request, form.get("input", ""))


def _start(request: Request, text: str) -> Response:
    console, run = _console(request), _read_alone(request)
    described = run.described
    machine = (
        described.get("stateMachineAliasArn")
        or described.get("stateMachineVersionArn")
        or described["stateMachineArn"]
    )
    try:
        given = _checked(text)
        with explained(console.services.config):
            started = console.services("stepfunctions").start_execution(
                stateMachineArn=machine,
                name=_name(given),
                input=json.dumps(_owned(console, given, read_json(described.get("input", "{}")))),
            )
    except StagegateError as error:
        return _again(request, run, text=text, wrong=str(error))
    return _to(started["executionArn"])


def _checked(text: str) -> Any:
    """Raises StagegateError for what is no input of an execution."""
    if len(text.encode()) > INPUT_BYTES:
        raise StagegateError(f"The input has {len(text.encode()):,} bytes; it may have {INPUT_BYTES:,}.")
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except ValueError as error:
        raise StagegateError(f"The input is not JSON: {error}") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _renewed(console: Console, given: Any, original: Any) -> Any:
    """Jobs are named after the RunId, and two of one name cannot be."""
    if not isinstance(given, dict):
        return given
    renewed = {
        name: value for name, value in {"RunId": new_run_id(), "Trigger": "person"}.items() if name in given
    }
    return _owned(console, {**given, **renewed}, original)


def _owned(console: Console, given: Any, original: Any) -> Any:
    """Whoever starts it has started it: who may approve a run depends on that."""
    if isinstance(given, dict) and isinstance(original, dict) and "StartedBy" in original:
        return {**given, "StartedBy": started_by(console.services)}
    return given


def _name(given: Any) -> str:
    run_id = given.get("RunId") if isinstance(given, dict) else None
    return run_id if isinstance(run_id, str) else new_run_id()


def _again(request: Request, run: Execution, *, text: str, wrong: str = "") -> Response:
    return _console(request).page(
        request, "run_again.html", status=422 if wrong else 200, run=run, text=text, wrong=wrong
    )


def _read(request: Request) -> Execution:
    console = _console(request)
    with explained(console.services.config):
        return read_execution(console.services, request.path_params["execution_arn"])


def _read_alone(request: Request) -> Execution:
    run = _read(request)
    if run.map_run_arn:
        raise HTTPException(400, "A child of a Map Run is started by it alone: start its run again.")
    return run


def _console(request: Request) -> Console:
    console: Console = request.app.state.console
    if not console.allows_changes:
        raise HTTPException(
            403, "This console only shows: start it with --allow-changes to change something."
        )
    return console


def _to(execution_arn: str) -> Response:
    return RedirectResponse(f"/runs/{execution_arn}", status_code=303)


ROUTES = (
    Route("/runs/{execution_arn:path}/stop", stop, methods=["POST"]),
    Route("/runs/{execution_arn:path}/redrive", redrive, methods=["POST"]),
    Route("/runs/{execution_arn:path}/again", again_page),
    Route("/runs/{execution_arn:path}/again", again, methods=["POST"]),
)
