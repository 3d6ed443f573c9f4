"""State machines: what creating again, updating without a change, a Map's label and other ARNs come to."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from stagegate.local.service import AWSError
from tests.local.states.conftest import ROLE, Machines, only

ARN = "arn:aws:states:us-east-1:111111111111:stateMachine:m"
PASS = only({"Type": "Pass"})
WAIT = only({"Type": "Wait", "Seconds": 60})
MAP = only(
    {
        "Type": "Map",
        "Label": "Each",
        "ItemProcessor": {
            "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
            "StartAt": "Pass",
            "States": {"Pass": {"Type": "Pass", "End": True}},
        },
    }
)


def refused(call: Any, **members: Any) -> AWSError:
    with pytest.raises(AWSError) as raised:
        call(**members)
    return raised.value


async def test_another_role_or_other_tags_do_not_make_another_state_machine(machines: Machines) -> None:
    machines.create(PASS, name="m", tags=[{"key": "team", "value": "vision"}])

    machines.create(PASS, name="m", roleArn=f"{ROLE}-other", tags=[{"key": "team", "value": "sound"}])

    assert machines.api.describe_state_machine(stateMachineArn=ARN)["roleArn"] == ROLE
    assert machines.api.list_tags_for_resource(resourceArn=ARN)["tags"] == [
        {"key": "team", "value": "vision"}
    ]


@pytest.mark.parametrize(
    "settings",
    [
        {"type": "EXPRESS"},
        {"tracingConfiguration": {"enabled": True}},
        {"encryptionConfiguration": {"type": "CUSTOMER_MANAGED_KMS_KEY", "kmsKeyId": "alias/key"}},
    ],
)
async def test_other_settings_are_another_state_machine(machines: Machines, settings: dict[str, Any]) -> None:
    machines.create(PASS, name="m")

    error = refused(machines.create, definition=PASS, name="m", **settings)

    assert (error.code, error.message) == (
        "StateMachineAlreadyExists",
        f"State Machine Already Exists: '{ARN}'",
    )


async def test_a_revision_has_an_id_from_the_first_change_on(machines: Machines) -> None:
    machines.create(PASS, name="m")
    update, describe = machines.api.update_state_machine, machines.api.describe_state_machine

    same = update(stateMachineArn=ARN, definition=json.dumps(PASS))
    unchanged = describe(stateMachineArn=ARN)
    other = update(stateMachineArn=ARN, definition=json.dumps(WAIT))
    again = update(stateMachineArn=ARN, definition=json.dumps(WAIT), roleArn=ROLE)

    assert same == {"updateDate": same["updateDate"]}
    assert "revisionId" not in unchanged
    assert describe(stateMachineArn=ARN)["revisionId"] == other["revisionId"] == again["revisionId"]


async def test_a_version_is_published_once_of_what_an_update_did_not_change(machines: Machines) -> None:
    machines.create(PASS, name="m", publish=True)

    updated = machines.api.update_state_machine(
        stateMachineArn=ARN, definition=json.dumps(PASS), publish=True
    )

    assert updated == {"updateDate": updated["updateDate"], "stateMachineVersionArn": f"{ARN}:1"}


async def test_the_label_of_a_map_leads_to_what_it_does_with_each_item(machines: Machines) -> None:
    machines.create(MAP, name="m")

    described = machines.api.describe_state_machine(stateMachineArn=f"{ARN}/Each")

    assert json.loads(described["definition"]) == {
        "StartAt": "Pass",
        "States": {"Pass": {"Type": "Pass", "End": True}},
    }
    assert (described["stateMachineArn"], described["label"]) == (f"{ARN}/Each", "Each")
    missing = refused(machines.api.describe_state_machine, stateMachineArn=f"{ARN}/None")
    assert missing.code == "StateMachineDoesNotExist"


async def test_a_description_can_do_without_the_definition(machines: Machines) -> None:
    machines.create(PASS, name="m")
    execution = machines.api.start_execution(stateMachineArn=ARN)["executionArn"]
    whole = machines.api.describe_state_machine(stateMachineArn=ARN)
    of_execution = machines.api.describe_state_machine_for_execution(executionArn=execution)
    only_metadata = {"includedData": "METADATA_ONLY"}

    assert machines.api.describe_state_machine(stateMachineArn=ARN, **only_metadata) == {
        **whole,
        "definition": "{}",
    }
    assert machines.api.describe_state_machine_for_execution(executionArn=execution, **only_metadata) == {
        **of_execution,
        "definition": "{}",
    }


@pytest.mark.parametrize(
    "operation",
    [
        "start_execution",
        "update_state_machine",
        "delete_state_machine",
        "list_executions",
        "publish_state_machine_version",
    ],
)
async def test_other_operations_take_no_label(machines: Machines, operation: str) -> None:
    machines.create(MAP, name="m")
    members = {"roleArn": ROLE} if operation == "update_state_machine" else {}

    error = refused(getattr(machines.api, operation), stateMachineArn=f"{ARN}/Each", **members)

    assert (error.code, error.members) == (
        "ValidationException",
        {"reason": "API_DOES_NOT_SUPPORT_LABELED_ARNS"},
    )


@pytest.mark.parametrize(
    ("operation", "member", "type"),
    [
        ("describe_state_machine", "stateMachineArn", "execution"),
        ("start_execution", "stateMachineArn", "activity"),
        ("describe_execution", "executionArn", "stateMachine"),
        ("describe_activity", "activityArn", "stateMachine"),
        ("describe_state_machine_alias", "stateMachineAliasArn", "activity"),
        ("list_tags_for_resource", "resourceArn", "execution"),
    ],
)
async def test_an_arn_of_something_else_is_refused(
    machines: Machines, operation: str, member: str, type: str
) -> None:
    arn = f"arn:aws:states:us-east-1:111111111111:{type}:m"

    error = refused(getattr(machines.api, operation), **{member: arn})

    assert (error.code, error.message) == (
        "InvalidArn",
        f"Invalid Arn: 'Resource type not valid in this context: {type}'",
    )


async def test_a_token_of_another_list_is_none(machines: Machines) -> None:
    for name in ("a", "b"):
        machines.create(PASS, name=name)
        machines.api.create_activity(name=name)
    first, second = [(await machines.run(PASS)).arn, (await machines.run(WAIT | PASS)).arn]
    history = machines.api.get_execution_history
    of_machines = machines.api.list_state_machines(maxResults=1)["nextToken"]
    of_events = history(executionArn=first, maxResults=1)["nextToken"]

    assert len(history(executionArn=first, nextToken=of_events)["events"]) == 3
    for error in (
        refused(machines.api.list_activities, nextToken=of_machines),
        refused(history, executionArn=second, nextToken=of_events),
        refused(history, executionArn=second, nextToken="bm9uZQ=="),
        refused(history, executionArn=second, nextToken="?"),
    ):
        assert (error.code, error.message) == ("InvalidToken", "Invalid Token: 'Invalid token'")


async def test_what_has_too_many_tags_is_not_created(machines: Machines) -> None:
    tags = [{"key": f"key-{number}", "value": ""} for number in range(51)]

    error = refused(machines.create, definition=PASS, name="m", tags=tags)

    assert (error.code, error.members) == ("TooManyTags", {"resourceName": ARN})
    assert machines.api.list_state_machines() == {"stateMachines": []}
    machines.create(PASS, name="m", tags=tags[:50])
    assert refused(machines.api.tag_resource, resourceArn=ARN, tags=tags[50:]).code == "TooManyTags"
    assert refused(machines.api.create_activity, name="a", tags=tags).code == "TooManyTags"
    assert machines.api.list_activities() == {"activities": []}


async def test_tag_keys_of_aws_itself_are_reserved(machines: Machines) -> None:
    machines.create(PASS, name="m")

    error = refused(machines.api.tag_resource, resourceArn=ARN, tags=[{"key": "aws:team", "value": "x"}])

    assert error.code == "ValidationException"


@pytest.mark.parametrize(
    ("configuration", "problem"),
    [
        ({"level": "ALL"}, "Must specify exactly one Log Destination."),
        (
            {"level": "ALL", "destinations": [{"cloudWatchLogsLogGroup": {"logGroupArn": "arn:aws:logs"}}]},
            "Log Destination has invalid CloudWatchLogs LogGroup Arn",
        ),
    ],
)
async def test_a_log_that_leads_nowhere_is_refused(
    machines: Machines, configuration: dict[str, Any], problem: str
) -> None:
    machines.create(PASS, name="m")

    for error in (
        refused(machines.create, definition=PASS, name="other", loggingConfiguration=configuration),
        refused(machines.api.update_state_machine, stateMachineArn=ARN, loggingConfiguration=configuration),
    ):
        assert (error.code, error.message) == (
            "InvalidLoggingConfiguration",
            f"Invalid Logging Configuration: {problem}",
        )


async def test_a_key_goes_with_its_type(machines: Machines) -> None:
    given = {"type": "CUSTOMER_MANAGED_KMS_KEY"}

    assert refused(machines.create, definition=PASS, encryptionConfiguration=given).code == (
        "InvalidEncryptionConfiguration"
    )
    assert refused(machines.api.create_activity, name="a", encryptionConfiguration=given).code == (
        "InvalidEncryptionConfiguration"
    )


async def test_a_state_machine_without_executions_is_deleted_at_once(machines: Machines) -> None:
    machines.create(PASS, name="m")
    other = machines.start(WAIT)

    machines.api.delete_state_machine(stateMachineArn=ARN)

    assert refused(machines.api.describe_state_machine, stateMachineArn=ARN).code == (
        "StateMachineDoesNotExist"
    )
    assert machines.api.describe_execution(executionArn=other)["status"] == "RUNNING"


async def test_a_state_machine_is_gone_after_a_restart_that_nobody_waited_for(
    machines: Machines, tmp_path: Path
) -> None:
    """Its last execution was a synchronous one."""
    machines.create(WAIT, name="m", type="EXPRESS")
    waiting = asyncio.create_task(machines.api.start_sync_execution(stateMachineArn=ARN))
    await asyncio.sleep(0)
    machines.api.delete_state_machine(stateMachineArn=ARN)
    status = machines.api.describe_state_machine(stateMachineArn=ARN)["status"]
    machines.store.commit()

    again = await machines.killed(tmp_path / "again")
    await asyncio.sleep(0)

    assert status == "DELETING"
    assert refused(again.api.describe_state_machine, stateMachineArn=ARN).code == "StateMachineDoesNotExist"
    waiting.cancel()
    await again.close()


async def test_a_state_machine_is_gone_with_its_last_execution(machines: Machines) -> None:
    machines.create(WAIT, name="m")
    executions = [machines.api.start_execution(stateMachineArn=ARN)["executionArn"] for _ in range(3)]
    ended = await machines.run(only({"Type": "Fail"}))
    machines.api.delete_state_machine(stateMachineArn=ARN)

    statuses = []
    for execution in executions:
        statuses.append(machines.api.describe_state_machine(stateMachineArn=ARN)["status"])
        machines.api.stop_execution(executionArn=execution)

    assert statuses == ["DELETING"] * 3
    assert refused(machines.api.describe_state_machine, stateMachineArn=ARN).code == (
        "StateMachineDoesNotExist"
    )
    assert machines.api.describe_execution(executionArn=ended.arn)["redriveStatus"] == "REDRIVABLE"
