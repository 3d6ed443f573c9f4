"""The runtime killed with SIGKILL while it updates a stack of every type: the stack ends whole.

STAGEGATE_SEED=7 pytest tests/local/stacks/test_kill.py -m slow       # the same moments again
"""

import asyncio
import json
import os
import random
import time
from typing import Any

import pytest

from stagegate.local.services import SERVICES
from tests.conftest import Local
from tests.local.conftest import opened
from tests.local.stacks.conftest import Stacks
from tests.local.stacks.looks import consistent
from tests.local.stacks.test_random_changes import CAPABLE, EVERY, OURS

SEED = int(os.environ.get("STAGEGATE_SEED", random.randrange(10**6)))
FIRST = {"Text": "one", "Tag": "a", "Suffix": "x", "Number": "3", "Enabled": "true", "Kind": "String"}
SECOND = FIRST | {"Text": "two", "Tag": "b", "Suffix": "y", "Number": "5", "Enabled": "false"}
FAILING = SECOND | {"Kind": "Strange"}
WHOLE = ("UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE")
UPDATE_SECONDS = 0.6
"""About as long as an update takes; some are killed before they have begun, some after they have ended."""


def request(values: dict[str, str]) -> dict[str, Any]:
    return {
        "StackName": "it",
        "TemplateBody": json.dumps(EVERY),
        "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()],
        **CAPABLE,
    }


def settled(local: Local) -> dict[str, Any]:
    stacks, deadline = local.client("cloudformation"), time.monotonic() + 60
    while True:
        stack: dict[str, Any] = stacks.describe_stacks(StackName="it")["Stacks"][0]
        if not stack["StackStatus"].endswith("_IN_PROGRESS"):
            return stack
        assert time.monotonic() < deadline, stack


async def killed_in_updates(local: Local, kills: int) -> list[str]:
    """Update forth and back, to what fails too, and kill each; gives how the updates ended."""
    moment = random.Random(SEED)
    local.client("cloudformation").create_stack(**request(FIRST))
    assert settled(local)["StackStatus"] == "CREATE_COMPLETE"
    parameters, statuses = FIRST, []
    for number in range(kills):
        wanted = FAILING if number % 3 == 2 else SECOND if parameters == FIRST else FIRST
        local.client("cloudformation").update_stack(**request(wanted))
        await asyncio.sleep(moment.uniform(0, UPDATE_SECONDS))
        local.restart()
        stack = settled(local)
        statuses.append(stack["StackStatus"])
        assert stack["StackStatus"] in WHOLE, f"STAGEGATE_SEED={SEED}, {number}: {stack}"
        if stack["StackStatus"] == "UPDATE_COMPLETE":
            parameters = wanted
        said = {it["ParameterKey"]: it["ParameterValue"] for it in stack["Parameters"]}
        assert said == parameters, f"STAGEGATE_SEED={SEED}, {number}"
        await services_have_what_the_stack_says(local)
    return statuses


async def services_have_what_the_stack_says(local: Local) -> None:
    """Read off the data directory, while no server has it."""
    local.stop()
    services = {**OURS, "cloudwatch": SERVICES["cloudwatch"]}
    async with opened(local.data, services, local.endpoint_url) as endpoint:
        await consistent(Stacks(endpoint), "it")
    local.start()


async def test_an_update_that_is_killed_ends_whole(local: Local) -> None:
    assert len(await killed_in_updates(local, 2)) == 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_updates_that_are_killed_at_many_moments_end_whole(local: Local) -> None:
    statuses = await killed_in_updates(local, 60)

    assert set(statuses) == set(WHOLE)
