"""What every page of the console needs: the services, the templates, and forms that are our own."""

import hmac
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import parse_qsl

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse

from stagegate.aws import Services, explained
from stagegate.console.patience import Pages, Trouble, Troubles
from stagegate.deployment import Platform, read_platform
from stagegate.display import duration, short_trigger
from stagegate.errors import NotReachable, NotSignedIn, SlowedDown, StagegateError

Part = TypeVar("Part")

NAVIGATION = (
    ("/runs", "Runs"),
    ("/approvals", "Approvals"),
    ("/models", "Models"),
    ("/jobs", "Jobs"),
    ("/endpoints", "Endpoints"),
    ("/stacks", "Stacks"),
    ("/events", "Events"),
)
"""The pages that every page leads to: their paths, and what they are called."""

FORM_BYTES = 65_536
FORM_FIELDS = 100
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
PICTURES_POLICY = POLICY.replace("img-src 'self'", "img-src 'self' data:")
"""Of pages with pictures inside them, which are JPEG or PNG."""


def moment(time: datetime) -> str:
    """In the time of whoever runs the console."""
    return f"{time.astimezone():%Y-%m-%d %H:%M}"


def clock(time: datetime) -> str:
    return f"{time.astimezone():%H:%M:%S.%f}"[:-3]


def second(time: datetime) -> str:
    return f"{time.astimezone():%H:%M:%S}"


def written(value: Any) -> str:
    """As JSON that a person reads."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def indented(text: str) -> str:
    """JSON as a person reads it; what is none, or too deep for one, stays as it is."""
    try:
        return written(json.loads(text))
    except (ValueError, RecursionError):
        return text


TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters |= {
    "moment": moment,
    "clock": clock,
    "second": second,
    "duration": duration,
    "short_trigger": short_trigger,
    "written": written,
    "indented": indented,
}
TEMPLATES.globals["navigation"] = NAVIGATION

UNANSWERED = (SlowedDown, NotSignedIn, NotReachable)
"""What passes by itself, or by something that a person does elsewhere."""
NOTICE = '<div class="notice" data-part="notice"></div>'
"""In base.html: where a page says that AWS does not answer."""


def address_of(request: Request) -> str:
    """Of a page, without the console's own."""
    query = request.url.query
    return f"{request.url.path}?{query}" if query else request.url.path


def _missing(request: Request) -> list[tuple[str, StagegateError]]:
    """The parts that the page of this request does without, and why."""
    if not hasattr(request.state, "missing"):
        request.state.missing = []
    missing: list[tuple[str, StagegateError]] = request.state.missing
    return missing


class Attempt(Protocol):
    """Reads a part of a page, which has the default instead where AWS does not answer (`Console.attempt`)."""

    def __call__(self, what: str, read: Callable[[], Part], default: Part) -> Part: ...


def insist(what: str, read: Callable[[], Part], default: Part) -> Part:
    """No part is done without."""
    return read()


@dataclass(frozen=True, kw_only=True)
class Console:
    """The services that the pages read, and whether they may change anything."""

    services: Services
    allows_changes: bool
    pages: Pages = field(default_factory=Pages)
    troubles: Troubles = field(default_factory=Troubles)
    form_token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    """Is in each form: another site cannot read it, and so sends none of them."""

    @property
    def platform(self) -> Platform:
        """As it is now: it may be deployed, or updated, while the console runs."""
        return read_platform(self.services)

    @property
    def where(self) -> str:
        return "this machine" if self.services.config.is_local else "AWS"

    @property
    def account(self) -> str:
        with explained(self.services.config):
            return self.services.account()

    def attempt(self, request: Request, what: str, read: Callable[[], Part], default: Part) -> Part:
        """A part that a page can do without: where AWS does not answer, the page says that it is missing."""
        try:
            with explained(self.services.config):
                return read()
        except UNANSWERED as error:
            self.miss(request, what, error)
            return default

    def miss(self, request: Request, what: str, error: StagegateError) -> None:
        """Have the page say that it is without this."""
        _missing(request).append((what, error))

    def page(self, request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """What a template makes of the values. `account` is given where AWS is not to be asked for it."""
        if "account" not in values:
            values["account"] = self.attempt(request, "the account", lambda: self.account, "")
        html = TEMPLATES.get_template(template).render(console=self, path=request.url.path, **values)
        page = HTMLResponse(html, status_code=status)
        address = address_of(request)
        if missing := _missing(request):
            trouble = self.troubles.of(address, missing[0][1])
            names = [*dict.fromkeys(what for what, _ in missing)]
            return self._noticed(page, address, trouble=trouble, missing=names, status=status)
        if request.method == "GET" and status == 200:
            self.troubles.end(address)
            self.pages.keep(address, page)
        return page

    def unanswered(self, request: Request, error: StagegateError) -> HTMLResponse:
        """The page as it was, with a notice; without one, a page that says what is wrong and asks again."""
        address = address_of(request)
        trouble = self.troubles.of(address, error)
        is_change = request.method != "GET"
        if not is_change and (known := self.pages.latest(address)):
            return self._noticed(known[0], address, trouble=trouble, read=known[1])
        template = TEMPLATES.get_template("trouble.html")
        html = template.render(
            console=self,
            path=request.url.path,
            account="",
            trouble=trouble,
            address=address,
            is_change=is_change,
        )
        page = HTMLResponse(html, status_code=503, headers={"Retry-After": str(trouble.pause)})
        if not is_change:
            page.headers["Refresh"] = str(trouble.pause)
        return page

    def _noticed(
        self,
        page: HTMLResponse,
        address: str,
        *,
        trouble: Trouble,
        missing: list[str] | None = None,
        read: datetime | None = None,
        status: int = 200,
    ) -> HTMLResponse:
        """That page with a notice above it. One with a form is not loaded again while somebody writes."""
        html = bytes(page.body).decode()
        asks_again = 'method="post"' not in html
        notice = self.part(
            "notice.html",
            trouble=trouble,
            missing=missing,
            read=read,
            asks_again=asks_again,
            address=address,
        )
        html = html.replace(NOTICE, f"{NOTICE.removesuffix('</div>')}{notice}</div>", 1)
        noticed = HTMLResponse(html, status_code=status)
        if policy := page.headers.get("Content-Security-Policy"):
            noticed.headers["Content-Security-Policy"] = policy
        if asks_again:
            noticed.headers["Refresh"] = str(trouble.pause)
        return noticed

    def part(self, template: str, **values: Any) -> str:
        """A part of a page, to take the place of an earlier one."""
        return TEMPLATES.get_template(template).render(console=self, **values)

    async def form(self, request: Request, *, at_most: int = FORM_BYTES) -> dict[str, str]:
        """The fields of one of our own forms. Raises HTTPException for others, and where none is allowed."""
        if not self.allows_changes:
            raise HTTPException(
                403, "This console only shows: start it with --allow-changes to change something."
            )
        if int(request.headers.get("content-length", at_most + 1)) > at_most:
            raise HTTPException(413, f"A form has at most {at_most:,} bytes.")
        try:
            form = dict(
                parse_qsl((await request.body()).decode(errors="replace"), max_num_fields=FORM_FIELDS)
            )
        except ValueError as error:
            raise HTTPException(400, f"A form has at most {FORM_FIELDS} fields.") from error
        is_ours = hmac.compare_digest(form.get("form_token", "").encode(), self.form_token.encode())
        if not is_ours or request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            raise HTTPException(403, "The form is not from this console's own page: open the page again.")
        return form
