"""What starts a run by itself: rules and schedules with their targets, and what each has started last."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stagegate.aws import explained
from stagegate.console.pages import Console
from stagegate.events import list_rules
from stagegate.inbox import inbox_page


def events_page(request: Request) -> Response:
    console: Console = request.app.state.console
    config = console.services.config
    with explained(config):
        rules = list_rules(console.services)
    ordered = sorted(rules, key=lambda rule: (not rule.name.startswith(config.project), rule.name))
    inbox = inbox_page(config) if config.is_local else ""
    return console.page(request, "events.html", rules=ordered, inbox=inbox)


ROUTES = (Route("/events", events_page),)
