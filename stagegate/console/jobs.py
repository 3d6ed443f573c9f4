"""A job: how far it is, why it failed, its curves and its log, which go on while it runs; two of them."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from stagegate.aws import explained
from stagegate.builds import list_builds
from stagegate.console.job_comparison import compared
from stagegate.console.job_curves import Drawn, draw, read_curves
from stagegate.console.live import Shown, stream
from stagegate.console.pages import Console
from stagegate.errors import NotFound
from stagegate.job_logs import LogLine, log_tail, read_log
from stagegate.jobs import KINDS, Job, find_job, list_jobs

_COMPARED = 2
_LISTED = 50


def list_page(request: Request) -> Response:
    """The latest jobs and builds; two jobs are chosen to be compared."""
    console: Console = request.app.state.console
    with explained(console.services.config):
        found = [*list_jobs(console.services), *list_builds(console.services)]
    jobs = sorted(found, key=lambda job: job.created, reverse=True)[:_LISTED]
    return console.page(request, "jobs.html", jobs=jobs, comparable=KINDS)


def job_page(request: Request) -> Response:
    """One of them; without a script it is what it was when it was asked for."""
    console: Console = request.app.state.console
    with explained(console.services.config):
        job = _found(request)

        def plots() -> Drawn:
            return draw([read_curves(console.services, job)])

        def lines() -> list[LogLine]:
            return log_tail(console.services, KINDS[job.kind], job.name)

        return console.page(
            request,
            "job.html",
            job=job,
            plots=console.attempt(request, "its curves", plots, Drawn(metrics=[], usage=[])),
            lines=console.attempt(request, "its log", lines, list[LogLine]()),
        )


def job_stream(request: Request) -> Response:
    """The parts of the page that change, until the job is over."""
    console: Console = request.app.state.console

    def look() -> Shown:
        with explained(console.services.config):
            job = _found(request)
            values = {
                "job": job,
                "plots": draw([read_curves(console.services, job)]),
                "lines": log_tail(console.services, KINDS[job.kind], job.name),
            }
        parts = {name: console.part(f"job_{name}.html", **values) for name in ("state", "curves", "log")}
        return Shown(parts=parts, is_final=job.is_over)

    return stream(console, request, look)


def log_file(request: Request) -> Response:
    """All of the log, as text, a page after the other."""
    console: Console = request.app.state.console
    with explained(console.services.config):
        job = _found(request)
    lines = read_log(console.services, KINDS[job.kind], job.name)
    text = (f"{line.time.isoformat()} {line.text}\n" for line in lines)
    return StreamingResponse(text, media_type="text/plain")


def compare_page(request: Request) -> Response:
    """`?job=training/a&job=training/b`: what they were given and what came of it, each beside the other."""
    console: Console = request.app.state.console
    chosen = [value.partition("/") for value in request.query_params.getlist("job")]
    if len(chosen) != _COMPARED:
        raise HTTPException(400, f"Choose two jobs to compare, not {len(chosen)}.")
    with explained(console.services.config):
        try:
            jobs = [find_job(console.services, kind, name) for kind, _, name in chosen]
        except NotFound as error:
            raise HTTPException(404, str(error)) from error
        curves = [read_curves(console.services, job) for job in jobs]
    return console.page(
        request,
        "compare.html",
        jobs=jobs,
        plots=draw(curves),
        tables=compared(curves),
    )


def _found(request: Request) -> Job:
    console: Console = request.app.state.console
    try:
        return find_job(console.services, request.path_params["kind"], request.path_params["name"])
    except NotFound as error:
        raise HTTPException(404, str(error)) from error


ROUTES = (
    Route("/jobs", list_page),
    Route("/jobs/compare", compare_page),
    Route("/jobs/{kind}/{name}", job_page),
    Route("/jobs/{kind}/{name}/live", job_stream),
    Route("/jobs/{kind}/{name}/log.txt", log_file),
)
