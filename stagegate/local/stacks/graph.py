"""Which resource needs which: from Ref, Fn::GetAtt, Fn::Sub and DependsOn; and work done in that order."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from stagegate.local.service import AWSError
from stagegate.local.stacks.intrinsics import Evaluator
from stagegate.local.stacks.template import Template, unresolved, walk

Dependencies = Mapping[str, frozenset[str]]

_PLACE = re.compile(r"\$\{([^!}][^}]*)\}")


def dependencies(evaluator: Evaluator) -> dict[str, frozenset[str]]:
    """For each active resource the resources that must be there before it. A circle is a ValidationError."""
    template, active = evaluator.template, evaluator.active()
    found: dict[str, frozenset[str]] = {}
    for name in active:
        resource = template.resources[name]
        needs = set(references(evaluator.taken(resource.get("Properties", {}))))
        unknown = sorted(
            need for need in needs if need not in active and not _is_value(need, template, evaluator.pseudo)
        )
        if unknown:
            raise unresolved(unknown)
        depends_on = resource.get("DependsOn", [])
        for need in [depends_on] if isinstance(depends_on, str) else depends_on:
            if need not in template.resources:
                raise unresolved([need])
            needs.add(need)
        found[name] = frozenset(needs & set(active))
    check_circles(found)
    return found


def _is_value(name: str, template: Template, pseudo: Mapping[str, Any]) -> bool:
    return name in template.parameters or name in pseudo or name == "AWS::NoValue"


def references(written: Any) -> Iterable[str]:
    """The names that functions in `written` refer to: resources, parameters, pseudo-parameters."""
    for function, argument in walk(written):
        if function == "Ref" and isinstance(argument, str):
            yield argument
        elif function == "Fn::GetAtt":
            yield argument.split(".", 1)[0] if isinstance(argument, str) else argument[0]
        elif function == "Fn::Sub":
            pattern, variables = (argument, {}) if isinstance(argument, str) else (argument[0], argument[1])
            for place in _PLACE.findall(pattern):
                if place.strip() not in variables:
                    yield place.strip().split(".", 1)[0]


def check_circles(needs: Dependencies) -> None:
    left = dict(needs)
    while ready := [name for name, needed in left.items() if not needed & left.keys()]:
        for name in ready:
            del left[name]
    if left:
        raise AWSError(
            "ValidationError", f"Circular dependency between resources: [{', '.join(sorted(left))}]"
        )


def in_sequence(needs: Dependencies) -> list[str]:
    """The names, each after those that it needs."""
    sequence: list[str] = []
    left = dict(needs)
    while left:
        for name in [name for name, needed in left.items() if not needed & left.keys()]:
            sequence.append(name)
            del left[name]
    return sequence


def reversed_order(needs: Dependencies) -> dict[str, frozenset[str]]:
    """For taking away: each after those that need it."""
    return {name: frozenset(other for other in needs if name in needs[other]) for name in needs}


async def in_order(
    needs: Dependencies,
    work: Callable[[str], Awaitable[None]],
    *,
    failing: asyncio.Event | None = None,
) -> dict[str, Exception]:
    """Do `work` for each, those at the same time that do not need each other; gives what failed.

    After a failure, what needs it is left out. With `failing` nothing more is begun at all: it is set,
    so that those under way which wait for something long can give up. Others may set it too.
    """
    left = dict(needs)
    running: dict[asyncio.Task[None], str] = {}
    failures: dict[str, Exception] = {}
    try:
        while True:
            if not (failing and failing.is_set()):
                unfinished = left.keys() | failures.keys() | set(running.values())
                for name in [name for name, needed in left.items() if not needed & unfinished]:
                    running[asyncio.ensure_future(_run(work, name))] = name
                    del left[name]
            if not running:
                return failures
            ended, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                name = running.pop(task)
                if error := task.exception():
                    if not isinstance(error, Exception):
                        raise error
                    failures[name] = error
                    if failing:
                        failing.set()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _run(work: Callable[[str], Awaitable[None]], name: str) -> None:
    await work(name)
