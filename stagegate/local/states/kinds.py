"""Which function performs which type of state."""

from stagegate.local.states.activity_attempt import perform_activity
from stagegate.local.states.branches import perform_map, perform_parallel
from stagegate.local.states.definition import Map, Task
from stagegate.local.states.distributed import perform_distributed_map
from stagegate.local.states.flow import (
    perform_choice,
    perform_fail,
    perform_pass,
    perform_succeed,
    perform_wait,
)
from stagegate.local.states.strand import Outcome, Perform, Visit
from stagegate.local.states.task import perform_task


async def perform_either_map(visit: Visit, state: Map) -> Outcome:
    return await (perform_distributed_map if state.is_distributed else perform_map)(visit, state)


async def perform_either_task(visit: Visit, state: Task) -> Outcome:
    return await (perform_activity if state.resource.is_activity else perform_task)(visit, state)


PERFORM: dict[str, Perform] = {
    "Pass": perform_pass,
    "Task": perform_either_task,
    "Choice": perform_choice,
    "Wait": perform_wait,
    "Succeed": perform_succeed,
    "Fail": perform_fail,
    "Parallel": perform_parallel,
    "Map": perform_either_map,
}
