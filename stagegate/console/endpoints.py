"""Endpoints: what serves where and since when, its last hour, its alarms; and what each says of a picture."""

import base64
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from botocore.exceptions import ClientError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stagegate.aws import explained
from stagegate.console.live import Shown, stream
from stagegate.console.pages import PICTURES_POLICY, Attempt, Console, insist
from stagegate.console.plots import Plot, Series, clock, plot
from stagegate.console.uploads import Upload, uploaded
from stagegate.endpoints import Alarm, LastHour, Serving, last_hour, list_alarms, list_serving
from stagegate.errors import ConfigurationError, NotFound
from stagegate.models import CONTENT_TYPES, STAGES, Prediction, invoke

_SMALL = (320, 140)
_PICTURES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png"}


@dataclass(frozen=True, kw_only=True)
class Seen:
    """An endpoint with the pictures of its last hour; without that and the alarms where AWS does not say."""

    endpoint: Serving
    alarms: list[Alarm]
    hour: LastHour | None
    plots: list[Plot]


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a stage's endpoint answered, or why it did not."""

    stage: str
    prediction: Prediction | None
    wrong: str

    @property
    def likeliest(self) -> list[tuple[str, float]]:
        found = self.prediction.probabilities.items() if self.prediction else ()
        return sorted(found, key=lambda it: -it[1])[:5]


def endpoints_page(request: Request) -> Response:
    console: Console = request.app.state.console
    seen = _look(console, partial(console.attempt, request))
    return _page(request, seen, said=[], picture="", name="")


def endpoints_stream(request: Request) -> Response:
    """The endpoints, until none is being deployed."""
    console: Console = request.app.state.console

    def look() -> Shown:
        seen = _look(console)
        parts = {"endpoints": console.part("endpoint_list.html", seen=seen)}
        return Shown(parts=parts, is_final=not _is_moving(seen))

    return stream(console, request, look)


async def predict(request: Request) -> Response:
    """What each stage says of a picture. It changes nothing, and is allowed where nothing else is."""
    upload = await uploaded(request, "picture")
    return await run_in_threadpool(_predict, request, upload)


def _predict(request: Request, upload: Upload) -> Response:
    console: Console = request.app.state.console
    suffix = Path(upload.name).suffix.lower()
    if suffix not in CONTENT_TYPES:
        raise HTTPException(
            400, f"'{upload.name}' should end in one of {', '.join(CONTENT_TYPES)}: that says what it is."
        )
    said = [_ask(console, stage, upload) for stage in STAGES]
    picture = ""
    if kind := _PICTURES.get(suffix):
        picture = f"data:{kind};base64,{base64.b64encode(upload.content).decode()}"
    seen = _look(console, partial(console.attempt, request))
    return _page(request, seen, said=said, picture=picture, name=upload.name)


def _ask(console: Console, stage: str, upload: Upload) -> Said:
    try:
        prediction = invoke(console.services, stage, image=upload.name, body=upload.content)
    except (NotFound, ConfigurationError, ClientError) as error:
        return Said(stage=stage, prediction=None, wrong=str(error))
    except (ValueError, KeyError, IndexError, TypeError) as error:
        return Said(stage=stage, prediction=None, wrong=f"The answer is no prediction: {error!r}")
    return Said(stage=stage, prediction=prediction, wrong="")


def _page(request: Request, seen: list[Seen], *, said: list[Said], picture: str, name: str) -> Response:
    console: Console = request.app.state.console
    page = console.page(
        request,
        "endpoints.html",
        seen=seen,
        is_moving=_is_moving(seen),
        said=said,
        picture=picture,
        name=name,
        endings=",".join(CONTENT_TYPES),
    )
    page.headers["Content-Security-Policy"] = PICTURES_POLICY
    return page


def _is_moving(seen: list[Seen]) -> bool:
    return any(it.endpoint.is_moving for it in seen)


def _look(console: Console, attempt: Attempt = insist) -> list[Seen]:
    with explained(console.services.config):
        return [_seen(console, it, attempt) for it in list_serving(console.services)]


def _seen(console: Console, endpoint: Serving, attempt: Attempt) -> Seen:
    stage, services = endpoint.stage, console.services
    alarms = attempt(f"the alarms of {stage}", lambda: list_alarms(services, endpoint), list[Alarm]())
    hour = attempt(f"the last hour of {stage}", lambda: last_hour(services, endpoint), None)
    return Seen(endpoint=endpoint, alarms=alarms, hour=hour, plots=_plots(hour) if hour else [])


def _plots(hour: LastHour) -> list[Plot]:
    pictures = {
        "Requests a minute": [Series(name="Requests a minute", points=hour.requests)],
        "Errors a minute": [
            Series(name="4xx", points=hour.client_errors),
            Series(name="5xx", points=hour.server_errors),
        ],
        "Latency, ms": [Series(name=name, points=points) for name, points in hour.latency.items()],
        "CPU, % (100 for each core)": [Series(name="CPU, % (100 for each core)", points=hour.processor)],
        "Memory, %": [Series(name="Memory, %", points=hour.memory)],
    }
    drawn = [
        plot(
            title,
            series,
            x_text=clock,
            y_text=lambda value: f"{value:.3g}",
            low=0.0,
            high=max([4.0, *(value for it in series for _, value in it.points)]),
            x_range=(hour.start, hour.end),
            size=_SMALL,
        )
        for title, series in pictures.items()
    ]
    return [it for it in drawn if it]


ROUTES = (
    Route("/endpoints", endpoints_page),
    Route("/endpoints", predict, methods=["POST"]),
    Route("/endpoints/live", endpoints_stream),
)
