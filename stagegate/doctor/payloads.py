"""Answers that go on whole, and may be larger than a state's output may be: 256 KiB."""

import re
from collections.abc import Iterator

from stagegate.doctor.apis import call_of
from stagegate.doctor.findings import Fault
from stagegate.doctor.project import Project, State, texts

_WHOLE = re.compile(r"\{%\s*\$states\.result\s*%\}|[:,\[]\s*\$states\.result\s*[},\]]")


def payload_too_large(project: Project) -> Iterator[Fault]:
    for definition, state in project.states:
        if not goes_on_whole(state):
            continue
        wrong = _unbounded_answer(state) if state.kind == "Task" else _unbounded_items(state)
        if wrong:
            yield Fault(file=definition.file, where=state.name, wrong=wrong)


def goes_on_whole(state: State) -> bool:
    """Whether all that the state gets is in its output."""
    if state.is_jsonata:
        output = state.body.get("Output")
        return "Output" not in state.body or any(_WHOLE.search(text) for text in texts(output))
    keeps = state.body.get("ResultPath", "$") is not None
    return keeps and "ResultSelector" not in state.body and state.body.get("OutputPath", "$") is not None


def _unbounded_answer(state: State) -> str | None:
    call = call_of(state)
    if call is None or call.service == "lambda":  # how much a function gives is up to its author
        return None
    if call.has_blob:
        return f"the whole answer of {call} goes on, and has a body of any length"
    if call.is_paginated and not _has_limit(state, call.limit_member):
        return f"the whole answer of {call} goes on, a page as long as the service makes it"
    return None


def _has_limit(state: State, member: str | None) -> bool:
    return member is not None and any(
        key.removesuffix(".$").lower() == member.lower() for key in state.request
    )


def _unbounded_items(state: State) -> str | None:
    """A Map's answer has a part for each item."""
    if state.kind != "Map":
        return None
    if state.is_distributed:
        written = "ResultWriter" in state.body
        return None if written else "the results of all items of a distributed Map go on in the output"
    processor = state.body.get("ItemProcessor", state.body.get("Iterator", {}))
    language = processor.get("QueryLanguage", state.language)
    for name, body in processor.get("States", {}).items():
        last = State(name=name, body=body, siblings={}, language=body.get("QueryLanguage", language))
        call = call_of(last)
        if body.get("End") and call and call.is_sync and goes_on_whole(last):
            return f"the whole answer of {call} in '{name}' goes on for each item"
    return None
