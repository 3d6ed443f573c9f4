"""How long the jobs of past runs took: from the executions' histories."""

from collections import defaultdict

from stagegate.aws import Services
from stagegate.deployment import Platform
from stagegate.pipeline import History, StateExited, TaskStarted

_RUNS = 10
"""So many of the latest executions of each state machine are looked at."""
_JOBS = ("createTrainingJob.sync", "createProcessingJob.sync", "startBuild.sync")


def measured_minutes(services: Services, platform: Platform) -> dict[str, float]:
    """The mean minutes of each job that succeeded, by its state's name; waiting for machines included."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for machine in platform.state_machines:
        page = services("stepfunctions").list_executions(
            stateMachineArn=machine, statusFilter="SUCCEEDED", maxResults=_RUNS
        )
        for execution in page["executions"]:
            jobs = set()
            for progress in History(services, execution["executionArn"]).advance():
                if isinstance(progress, TaskStarted) and progress.resource in _JOBS:
                    jobs.add(progress.state)
                elif isinstance(progress, StateExited) and progress.name in jobs:
                    seconds[progress.name].append(progress.seconds)
    return {name: sum(taken) / len(taken) / 60 for name, taken in seconds.items()}
