"""What time it is, and waiting until it is a later one: the one thing of a schedule that a test replaces."""

import asyncio
from datetime import UTC, datetime

_LONGEST_SLEEP = 60.0  # seconds, since the machine's clock may be put forward, or the machine sleep


class Clock:
    """The machine's."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def until(self, moment: datetime) -> None:
        """Return when it is `moment`, at once where it was before."""
        while True:
            left = (moment - self.now()).total_seconds()
            if left <= 0:
                return
            await asyncio.sleep(min(left, _LONGEST_SLEEP))
