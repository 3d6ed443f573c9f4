"""Managed spot training: capacity that is taken away when somebody asks for it, and what time that costs.

After the SageMaker Developer Guide, "Managed Spot Training Lifecycle": the job is Interrupted, its
checkpoints are in S3, and it starts again from them when there is capacity.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

Document = dict[str, Any]

_HELD = ("Downloading", "Training", "Stopping", "Uploading")
"""The secondary statuses in which a job has its instances."""


class Capacity:
    """Whether a job may keep its instances. What is asked for here is forgotten when the server ends: the job
    is started again with it anyway."""

    def __init__(self) -> None:
        self._lost = asyncio.Event()
        self._seconds = 0.0

    def take(self, *, seconds: float) -> None:
        """Take the instances away; there will be others after so many seconds."""
        self._seconds = seconds
        self._lost.set()

    async def lost(self) -> None:
        """Return when the instances have been taken away."""
        await self._lost.wait()

    async def back(self) -> None:
        """Return when there are others."""
        await asyncio.sleep(self._seconds)
        self._lost.clear()


def time_left(job: Document) -> float | None:
    """The seconds that a job on spot capacity has to complete, waiting included; None for any other job."""
    limit = job.get("StoppingCondition", {}).get("MaxWaitTimeInSeconds")
    if not job.get("EnableManagedSpotTraining") or limit is None:
        return None
    end: datetime = job["CreationTime"] + timedelta(seconds=limit)
    return max(0.0, (end - datetime.now(UTC)).total_seconds())


def billable_seconds(job: Document, *, now: datetime) -> float:
    """How long a training job has had its instances."""
    held = [entry for entry in job["SecondaryStatusTransitions"] if entry["Status"] in _HELD]
    seconds = [(entry.get("EndTime", now) - entry["StartTime"]).total_seconds() for entry in held]
    return float(sum(seconds))
