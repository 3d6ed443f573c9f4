"""Which function performs which type of state."""

from stagegate.local.states.branches import perform_map, perform_parallel
from stagegate.local.states.flow import (
    perform_choice,
    perform_fail,
    perform_pass,
    perform_succeed,
    perform_wait,
)
from stagegate.local.states.strand import Perform
from stagegate.local.states.task import perform_task

PERFORM: dict[str, Perform] = {
    "Pass": perform_pass,
    "Task": perform_task,
    "Choice": perform_choice,
    "Wait": perform_wait,
    "Succeed": perform_succeed,
    "Fail": perform_fail,
    "Parallel": perform_parallel,
    "Map": perform_map,
}
