"""How sure a share is, and the difference of two: intervals at 95 percent.

As deploy/functions/approval_statistics.py has it for the mail, where Stagegate is not installed; a test holds
the two together.
"""

import math
from dataclasses import dataclass

Z = 1.959964
"""The 97.5 percent point of the normal distribution."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference is more than chance."""
        return self.low > 0 or self.high < 0


def interval(right: int, total: int) -> Interval:
    """Wilson's score interval of a share, which holds for few images and near 1 too (Wilson, 1927)."""
    if total == 0:
        return Interval(low=0.0, high=1.0)
    share, z2 = right / total, Z * Z
    centre = share + z2 / (2 * total)
    spread = Z * math.sqrt(share * (1 - share) / total + z2 / (4 * total * total))
    scale = 1 + z2 / total
    return Interval(low=max(0.0, (centre - spread) / scale), high=min(1.0, (centre + spread) / scale))


def difference(right: int, total: int, before: int, before_total: int) -> Interval:
    """The interval of `right/total - before/before_total` (Newcombe, 1998, method 10).

    It takes the two as independent: on the same images the truth is narrower, never wider.
    """
    if not total or not before_total:
        return Interval(low=-1.0, high=1.0)
    share, old = right / total, before / before_total
    now, then = interval(right, total), interval(before, before_total)
    change = share - old
    return Interval(
        low=change - math.hypot(share - now.low, then.high - old),
        high=change + math.hypot(now.high - share, old - then.low),
    )
