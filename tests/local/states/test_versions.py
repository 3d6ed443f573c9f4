"""Versions and aliases: what they keep, what they refuse, and which executions they start."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from stagegate.local.service import AWSError
from stagegate.local.states.records import EXECUTION
from tests.local.states.conftest import ROLE, Machines, only


def definition(result: str) -> dict[str, Any]:
    return only({"Type": "Pass", "Result": result})


def published(machines: Machines, *results: str) -> tuple[str, list[str]]:
    """A state machine with a version for each result, and the versions' ARNs."""
    arn = machines.create(definition(results[0]), name="m")
    versions = [machines.api.publish_state_machine_version(stateMachineArn=arn)["stateMachineVersionArn"]]
    for result in results[1:]:
        updated = machines.api.update_state_machine(
            stateMachineArn=arn, definition=json.dumps(definition(result)), publish=True
        )
        versions.append(updated["stateMachineVersionArn"])
    return arn, versions


async def output_of(machines: Machines, arn: str, name: str) -> Any:
    started = machines.api.start_execution(stateMachineArn=arn, name=name)
    return (await machines.end(started["executionArn"])).output


async def test_a_version_keeps_its_definition(machines: Machines) -> None:
    arn, (first, second) = published(machines, "one", "two")

    assert (first, second) == (f"{arn}:1", f"{arn}:2")
    assert await output_of(machines, first, "a") == "one"
    assert await output_of(machines, arn, "b") == "two"
    described = machines.api.describe_state_machine(stateMachineArn=first)
    assert (described["stateMachineArn"], json.loads(described["definition"])) == (first, definition("one"))
    execution = machines.api.describe_execution(executionArn=f"{arn.replace('stateMachine', 'execution')}:a")
    assert (execution["stateMachineArn"], execution["stateMachineVersionArn"]) == (arn, first)
    listed = machines.api.list_executions(stateMachineArn=first)["executions"]
    assert [execution["name"] for execution in listed] == ["a"]


async def test_publishing_what_has_not_changed_gives_the_same_version(machines: Machines) -> None:
    arn, (version,) = published(machines, "one")

    assert (
        machines.api.publish_state_machine_version(stateMachineArn=arn)["stateMachineVersionArn"] == version
    )
    assert len(machines.api.list_state_machine_versions(stateMachineArn=arn)["stateMachineVersions"]) == 1


async def test_a_version_is_published_of_the_revision_that_is_meant(machines: Machines) -> None:
    arn = machines.create(definition("one"))
    with pytest.raises(AWSError, match=r"ConflictException: Failed to publish .* revision other"):
        machines.api.publish_state_machine_version(stateMachineArn=arn, revisionId="other")
    machines.api.publish_state_machine_version(stateMachineArn=arn, revisionId="INITIAL")
    revision = machines.api.update_state_machine(
        stateMachineArn=arn, definition=json.dumps(definition("two"))
    )["revisionId"]

    version = machines.api.publish_state_machine_version(
        stateMachineArn=arn, revisionId=revision, description="the second"
    )

    described = machines.api.describe_state_machine(stateMachineArn=version["stateMachineVersionArn"])
    assert (described["revisionId"], described["description"]) == (revision, "the second")


async def test_versions_are_listed_latest_first_and_their_numbers_are_not_used_again(
    machines: Machines,
) -> None:
    arn, versions = published(machines, "one", "two", "three")
    machines.api.delete_state_machine_version(stateMachineVersionArn=versions[2])
    machines.api.update_state_machine(
        stateMachineArn=arn, definition=json.dumps(definition("four")), publish=True
    )

    page = machines.api.list_state_machine_versions(stateMachineArn=arn, maxResults=2)
    rest = machines.api.list_state_machine_versions(stateMachineArn=arn, nextToken=page["nextToken"])

    listed = [*page["stateMachineVersions"], *rest["stateMachineVersions"]]
    assert [version["stateMachineVersionArn"] for version in listed] == [
        f"{arn}:4",
        f"{arn}:2",
        f"{arn}:1",
    ]


def routes(*weighted: tuple[str, int]) -> list[dict[str, Any]]:
    return [{"stateMachineVersionArn": version, "weight": weight} for version, weight in weighted]


