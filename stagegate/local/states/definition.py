"""What a state machine is: its states, with every path, template and rule compiled (`parser`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stagegate.local.service import Json
from stagegate.local.states.choice import Rule
from stagegate.local.states.integrations import Resource
from stagegate.local.states.templates import JSONATA, Setting, Template


@dataclass(frozen=True, kw_only=True)
class Program:
    """States and where they start: a state machine, a branch, what an iteration does."""

    start_at: str
    states: Mapping[str, "State"]
    timeout_seconds: int | None = None


@dataclass(frozen=True, kw_only=True)
class State:
    """What every type of state has."""

    name: str
    type: str
    query_language: str
    next: str | None
    input_path: str | None
    output_path: str | None
    assign: Template | None
    output: Template | None
    """JSONata's Output, which stands in the place of ResultSelector, ResultPath and OutputPath."""

    @property
    def is_jsonata(self) -> bool:
        return self.query_language == JSONATA


@dataclass(frozen=True, kw_only=True)
class Retrier:
    error_equals: tuple[str, ...]
    interval_seconds: int
    max_attempts: int
    backoff_rate: float
    max_delay_seconds: int | None
    has_full_jitter: bool

    def delay(self, attempt: int) -> float:
        """Seconds before the retry after `attempt` others; with full jitter the most there may be."""
        delay = self.interval_seconds * self.backoff_rate**attempt
        return delay if self.max_delay_seconds is None else min(delay, self.max_delay_seconds)


@dataclass(frozen=True, kw_only=True)
class Catcher:
    error_equals: tuple[str, ...]
    next: str
    result_path: str | None
    assign: Template | None
    output: Template | None


@dataclass(frozen=True, kw_only=True)
class Working(State):
    """A state that does work which may fail: Task, Parallel, Map."""

    parameters: Template | None
    """Parameters or ItemSelector in JSONPath, Arguments or ItemSelector in JSONata."""
    result_selector: Template | None
    result_path: str | None
    retry: tuple[Retrier, ...]
    catch: tuple[Catcher, ...]


@dataclass(frozen=True, kw_only=True)
class Pass(State):
    has_result: bool
    result: Json
    parameters: Template | None
    result_path: str | None


@dataclass(frozen=True, kw_only=True)
class ChoiceRule:
    matches: Rule
    next: str
    assign: Template | None
    output: Template | None


@dataclass(frozen=True, kw_only=True)
class Choice(State):
    choices: tuple[ChoiceRule, ...]
    default: str | None


@dataclass(frozen=True, kw_only=True)
class Wait(State):
    seconds: Setting | None
    timestamp: Setting | None


@dataclass(frozen=True, kw_only=True)
class Succeed(State):
    pass


@dataclass(frozen=True, kw_only=True)
class Fail(State):
    error: str | Template | None
    cause: str | Template | None


@dataclass(frozen=True, kw_only=True)
class Task(Working):
    resource: Resource
    timeout_seconds: Setting | None
    heartbeat_seconds: Setting | None
    credentials: Template | None


@dataclass(frozen=True, kw_only=True)
class Parallel(Working):
    branches: tuple[Program, ...]


@dataclass(frozen=True, kw_only=True)
class ItemReader:
    """Where a distributed Map reads its items."""

    resource: str
    parameters: Template | None
    config: Mapping[str, Any]
    """ReaderConfig."""
    max_items: Setting | None
    items_pointer: Template | None


@dataclass(frozen=True, kw_only=True)
class ItemBatcher:
    """How a distributed Map puts items together."""

    batch_input: Template | None
    max_items_per_batch: Setting | None
    max_input_bytes_per_batch: Setting | None


@dataclass(frozen=True, kw_only=True)
class ResultWriter:
    """Where a distributed Map writes its results."""

    resource: str | None
    parameters: Template | None
    config: Mapping[str, Any]
    """WriterConfig."""


@dataclass(frozen=True, kw_only=True)
class Map(Working):
    items_path: str
    items: Template | None
    item_processor: Program
    max_concurrency: Setting | None
    tolerated_failure_count: Setting | None
    tolerated_failure_percentage: Setting | None
    is_distributed: bool
    execution_type: str
    """Of a distributed Map's child executions: "STANDARD" or "EXPRESS"."""
    label: str | None
    item_reader: ItemReader | None
    item_batcher: ItemBatcher | None
    result_writer: ResultWriter | None


def find_map(program: Program, name: str) -> Map | None:
    """The Map of this name, wherever it stands: names are unique within a state machine."""
    for state in program.states.values():
        if isinstance(state, Map) and state.name == name:
            return state
        inside = state.branches if isinstance(state, Parallel) else ()
        for part in (state.item_processor,) if isinstance(state, Map) else inside:
            if (found := find_map(part, name)) is not None:
                return found
    return None
