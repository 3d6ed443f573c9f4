"""A listing page by page, as most APIs have it: so many entries, and a token for those that follow."""

from collections.abc import Sequence
from typing import Any

from stagegate.local.service import AWSError


def page(
    member: str,
    values: Sequence[Any],
    token: str | None,
    size: int,
    *,
    invalid: str = "ValidationException",
    following: str = "NextToken",
) -> dict[str, Any]:
    """The page that begins at `token` under `member`, and the next page's token where there is one.

    A token that is none of ours is an AWSError with the API's own code, `invalid`.
    """
    if token and not token.isdecimal():
        raise AWSError(invalid, f"The token {token} is not valid.")
    start = int(token or 0)
    answer: dict[str, Any] = {member: list(values[start : start + size])}
    return answer | ({following: str(start + size)} if start + size < len(values) else {})