async def test_an_alias_leads_to_its_versions_by_their_weights(machines: Machines) -> None:
    _, (first, second) = published(machines, "one", "two")
    alias = machines.api.create_state_machine_alias(
        name="live", routingConfiguration=routes((first, 80), (second, 20))
    )["stateMachineAliasArn"]

    outputs = Counter([await output_of(machines, alias, f"run-{number}") for number in range(100)])

    assert set(outputs) == {"one", "two"}
    assert outputs["one"] > outputs["two"]
    listed = machines.api.list_executions(stateMachineArn=alias)["executions"]
    assert len(listed) == 100
    assert {execution["stateMachineAliasArn"] for execution in listed} == {alias}
    assert {execution["stateMachineVersionArn"] for execution in listed} == {first, second}


async def test_an_alias_is_moved_described_and_deleted(machines: Machines) -> None:
    arn, (first, second) = published(machines, "one", "two")
    create = machines.api.create_state_machine_alias
    alias = create(name="live", routingConfiguration=routes((first, 100)))["stateMachineAliasArn"]
    assert create(name="live", routingConfiguration=routes((first, 100)))["stateMachineAliasArn"] == alias
    with pytest.raises(AWSError, match="ConflictException"):
        create(name="live", routingConfiguration=routes((second, 100)))
    with pytest.raises(AWSError, match=r"ConflictException: .*referencing this version: \[live\]"):
        machines.api.delete_state_machine_version(stateMachineVersionArn=first)

    machines.api.update_state_machine_alias(
        stateMachineAliasArn=alias, routingConfiguration=routes((second, 100)), description="now"
    )

    described = machines.api.describe_state_machine_alias(stateMachineAliasArn=alias)
    assert described == {
        "stateMachineAliasArn": alias,
        "name": "live",
        "description": "now",
        "routingConfiguration": routes((second, 100)),
        "creationDate": described["creationDate"],
        "updateDate": described["updateDate"],
    }
    assert await output_of(machines, alias, "run") == "two"
    assert machines.api.delete_state_machine_version(stateMachineVersionArn=first) == {}
    listed = machines.api.list_state_machine_aliases(stateMachineArn=second)["stateMachineAliases"]
    assert [entry["stateMachineAliasArn"] for entry in listed] == [alias]
    machines.api.delete_state_machine_alias(stateMachineAliasArn=alias)
    assert machines.api.list_state_machine_aliases(stateMachineArn=arn)["stateMachineAliases"] == []


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([], "one version or two, not 0"),
        ([("1", 90)], "must equal 100"),
        ([("1", 50), ("1", 50)], "distinct state machine version ARNs"),
        ([("9", 100)], "does not exist"),
    ],
)
async def test_routes_that_lead_nowhere_are_refused(
    machines: Machines, weights: list[tuple[str, int]], message: str
) -> None:
    arn, _ = published(machines, "one", "two")

    with pytest.raises(AWSError, match=message):
        machines.api.create_state_machine_alias(
            name="live", routingConfiguration=routes(*((f"{arn}:{number}", part) for number, part in weights))
        )


async def test_what_is_not_there_can_not_be_started(machines: Machines) -> None:
    arn, _ = published(machines, "one")

    for qualifier in ("7", "nobody"):
        with pytest.raises(AWSError, match="StateMachineDoesNotExist"):
            machines.api.start_execution(stateMachineArn=f"{arn}:{qualifier}")


async def test_versions_and_aliases_go_with_their_state_machine(machines: Machines) -> None:
    arn, (version,) = published(machines, "one")
    alias = machines.api.create_state_machine_alias(name="live", routingConfiguration=routes((version, 100)))[
        "stateMachineAliasArn"
    ]

    machines.api.delete_state_machine(stateMachineArn=arn)

    assert machines.api.list_state_machine_versions(stateMachineArn=arn)["stateMachineVersions"] == []
    with pytest.raises(AWSError, match="ResourceNotFound"):
        machines.api.describe_state_machine_alias(stateMachineAliasArn=alias)


async def test_a_nested_execution_takes_an_alias_too(machines: Machines) -> None:
    _, (version,) = published(machines, "one")
    alias = machines.api.create_state_machine_alias(name="live", routingConfiguration=routes((version, 100)))[
        "stateMachineAliasArn"
    ]
    state = {
        "Type": "Task",
        "Resource": "arn:aws:states:::states:startExecution.sync:2",
        "Parameters": {"StateMachineArn": alias},
        "ResultSelector": {"output.$": "$.Output"},
    }

    assert await machines.output(state) == {"output": "one"}


