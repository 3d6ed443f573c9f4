"""Models: the versions of the group; of each what it is made of, how good it is, who decided."""

from concurrent.futures import ThreadPoolExecutor

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stagegate.approvals import Approval, list_approvals
from stagegate.aws import explained
from stagegate.console.model_comparison import Accuracy, accuracy_of, difference_of, recalls
from stagegate.console.pages import PICTURES_POLICY, Console
from stagegate.console.plots import Plot, Series, plot
from stagegate.console.words import percent
from stagegate.errors import NotFound
from stagegate.evaluations import (
    Evaluation,
    calibration_error,
    overconfidence,
    read_calibration,
    read_evaluation,
    read_mistakes,
    read_object,
)
from stagegate.intervals import interval
from stagegate.models import Endpoint, Model, find_model, list_endpoints, list_models

_LINEAGE = {
    "RunId": "Run",
    "ExecutionArn": "Execution",
    "Commit": "Commit",
    "CodeUri": "Code",
    "StartedBy": "Started by",
    "Trigger": "Trigger",
    "DatasetUri": "Dataset",
    "DatasetSha256": "Dataset's SHA-256",
    "PreprocessedUri": "Prepared data",
    "TrainingJobName": "Training job",
    "AccuracyThreshold": "Gate: accuracy at least",
}
"""Properties of a model package, in the order of a release."""
_READERS = 8
_REPORT_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""Evaluation's report.html is content of a bucket: it is shown, and can do nothing."""


def list_page(request: Request) -> Response:
    """A page of the versions, the newest first; `?begin=` is where a page begins."""
    console: Console = request.app.state.console
    begin = request.query_params.get("begin", "")
    with explained(console.services.config):
        page = list_models(console.services, console.platform, begin=begin)
    accuracies = console.attempt(
        request, "intervals", lambda: _accuracies(console, page.models), dict[str, Accuracy]()
    )
    stages = _stages(_endpoints(request))
    return console.page(
        request, "models.html", page=page, is_first=not begin, stages=stages, accuracies=accuracies
    )


def model_page(request: Request) -> Response:
    """A version, beside the one that production serves."""
    console: Console = request.app.state.console
    with explained(console.services.config):
        model = _found(request)
        endpoints = _endpoints(request)
        evaluation, why = _evaluation(console, model)
        champion = _champion(console, endpoints, model)
        approvals = console.attempt(
            request, "who decided", lambda: _approvals(console, model), list[Approval]()
        )
        before = champion[1] if champion else None
        return console.page(
            request,
            "model.html",
            model=model,
            stages=_stages(endpoints).get(model.arn, []),
            evaluation=evaluation,
            why=why,
            lineage=_lineage(model),
            others=_others(model),
            champion=champion[0] if champion else None,
            champion_evaluation=before,
            accuracy=_accuracy(model, evaluation),
            difference=difference_of(evaluation, before) if evaluation and before else None,
            recalls=recalls(evaluation, before) if evaluation else [],
            approvals=approvals,
            waiting=[it for it in approvals if it.status == "pending"],
        )


def report_page(request: Request) -> Response:
    """The evaluation: what it confuses, class by class, how sure it is, and its worst mistakes."""
    console: Console = request.app.state.console
    with explained(console.services.config):
        model = _found(request)
        evaluation, why = _evaluation(console, model)
        bins, curve, mistakes = [], None, []
        missing = [why] if why else []
        if evaluation:
            try:
                bins = read_calibration(console.services, evaluation.folder)
                curve = _calibration_curve([(it.confidence, it.accuracy) for it in bins])
            except NotFound as error:
                missing.append(str(error))
            try:
                mistakes = read_mistakes(console.services, evaluation.folder)
            except NotFound as error:
                missing.append(str(error))
    page = console.page(
        request,
        "report.html",
        model=model,
        evaluation=evaluation,
        accuracy=_accuracy(model, evaluation),
        recalls={it.name: it for it in recalls(evaluation)} if evaluation else {},
        bins=[(it, interval(it.right, it.images)) for it in bins],
        curve=curve,
        error=calibration_error(bins),
        overconfidence=overconfidence(bins),
        mistakes=mistakes,
        missing=missing,
    )
    page.headers["Content-Security-Policy"] = PICTURES_POLICY
    return page


