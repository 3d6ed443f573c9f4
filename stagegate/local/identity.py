"""Who calls: a session of a role, as STS gives out, or nobody in particular (whoever runs the runtime).

A process of a role has the session's keys in its environment; the session token says which session it is, so
that nothing needs to be kept of it. The runtime checks no signatures.
"""

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

_PREFIX = "stagegate-session-"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A session of a role."""

    role_arn: str
    session: str
    policy: str | None = None
    """The session's own policy, as JSON: what it may do is then in both."""
    expires: int | None = None
    """In seconds since 1970; the sessions of the runtime's own processes have no end."""

    @property
    def account_id(self) -> str:
        return (self.role_arn.split(":") + [""] * 5)[4]

    @property
    def role_name(self) -> str:
        return self.role_arn.rsplit("/", 1)[-1]

    @property
    def arn(self) -> str:
        return f"arn:aws:sts::{self.account_id}:assumed-role/{self.role_name}/{self.session}"

    @property
    def is_expired(self) -> bool:
        return self.expires is not None and time.time() >= self.expires

    @property
    def token(self) -> str:
        members = {"r": self.role_arn, "s": self.session, "p": self.policy, "e": self.expires}
        content = json.dumps({name: value for name, value in members.items() if value is not None})
        return _PREFIX + base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")

    @property
    def access_key(self) -> str:
        digest = hashlib.sha256(self.token.encode()).digest()
        return "ASIA" + base64.b32encode(digest[:10]).decode()

    def environment(self) -> dict[str, str]:
        """The session's keys, as a process finds them."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": hashlib.sha256(self.access_key.encode()).hexdigest()[:40],
            "AWS_SESSION_TOKEN": self.token,
        }


def of_token(token: str) -> Identity | None:
    """Whose token it is; None for one that this runtime has not given out."""
    if not token.startswith(_PREFIX):
        return None
    content = token.removeprefix(_PREFIX)
    try:
        members: dict[str, Any] = json.loads(base64.urlsafe_b64decode(content + "=" * (-len(content) % 4)))
        return Identity(
            role_arn=members["r"], session=members["s"], policy=members.get("p"), expires=members.get("e")
        )
    except (ValueError, KeyError):
        return None


_CALLER: ContextVar[Identity | None] = ContextVar("caller", default=None)


def caller() -> Identity | None:
    """Who has called the operation that is being answered."""
    return _CALLER.get()


@contextmanager
def called_by(identity: Identity | None) -> Iterator[None]:
    before = _CALLER.set(identity)
    try:
        yield
    finally:
        _CALLER.reset(before)
