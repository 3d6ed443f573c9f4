"""Whether a call that AWS throttles is tried again, and whether errors are called what they are called."""

import re
from collections.abc import Iterator
from typing import Any

from stagegate.doctor.apis import Call, call_of
from stagegate.doctor.findings import Fault
from stagegate.doctor.project import Project, State

_THROTTLED = re.compile(
    r"Throttl|TooManyRequests|RequestLimitExceeded|ThroughputExceeded|SlowDown|\b429$"
    r"|\.(Amazon|AWS)\w+Exception$"  # what the optimised integrations call an error without a name of its own
)


def throttling_not_handled(project: Project) -> Iterator[Fault]:
    for definition, state in project.states:
        call = call_of(state)
        if call is None or call.is_activity:
            continue
        for name in _misnamed(state, call):
            wrong = f"'{name}' is no error of {call}: these begin with '{call.error_prefix}.'"
            yield Fault(file=definition.file, where=state.name, wrong=wrong)
        if not any(_retries(around, call) for around in _from_inside(state)):
            wrong = f"{call} is not tried again when it is throttled"
            yield Fault(file=definition.file, where=state.name, wrong=wrong)


def _from_inside(state: State) -> Iterator[State]:
    """The state, and those around it: a Parallel or a Map may try its parts again."""
    around: State | None = state
    while around:
        yield around
        around = around.around


def _retries(state: State, call: Call) -> bool:
    for retrier in state.body.get("Retry", ()):
        names = [name for name in _names(retrier) if not _is_misnamed(name, call)]
        if retrier.get("MaxAttempts", 3) and any(_matches(name, call) for name in names):
            return True
    return False


def _matches(name: str, call: Call) -> bool:
    if name in ("States.ALL", "States.TaskFailed", f"{call.error_prefix}.{call.error_prefix}Exception"):
        return True
    return _THROTTLED.search(name) is not None


def _misnamed(state: State, call: Call) -> list[str]:
    handlers = [*state.body.get("Retry", ()), *state.body.get("Catch", ())]
    found = {name: None for handler in handlers for name in _names(handler) if _is_misnamed(name, call)}
    return list(found)


def _is_misnamed(name: str, call: Call) -> bool:
    prefix = name.partition(".")[0] if "." in name else ""
    right = call.error_prefix
    return right is not None and prefix != right and prefix.lower() in call.mistaken_prefixes


def _names(handler: dict[str, Any]) -> list[str]:
    return [name for name in handler.get("ErrorEquals", ()) if isinstance(name, str)]
