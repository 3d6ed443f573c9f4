"""Stacks: their state, what is planned and what has happened on them."""

from collections.abc import Callable
from typing import Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stagegate.aws import Services, explained
from stagegate.console.pages import Console
from stagegate.stacks import find_stack, list_changes, list_events, list_resources, list_stacks

Part = TypeVar("Part")


def list_page(request: Request) -> Response:
    """Every stack of the account and region, ours first."""
    console: Console = request.app.state.console
    with explained(console.services.config):
        stacks = list_stacks(console.services)
    ours = console.services.config.project
    ordered = sorted(stacks, key=lambda stack: (not stack.name.startswith(ours), stack.name))
    return console.page(request, "stacks.html", stacks=ordered)


def stack_page(request: Request) -> Response:
    """One of them: changes that wait to be made, its parameters, outputs, resources and events."""
    console: Console = request.app.state.console
    name = request.path_params["name"]
    with explained(console.services.config):
        stack = find_stack(console.services, name)
        if stack is None:
            raise HTTPException(404, f"There is no stack '{name}'.")
        return console.page(
            request,
            "stack.html",
            stack=stack,
            parameters=_pairs(stack.get("Parameters", ()), "Parameter"),
            outputs=_pairs(stack.get("Outputs", ()), "Output"),
            changes=_part(request, "changes that wait", list_changes, stack),
            resources=_part(request, "its resources", list_resources, stack),
            events=_part(request, "its events", list_events, stack),
        )


def _part(
    request: Request, what: str, read: Callable[[Services, str], list[Part]], stack: dict[str, Any]
) -> list[Part]:
    console: Console = request.app.state.console
    return console.attempt(request, what, lambda: read(console.services, stack["StackId"]), [])


def _pairs(entries: Any, kind: str) -> dict[str, str]:
    return {entry[f"{kind}Key"]: entry.get(f"{kind}Value", "") for entry in entries}


ROUTES = (Route("/stacks", list_page), Route("/stacks/{name}", stack_page))
