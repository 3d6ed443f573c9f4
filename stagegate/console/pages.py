"""What every page of the console needs: the services, the templates, and forms that are our own."""

import hmac
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse

from stagegate.aws import Services
from stagegate.deployment import Platform, read_platform

FORM_BYTES = 65_536
FORM_FIELDS = 100


def moment(time: datetime) -> str:
    """In the time of whoever runs the console."""
    return f"{time.astimezone():%Y-%m-%d %H:%M}"


TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters["moment"] = moment


@dataclass(frozen=True, kw_only=True)
class Console:
    """The services that the pages read, and whether they may change anything."""

    services: Services
    allows_changes: bool
    form_token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    """Is in each form: another site cannot read it, and so sends none of them."""

    @property
    def platform(self) -> Platform:
        """As it is now: it may be deployed, or updated, while the console runs."""
        return read_platform(self.services)

    @property
    def where(self) -> str:
        config = self.services.config
        return "this machine" if config.is_local else f"AWS, {config.region}"

    def page(self, request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        html = TEMPLATES.get_template(template).render(console=self, path=request.url.path, **values)
        return HTMLResponse(html, status_code=status)

    async def form(self, request: Request) -> dict[str, str]:
        """The fields of one of our own forms. Raises HTTPException for others, and where none is allowed."""
        if not self.allows_changes:
            raise HTTPException(403, "This console only shows: start it with --allow-changes to decide here.")
        if int(request.headers.get("content-length", FORM_BYTES + 1)) > FORM_BYTES:
            raise HTTPException(413, f"A form has at most {FORM_BYTES:,} bytes.")
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
