"""The Step Functions API: each noun has its operations in a module of its own; store and engine are one.

A new noun is a class of its operations (`Activities` in activities.py, say), which names `store` and `engine`
as its attributes, and one more of the classes below. The kinds of its documents stand in records.py.
"""

from stagegate.local.service import Runtime, Service
from stagegate.local.states.activities import Activities
from stagegate.local.states.execution import Engine
from stagegate.local.states.executions import Executions
from stagegate.local.states.machines import StateMachines
from stagegate.local.states.state_tests import StateTests


class StepFunctions(StateMachines, Executions, Activities, StateTests, Service):
    """State machines with versions and aliases, executions, Map Runs, activities, tests of states."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self.store = runtime.store
        self.engine = Engine(runtime, self.spawn)
        runtime.listeners.append(self.engine.job_ends.hear)

    async def start(self) -> None:
        self.spawn(self.engine.start_again(), name="start again")

    async def stop(self) -> None:
        self.engine.activities.close()
        for execution in self.engine.running.values():
            execution.is_stopping = True
            execution.journal.flush()
        await self.engine.logs.flush()  # first what is being sent, which would be cut off
        await super().stop()
        await self.engine.logs.flush()
