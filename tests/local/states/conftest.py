"""State machines run in this process: a real store on disk, the services around the engine by each test."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name

from stagegate.local.service import Announcement, AWSError, Runtime
from stagegate.local.states.service import StepFunctions
from stagegate.local.store import Store

ROLE = "arn:aws:iam::111111111111:role/states"
Operation = Callable[..., Any]


@dataclass(frozen=True)
class Ended:
    """How an execution ended."""

    arn: str
    status: str
    output: Any
    error: str | None
    cause: str | None
    events: list[dict[str, Any]]

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    @property
    def links(self) -> list[tuple[int, int, str]]:
        """Each event's id, its previous event's id, and its type."""
        return [(event["id"], event["previousEventId"], event["type"]) for event in self.events]

    def details(self, event_type: str) -> list[dict[str, Any]]:
        return [
            next(value for name, value in event.items() if name.endswith("EventDetails"))
            for event in self.events
            if event["type"] == event_type
        ]


class Machines:
    """The Step Functions service, and how a test runs state machines on it."""

    def __init__(self, path: Path, operations: dict[tuple[str, str], Operation]) -> None:
        self.path = path
        self.operations = operations
        self.store = Store(path / "stagegate.db")
        self.runtime = Runtime(store=self.store, aws=self._aws, data=path, endpoint_url="http://127.0.0.1:1")
        self.api = StepFunctions(self.runtime)
        self.announced: list[Announcement] = []
        self.runtime.listeners.append(self.announced.append)
        self.is_closed = False
        self._machines = 0

    async def _aws(
        self, service: str, operation: str, parameters: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        if service == "stepfunctions":
            answer = getattr(self.api, xform_name(operation))(**(parameters or {}))
        elif known := self.operations.get((service, operation)):
            answer = known(**(parameters or {}))
        else:
            raise AWSError("UnknownOperationException", f"{service} {operation} is not part of this test")
        return dict(await answer if isinstance(answer, Awaitable) else answer)

    def create(self, definition: dict[str, Any], **settings: Any) -> str:
        self._machines += 1
        settings = {"name": f"machine-{self._machines}", "roleArn": ROLE, **settings}
        created = self.api.create_state_machine(definition=json.dumps(definition), **settings)
        return str(created["stateMachineArn"])

    def start(self, definition: dict[str, Any], input: Any = None, name: str = "run") -> str:
        arn = self.create(definition)
        text = json.dumps({} if input is None else input)
        return str(self.api.start_execution(stateMachineArn=arn, input=text, name=name)["executionArn"])

    async def end(self, execution_arn: str) -> Ended:
        if running := self.api.engine.find_running(execution_arn):
            assert running.task is not None
            await asyncio.wait([running.task], timeout=20)
            await self.store.committed()
        described = self.api.describe_execution(executionArn=execution_arn)
        output = json.loads(described["output"]) if "output" in described else None
        return Ended(
            execution_arn,
            described["status"],
            output,
            described.get("error"),
            described.get("cause"),
            self.history(execution_arn),
        )

    async def run(self, definition: dict[str, Any], input: Any = None) -> Ended:
        return await self.end(self.start(definition, input))

    async def output(self, state: dict[str, Any], input: Any = None) -> Any:
        """The output of one state; the execution must succeed."""
        ended = await self.run(only(state), input)
        assert ended.status == "SUCCEEDED", (ended.error, ended.cause)
        return ended.output

    async def failure(self, state: dict[str, Any], input: Any = None) -> tuple[str | None, str | None]:
        ended = await self.run(only(state), input)
        assert ended.status == "FAILED"
        return ended.error, ended.cause

    def history(self, execution_arn: str) -> list[dict[str, Any]]:
        return list(self.api.get_execution_history(executionArn=execution_arn, maxResults=1000)["events"])

    async def reaches(self, execution_arn: str, event_type: str, count: int = 1) -> None:
        """Return when the history has `count` events of this type, and they are on disk."""
        async with asyncio.timeout(20):
            while [event["type"] for event in self.history(execution_arn)].count(event_type) < count:  # noqa: ASYNC110
                await asyncio.sleep(0)
        await self.store.committed()

    async def killed(self, path: Path, *, is_started: bool = True) -> "Machines":
        """What a new server finds after `kill -9`: the database as it is on disk, and nothing else."""
        copy_database(self.path, path)
        await self.close()
        again = Machines(path, self.operations)
        if is_started:
            await again.api.start()
        return again

    async def close(self) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        await self.api.stop()
        self.store.close()


def copy_database(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for file in source.glob("stagegate.db*"):
        shutil.copy(file, target / file.name)


def only(state: dict[str, Any]) -> dict[str, Any]:
    """The state machine that has only this state."""
    ends = {} if state["Type"] in ("Succeed", "Fail", "Choice") else {"End": True}
    return {"StartAt": "State", "States": {"State": {**state, **ends}}}


@pytest.fixture
async def machines(tmp_path: Path) -> AsyncIterator[Machines]:
    machines = Machines(tmp_path / "data", {})
    await machines.api.start()
    yield machines
    await machines.close()
