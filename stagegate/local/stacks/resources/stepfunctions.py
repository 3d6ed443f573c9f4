"""AWS::StepFunctions: state machines."""

import json
import re
from typing import Any

from stagegate.local import s3
from stagegate.local.service import AWSError
from stagegate.local.stacks.intrinsics import text
from stagegate.local.stacks.resources.kind import (
    Attributes,
    Context,
    Properties,
    ResourceType,
    ignoring,
    lower_first,
    properties,
    renamed,
    update_tags,
)

_PLACE = re.compile(r"\$\{([^}]+)\}")


async def _definition(context: Context, wanted: Properties) -> str:
    """The definition, wherever it is given, with its substitutions."""
    if "DefinitionString" in wanted:
        definition: str = wanted["DefinitionString"]
    elif "Definition" in wanted:
        definition = json.dumps(wanted["Definition"], ensure_ascii=False)
    elif location := wanted.get("DefinitionS3Location"):
        definition = await _read(context, location)
    else:
        raise AWSError(
            "InvalidRequest", "One of DefinitionString, Definition and DefinitionS3Location must be given."
        )
    values = wanted.get("DefinitionSubstitutions", {})

    def put(match: re.Match[str]) -> str:
        if match[1] not in values:
            return match[0]
        return json.dumps(text(values[match[1]]), ensure_ascii=False)[1:-1]

    return _PLACE.sub(put, definition)


async def _read(context: Context, location: dict[str, Any]) -> str:
    try:
        if version := location.get("Version"):
            answer = await context(
                "s3", "GetObject", Bucket=location["Bucket"], Key=location["Key"], VersionId=version
            )
            content: bytes = answer["Body"]
        else:
            content = await s3.read(context.runtime.aws, f"s3://{location['Bucket']}/{location['Key']}")
    except AWSError as error:
        place = f"s3://{location['Bucket']}/{location['Key']}"
        raise AWSError(error.code, f"The definition {place} cannot be read: {error.message}") from error
    return content.decode()


def _configuration(wanted: Properties) -> dict[str, Any]:
    return {
        name: lower_first(value)
        for name, value in renamed(
            wanted,
            LoggingConfiguration="loggingConfiguration",
            TracingConfiguration="tracingConfiguration",
            EncryptionConfiguration="encryptionConfiguration",
        ).items()
    }


async def _create(context: Context, wanted: Properties) -> Attributes:
    name = wanted["StateMachineName"]
    answer = await context(
        "stepfunctions",
        "CreateStateMachine",
        name=name,
        definition=await _definition(context, wanted),
        roleArn=wanted["RoleArn"],
        type=wanted.get("StateMachineType", "STANDARD"),
        tags=lower_first(context.merged_tags(wanted)),
        **_configuration(wanted),
    )
    context.made(answer["stateMachineArn"])
    return await _attributes(context, answer["stateMachineArn"])


async def _attributes(context: Context, arn: str) -> Attributes:
    machine = await context("stepfunctions", "DescribeStateMachine", stateMachineArn=arn)
    revision = machine.get("revisionId", "INITIAL")  # as PublishStateMachineVersion calls the first one
    return {"Arn": arn, "Name": machine["name"], "StateMachineRevisionId": revision}


async def _update(context: Context, arn: str, old: Properties, new: Properties) -> Attributes:
    removed: dict[str, Any] = {}
    if "LoggingConfiguration" in old and "LoggingConfiguration" not in new:
        removed["loggingConfiguration"] = {"level": "OFF", "includeExecutionData": False, "destinations": []}
    if "TracingConfiguration" in old and "TracingConfiguration" not in new:
        removed["tracingConfiguration"] = {"enabled": False}
    await context(
        "stepfunctions",
        "UpdateStateMachine",
        stateMachineArn=arn,
        definition=await _definition(context, new),
        roleArn=new["RoleArn"],
        **removed,
        **_configuration(new),
    )
    await update_tags(
        context,
        old,
        new,
        put=lambda tags: context(
            "stepfunctions",
            "TagResource",
            resourceArn=arn,
            tags=[{"key": key, "value": tags[key]} for key in tags],
        ),
        remove=lambda keys: context("stepfunctions", "UntagResource", resourceArn=arn, tagKeys=keys),
    )
    return await _attributes(context, arn)


async def _delete(context: Context, arn: str | None, had: Properties) -> None:
    arn = arn or context.runtime.arn("states", f"stateMachine:{had['StateMachineName']}")
    await ignoring(
        "StateMachineDoesNotExist", context("stepfunctions", "DeleteStateMachine", stateMachineArn=arn)
    )


TYPES = (
    ResourceType(
        name="AWS::StepFunctions::StateMachine",
        supported=properties(
            "Definition DefinitionS3Location DefinitionString DefinitionSubstitutions "
            "EncryptionConfiguration LoggingConfiguration RoleArn StateMachineName StateMachineType Tags "
            "TracingConfiguration"
        ),
        create=_create,
        update=_update,
        delete=_delete,
        named_by="StateMachineName",
        longest_name=80,
    ),
)