def report_file(request: Request) -> Response:
    """Evaluation's own report.html."""
    console: Console = request.app.state.console
    with explained(console.services.config):
        folder = _folder(console, _found(request))
        try:
            content = read_object(console.services, f"{folder}/report.html")
        except NotFound as error:
            raise HTTPException(404, str(error)) from error
    return Response(content, media_type="text/html", headers={"Content-Security-Policy": _REPORT_POLICY})


def _found(request: Request) -> Model:
    console: Console = request.app.state.console
    try:
        return find_model(console.services, request.path_params["arn"])
    except NotFound as error:
        raise HTTPException(404, str(error)) from error


def _endpoints(request: Request) -> list[Endpoint]:
    console: Console = request.app.state.console
    what = "what staging and production serve"
    return console.attempt(request, what, lambda: list_endpoints(console.services), [])


def _folder(console: Console, model: Model) -> str:
    return f"s3://{console.platform.data_bucket}/{model.evaluation_prefix}"


def _evaluation(console: Console, model: Model) -> tuple[Evaluation | None, str]:
    """What was measured, or why that is not known."""
    if not model.evaluation_prefix:
        return None, "The model package does not say where its evaluation is (EvaluationPrefix)."
    try:
        return read_evaluation(console.services, _folder(console, model)), ""
    except NotFound as error:
        return None, str(error)


def _accuracy(model: Model, evaluation: Evaluation | None) -> Accuracy | None:
    return accuracy_of(evaluation, model.properties.get("AccuracyThreshold", "")) if evaluation else None


def _accuracies(console: Console, models: list[Model]) -> dict[str, Accuracy]:
    """By ARN, of those whose evaluation can be read."""
    folder = f"s3://{console.platform.data_bucket}"

    def read(model: Model) -> Accuracy | None:
        try:
            return accuracy_of(read_evaluation(console.services, f"{folder}/{model.evaluation_prefix}"))
        except NotFound:
            return None

    evaluated = [model for model in models if model.evaluation_prefix]
    with ThreadPoolExecutor(max_workers=_READERS) as pool:
        found = zip(evaluated, pool.map(read, evaluated), strict=True)
        return {model.arn: accuracy for model, accuracy in found if accuracy}


def _champion(
    console: Console, endpoints: list[Endpoint], model: Model
) -> tuple[Model, Evaluation | None] | None:
    """What production serves, where that is another version."""
    serving = next((it.model_package_arn for it in endpoints if it.stage == "production"), "")
    if not serving or serving == model.arn:
        return None
    try:
        champion = find_model(console.services, serving)
    except NotFound:
        return None
    return champion, _evaluation(console, champion)[0]


def _stages(endpoints: list[Endpoint]) -> dict[str, list[str]]:
    """Where each model package serves."""
    stages: dict[str, list[str]] = {}
    for endpoint in endpoints:
        stages.setdefault(endpoint.model_package_arn, []).append(endpoint.stage)
    return stages


def _approvals(console: Console, model: Model) -> list[Approval]:
    found = list_approvals(console.services, console.platform, pending=False)
    return [approval for approval in found if approval.model_package_arn == model.arn]


def _lineage(model: Model) -> list[tuple[str, str, str]]:
    """What it says, the value, and the page of it; empty where there is none."""
    return [
        (title, model.properties[name], _page_of(name, model.properties[name]))
        for name, title in _LINEAGE.items()
        if model.properties.get(name)
    ]


def _page_of(name: str, value: str) -> str:
    pages = {"TrainingJobName": "/jobs/training/", "ExecutionArn": "/runs/"}
    return f"{pages[name]}{value}" if name in pages else ""


def _others(model: Model) -> dict[str, str]:
    """The properties that no other part of the page shows: decisions, and a team's own."""
    shown = {*_LINEAGE, "Accuracy", "EvaluationPrefix"}
    return {name: value for name, value in sorted(model.properties.items()) if name not in shown}


def _calibration_curve(points: list[tuple[float, float]]) -> Plot | None:
    return plot(
        "Calibration",
        [Series(name="Calibration", points=points)],
        x_text=percent,
        y_text=percent,
        low=0.0,
        high=1.0,
        x_range=(0.0, 1.0),
        size=(480, 320),
        has_diagonal=True,
    )


ROUTES = (
    Route("/models", list_page),
    Route("/models/{arn:path}/report.html", report_file),
    Route("/models/{arn:path}/report", report_page),
    Route("/models/{arn:path}", model_page),
)
