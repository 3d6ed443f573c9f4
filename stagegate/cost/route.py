"""The way that an execution takes through a definition where nothing fails."""

from stagegate.doctor.project import Definition, State


def route(definition: Definition) -> list[State]:
    """The states up to a success, each once; of several ways the one with the most jobs and callbacks, then
    with the most tasks.

    Catches are not followed. Empty where no way ends in success. Branches of Parallel and Map states are
    not looked into.
    """
    states = {state.name: state for state in definition.states if state.around is None}
    start = states.get(str(definition.body.get("StartAt")))
    return _best(start, frozenset(), {}) or [] if start else []


def repeated(state: State) -> int:
    """How many states a round through this state has, back to itself; 0 where none leads back."""
    reached, border, length = {state.name}, [state], 0
    while border:
        length += 1
        following = [after for before in border for after in before.following()]
        if any(after.name == state.name for after in following):
            return length
        border = [after for after in following if after.name not in reached]
        reached |= {after.name for after in border}
    return 0


def _best(state: State, before: frozenset[str], known: dict[str, list[State] | None]) -> list[State] | None:
    if state.name in before:
        return None
    if state.name not in known:
        if state.body.get("End") or state.kind == "Succeed":
            known[state.name] = [state]
        else:
            after = before | {state.name}
            ways = [way for following in state.following() if (way := _best(following, after, known))]
            best = max(ways, key=_weight, default=None)
            known[state.name] = [state, *best] if best else None
    return known[state.name]


def _weight(way: list[State]) -> tuple[int, int]:
    tasks = [str(state.body.get("Resource", "")) for state in way if state.kind == "Task"]
    return sum(resource.endswith((".sync", ".sync:2", ".waitForTaskToken")) for resource in tasks), len(tasks)
