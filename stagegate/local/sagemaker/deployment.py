"""How an update moves traffic from one fleet to the next: a deployment config as a plan of steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stagegate.local.sagemaker.resources import invalid

_DEFAULT_SECONDS = 28_800  # the longest that MaximumExecutionTimeoutInSeconds may be


@dataclass(frozen=True, kw_only=True)
class BlueGreen:
    """The shares of traffic that the new fleet gets, one after the other, and the waits in between."""

    shares: Sequence[float] = (1.0,)
    wait_seconds: float = 0
    """After each share, watched by the alarms."""
    termination_seconds: float = 0
    """From the last wait to the end of the old fleet."""
    maximum_seconds: float = _DEFAULT_SECONDS
    alarms: Sequence[str] = ()


def blue_green(config: Mapping[str, Any] | None, *, instances: int) -> BlueGreen:
    """`DeploymentConfig` as a plan; without one, all traffic moves at once. Refuses what is not done."""
    if not config:
        return BlueGreen()
    alarms = [alarm["AlarmName"] for alarm in config.get("AutoRollbackConfiguration", {}).get("Alarms", ())]
    policy, rolling = config.get("BlueGreenUpdatePolicy"), config.get("RollingUpdatePolicy")
    if policy is not None and rolling is not None:
        raise invalid("Only one of BlueGreenUpdatePolicy and RollingUpdatePolicy can be specified")
    if rolling is not None:
        return _rolling(rolling, instances=instances, alarms=alarms)
    if policy is None:
        return BlueGreen(alarms=alarms)
    routing = policy["TrafficRoutingConfiguration"]
    return BlueGreen(
        shares=_shares(routing, instances=instances),
        wait_seconds=routing["WaitIntervalInSeconds"],
        termination_seconds=policy.get("TerminationWaitInSeconds", 0),
        maximum_seconds=policy.get("MaximumExecutionTimeoutInSeconds", _DEFAULT_SECONDS),
        alarms=alarms,
    )


def _rolling(policy: Mapping[str, Any], *, instances: int, alarms: Sequence[str]) -> BlueGreen:
    """Batch after batch; a rollback takes the whole capacity back at once, which the old fleet has kept."""
    batch = _fraction(policy["MaximumBatchSize"], instances=instances)
    if not 0.05 <= batch <= 0.5:
        raise invalid(
            f"MaximumBatchSize must be between 5% and 50% of the variant's total instance count; {batch:.0%} "
            "was given"
        )
    return BlueGreen(
        shares=_steps(batch),
        wait_seconds=policy["WaitIntervalInSeconds"],
        maximum_seconds=policy.get("MaximumExecutionTimeoutInSeconds", _DEFAULT_SECONDS),
        alarms=alarms,
    )


def _shares(routing: Mapping[str, Any], *, instances: int) -> list[float]:
    match routing["Type"]:
        case "CANARY":
            return [_share(routing, "CanarySize", instances=instances), 1.0]
        case "LINEAR":
            return _steps(_share(routing, "LinearStepSize", instances=instances))
        case _:
            return [1.0]


def _share(routing: Mapping[str, Any], member: str, *, instances: int) -> float:
    if (size := routing.get(member)) is None:
        raise invalid(f"{member} is required for traffic routing of type {routing['Type']}")
    share = _fraction(size, instances=instances)
    if not 0 < share <= 0.5:
        raise invalid(f"{member} must be at most 50% of the fleet's capacity; {share:.0%} was given")
    return share


def _steps(step: float) -> list[float]:
    shares = [step * number for number in range(1, int(1 / step) + 1)]
    return shares if shares[-1] > 0.999 else [*shares, 1.0]


def _fraction(size: Mapping[str, Any], *, instances: int) -> float:
    """Of the fleet's capacity."""
    return float(size["Value"]) / (100 if size["Type"] == "CAPACITY_PERCENT" else instances)
