"""How numbers and statuses read on a page."""

from stagegate.console.pages import TEMPLATES
from stagegate.display import duration
from stagegate.intervals import Interval

SHOWN_CHARACTERS = 32_768
"""Of a text: more than a person reads."""


def shortened(text: str, shown: int = SHOWN_CHARACTERS) -> str:
    """Its first characters, and how many that leaves out."""
    left_out = len(text) - shown
    return f"{text[:shown]}… ({left_out:,} characters more)" if left_out > 0 else text


def percent(share: float) -> str:
    """`94.2 %`, and a dash for a number that is none."""
    return f"{100 * share:.1f} %" if share == share else "–"


def share_of(value: str) -> str:
    """An accuracy as a model package has it, which is text; what is no number stays as it is."""
    try:
        return percent(float(value))
    except ValueError:
        return value


def points(difference: float | None) -> str:
    """A difference of two shares, in percentage points with its sign."""
    return "–" if difference is None else f"{100 * difference:+.1f}"


def span(interval: Interval) -> str:
    """`88.4 to 93.1 %`."""
    return f"{100 * interval.low:.1f} to {percent(interval.high)}"


def points_span(interval: Interval, between: str = " to ") -> str:
    """Of a difference: `+9.8 to +18.1`."""
    return f"{points(interval.low)}{between}{points(interval.high)}"


def tone(status: str) -> str:
    """The colour of a status of any of the services: the class `yes`, `no`, `wait` or none."""
    words = status.lower().replace("_", "")
    if any(
        it in words for it in ("fail", "fault", "reject", "rollback", "alarm", "abort", "timedout", "expired")
    ):
        return "no"
    if any(it in words for it in ("progress", "pending", "updating", "creating", "stop", "insufficient")):
        return "wait"
    return "yes" if any(it in words for it in ("approve", "complete", "inservice", "ok", "succe")) else ""


TEMPLATES.filters |= {"percent": percent, "share_of": share_of, "points": points}
TEMPLATES.filters |= {"span": span, "points_span": points_span}
TEMPLATES.filters |= {"duration": duration, "tone": tone}
