"""A tuning job: its training jobs with what each was tried with, and how good they have become."""

from collections.abc import Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stagegate.aws import explained
from stagegate.console.job_curves import number
from stagegate.console.live import Shown, stream
from stagegate.console.pages import Console
from stagegate.console.plots import Plot, Point, Series, plot
from stagegate.errors import NotFound
from stagegate.tuning import Trial, TuningJob, find_tuning_job

_PARTS = ("state", "trials")


def tuning_page(request: Request) -> Response:
    """Without a script it is what it was when it was asked for."""
    console: Console = request.app.state.console
    with explained(console.services.config):
        return console.page(request, "tuning.html", **_values(request))


def tuning_stream(request: Request) -> Response:
    """The parts of the page that change, until the job is over."""
    console: Console = request.app.state.console

    def look() -> Shown:
        with explained(console.services.config):
            values = _values(request)
        parts = {name: console.part(f"tuning_{name}.html", **values) for name in _PARTS}
        return Shown(parts=parts, is_final=values["job"].is_over)

    return stream(console, request, look)


def _values(request: Request) -> dict[str, Any]:
    console: Console = request.app.state.console
    try:
        job = find_tuning_job(console.services, request.path_params["name"])
    except NotFound as error:
        raise HTTPException(404, str(error)) from error
    return {
        "job": job,
        "plot": _plot(job),
        "trials": best_first(job.trials, is_maximum=job.is_maximum),
        "best": next((it for it in job.trials if it.name == job.best), None),
    }


def best_first(trials: Sequence[Trial], *, is_maximum: bool) -> list[Trial]:
    """Those without an objective come last, in the order in which they are given."""

    def badness(trial: Trial) -> float:
        if trial.objective is None:
            return float("inf")
        return -trial.objective if is_maximum else trial.objective

    return sorted(trials, key=badness)


def _plot(job: TuningJob) -> Plot | None:
    """The objective of each training job in the order of their launch, and the best until then."""
    better = max if job.is_maximum else min
    first = job.launched - len(job.trials) + 1
    each: list[Point] = []
    best: list[Point] = []
    for at, trial in enumerate(reversed(job.trials), start=first):
        if trial.objective is not None:
            each.append((at, trial.objective))
            best.append((at, better([trial.objective, *(value for _, value in best[-1:])])))
    series = [Series(name="each", points=each), Series(name="best so far", points=best, is_dashed=True)]
    return plot(f"{job.metric} by training job", series, x_text=_whole, y_text=number)


def _whole(at: float) -> str:
    """Between two jobs there is none."""
    return f"{at:.0f}" if at == round(at) else ""


ROUTES = (
    Route("/jobs/tuning/{name}", tuning_page),
    Route("/jobs/tuning/{name}/live", tuning_stream),
)