async def test_a_nested_execution_of_an_alias_is_found_again(
    machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the answer of StartExecution and the record of it; the nested one has ended by then."""
    _, (version,) = published(machines, "one")
    machines.api.create_state_machine_alias(name="live", routingConfiguration=routes((version, 100)))
    nested = {
        "Type": "Task",
        "Resource": "arn:aws:states:::states:startExecution.sync:2",
        "Parameters": {"StateMachineArn": version.rpartition(":")[0] + ":live"},
        "OutputPath": "$.Output",
    }
    outer = machines.start(only(nested))
    start, started = machines.api.start_execution, asyncio.Event()

    async def start_and_never_answer(**request: Any) -> dict[str, Any]:
        await machines.end(start(**request)["executionArn"])
        started.set()
        await asyncio.sleep(60)
        return {}

    monkeypatch.setattr(machines.api, "start_execution", start_and_never_answer)
    await started.wait()

    again = await machines.killed(tmp_path / "again")
    ended = await again.end(outer)

    assert (ended.output, len(again.store.list(EXECUTION))) == ("one", 2)
    await again.close()


async def test_an_execution_says_by_which_version_and_alias_it_was_started(machines: Machines) -> None:
    arn, (version, _) = published(machines, "one", "two")
    alias = machines.api.create_state_machine_alias(name="live", routingConfiguration=routes((version, 100)))[
        "stateMachineAliasArn"
    ]
    started = machines.api.start_execution(stateMachineArn=alias, name="run")
    qualified = {"stateMachineVersionArn": version, "stateMachineAliasArn": alias}

    ended = await machines.end(started["executionArn"])
    described = machines.api.describe_execution(executionArn=ended.arn)
    (listed,) = machines.api.list_executions(stateMachineArn=arn)["executions"]
    (began,) = ended.details("ExecutionStarted")

    assert ended.arn == "arn:aws:states:us-east-1:111111111111:execution:m:run"
    assert described["stateMachineArn"] == listed["stateMachineArn"] == arn
    for document in (described, listed, began, *(heard.detail for heard in machines.announced)):
        assert {name: document[name] for name in qualified} == qualified


async def test_executions_are_listed_by_version_and_by_alias(machines: Machines) -> None:
    arn, (first, second) = published(machines, "one", "two")
    alias = machines.api.create_state_machine_alias(name="live", routingConfiguration=routes((first, 100)))[
        "stateMachineAliasArn"
    ]
    for name, started in {"a": arn, "b": first, "c": alias, "d": second}.items():
        await output_of(machines, started, name)

    def names(arn: str) -> list[str]:
        listed = machines.api.list_executions(stateMachineArn=arn)["executions"]
        return [execution["name"] for execution in listed]

    assert {of: names(of) for of in (arn, first, alias, second)} == {
        arn: ["d", "c", "b", "a"],
        first: ["c", "b"],
        alias: ["c"],
        second: ["d"],
    }


async def test_the_version_that_an_alias_chose_stays_after_a_restart(
    machines: Machines, tmp_path: Path
) -> None:
    slow = {
        "StartAt": "Wait",
        "States": {
            "Wait": {"Type": "Wait", "Seconds": 1, "Next": "Say"},
            "Say": {"Type": "Pass", "Result": "one", "End": True},
        },
    }
    arn = machines.create(slow, name="m", publish=True)
    machines.api.create_state_machine_alias(name="live", routingConfiguration=routes((f"{arn}:1", 100)))
    started = machines.api.start_execution(stateMachineArn=f"{arn}:live", name="run")
    await machines.reaches(started["executionArn"], "WaitStateEntered")
    machines.api.update_state_machine(
        stateMachineArn=arn, definition=json.dumps(definition("two")), publish=True
    )
    machines.api.update_state_machine_alias(
        stateMachineAliasArn=f"{arn}:live", routingConfiguration=routes((f"{arn}:2", 100))
    )
    machines.store.commit()

    again = await machines.killed(tmp_path / "again")
    ended = await again.end(started["executionArn"])

    described = again.api.describe_execution(executionArn=ended.arn)
    assert (ended.output, described["stateMachineVersionArn"]) == ("one", f"{arn}:1")
    assert await output_of(again, f"{arn}:live", "next") == "two"
    await again.close()


async def test_a_version_keeps_its_role(machines: Machines) -> None:
    arn = machines.create(definition("one"), name="m", publish=True)
    machines.api.update_state_machine(stateMachineArn=arn, roleArn=f"{ROLE}-other", publish=True)

    roles = []
    for number in (1, 2):
        started = machines.api.start_execution(stateMachineArn=f"{arn}:{number}")
        ended = await machines.end(started["executionArn"])
        roles.append(ended.details("ExecutionStarted")[0]["roleArn"])

    assert roles == [ROLE, f"{ROLE}-other"]
    assert machines.api.describe_state_machine(stateMachineArn=f"{arn}:1")["roleArn"] == ROLE


async def test_a_version_and_an_alias_have_descriptions(machines: Machines) -> None:
    arn = machines.create(definition("one"), name="m", publish=True, versionDescription="first")
    route = routes((f"{arn}:1", 100))
    machines.api.create_state_machine_alias(name="live", description="to all", routingConfiguration=route)
    describe = machines.api.describe_state_machine_alias

    machines.api.update_state_machine_alias(stateMachineAliasArn=f"{arn}:live", description="to some")

    version = machines.api.describe_state_machine(stateMachineArn=f"{arn}:1")
    alias = describe(stateMachineAliasArn=f"{arn}:live")
    assert (version["description"], alias["description"]) == ("first", "to some")
    assert alias["routingConfiguration"] == route
    with pytest.raises(AWSError, match="can only be set when publish is true"):
        machines.create(definition("one"), name="other", versionDescription="first")


async def test_aliases_are_listed_latest_first_and_by_version(machines: Machines) -> None:
    arn, (first, second) = published(machines, "one", "two")
    for name, version in {"a": first, "b": second, "c": first}.items():
        machines.api.create_state_machine_alias(name=name, routingConfiguration=routes((version, 100)))

    def names(arn: str, **members: Any) -> list[str]:
        answer = machines.api.list_state_machine_aliases(stateMachineArn=arn, **members)
        return [alias["stateMachineAliasArn"].rpartition(":")[2] for alias in answer["stateMachineAliases"]]

    page = machines.api.list_state_machine_aliases(stateMachineArn=arn, maxResults=2)

    assert names(arn) == ["c", "b", "a"]
    assert names(first) == ["c", "a"]
    assert names(arn, maxResults=2, nextToken=page["nextToken"]) == ["a"]


async def test_an_alias_has_a_name_that_is_no_number(machines: Machines) -> None:
    arn, (version,) = published(machines, "one")
    route = routes((version, 100))
    machines.api.create_state_machine_alias(name="live", routingConfiguration=route)

    with pytest.raises(AWSError, match="InvalidName"):
        machines.api.create_state_machine_alias(name="12", routingConfiguration=route)
    with pytest.raises(AWSError, match="ConflictException"):
        machines.api.create_state_machine_alias(
            name="live", routingConfiguration=route, description="another"
        )
    assert len(machines.api.list_state_machine_aliases(stateMachineArn=arn)["stateMachineAliases"]) == 1


async def test_there_are_quotas(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stagegate.local.states.versions._MAXIMUM_VERSIONS", 2)
    monkeypatch.setattr("stagegate.local.states.versions._MAXIMUM_ALIASES", 1)
    arn, (first, _) = published(machines, "one", "two")
    machines.api.create_state_machine_alias(name="live", routingConfiguration=routes((first, 100)))
    third = json.dumps(definition("three"))

    with pytest.raises(AWSError, match="ServiceQuotaExceededException"):
        machines.api.update_state_machine(stateMachineArn=arn, definition=third, publish=True)
    assert machines.api.describe_state_machine(stateMachineArn=arn)["definition"] != third
    with pytest.raises(AWSError, match="ServiceQuotaExceededException"):
        machines.api.create_state_machine_alias(name="next", routingConfiguration=routes((first, 100)))


async def test_an_express_workflow_runs_by_its_alias(machines: Machines) -> None:
    arn = machines.create(definition("one"), name="m", type="EXPRESS", publish=True)
    machines.api.create_state_machine_alias(name="live", routingConfiguration=routes((f"{arn}:1", 100)))

    result = await machines.api.start_sync_execution(stateMachineArn=f"{arn}:live")

    assert (result["stateMachineArn"], result["output"]) == (arn, '"one"')
