"""How sure an accuracy is: intervals at 95 percent, for one model and for the difference of two."""

import math

Z = 1.959964
"""The 97.5 percent point of the normal distribution."""


def interval(right: int, total: int) -> tuple[float, float]:
    """Wilson's score interval of a share, which holds for few images and near 1 too (Wilson, 1927)."""
    if total == 0:
        return 0.0, 1.0
    share, z2 = right / total, Z * Z
    centre = share + z2 / (2 * total)
    spread = Z * math.sqrt(share * (1 - share) / total + z2 / (4 * total * total))
    scale = 1 + z2 / total
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def difference(right: int, total: int, before: int, before_total: int) -> tuple[float, float]:
    """The interval of `right/total - before/before_total` (Newcombe, 1998, method 10).

    It takes the two as independent: on the same images the truth is narrower, never wider.
    """
    if not total or not before_total:
        return -1.0, 1.0
    share, old = right / total, before / before_total
    low, high = interval(right, total)
    old_low, old_high = interval(before, before_total)
    change = share - old
    return (
        change - math.hypot(share - low, old_high - old),
        change + math.hypot(high - share, old - old_low),
    )
