"""AWS::Lambda: functions, who may invoke them, and their URLs."""

import io
import zipfile
from typing import Any

from stagegate.local.service import AWSError
from stagegate.local.stacks.resources.kind import (
    Attributes,
    Context,
    Properties,
    ResourceType,
    ignoring,
    picked,
    properties,
    renamed,
    update_tags,
)

_CONFIGURATION = (
    "Runtime Handler Role Description Timeout MemorySize Environment EphemeralStorage TracingConfig "
    "LoggingConfig DeadLetterConfig Layers VpcConfig"
)
_MISSING = "ResourceNotFoundException"


async def _create(context: Context, wanted: Properties) -> Attributes:
    answer = await context(
        "lambda",
        "CreateFunction",
        Code=_code(wanted),
        Tags=context.tag_map(wanted),
        **picked(wanted, f"FunctionName {_CONFIGURATION} Architectures PackageType"),
        **renamed(wanted, KmsKeyArn="KMSKeyArn"),
    )
    context.made(wanted["FunctionName"])
    return {"Arn": answer["FunctionArn"]}


def _code(wanted: Properties) -> dict[str, Any]:
    code: dict[str, Any] = wanted["Code"]
    if "ZipFile" in code:
        return {"ZipFile": _zipped(code["ZipFile"], str(wanted.get("Runtime", "")))}
    if "S3Bucket" not in code or "S3Key" not in code:
        raise AWSError("InvalidRequest", "Code: S3Bucket and S3Key, or ZipFile, must be given.")
    return picked(code, "S3Bucket S3Key S3ObjectVersion")


def _zipped(source: str, runtime: str) -> bytes:
    """The text of a ZipFile is the source of a module named index."""
    name = "index.py" if runtime.startswith("python") else "index.js"
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
        entry.external_attr = 0o644 << 16
        archive.writestr(entry, source)
    return content.getvalue()


async def _update(context: Context, name: str, old: Properties, new: Properties) -> None:
    if old["Code"] != new["Code"] or old.get("Architectures") != new.get("Architectures"):
        await context(
            "lambda",
            "UpdateFunctionCode",
            FunctionName=name,
            **_code(new),
            **picked(new, "Architectures"),
        )
    if picked(old, _CONFIGURATION) != picked(new, _CONFIGURATION):
        emptied: dict[str, Any] = {"Description": "", "Environment": {"Variables": {}}, "Layers": []}
        removed = {part: value for part, value in emptied.items() if part in old and part not in new}
        await context(
            "lambda",
            "UpdateFunctionConfiguration",
            FunctionName=name,
            **{**removed, **picked(new, _CONFIGURATION)},
        )
    arn = context.runtime.arn("lambda", f"function:{name}")
    await update_tags(
        context,
        old,
        new,
        put=lambda tags: context("lambda", "TagResource", Resource=arn, Tags=tags),
        remove=lambda keys: context("lambda", "UntagResource", Resource=arn, TagKeys=keys),
    )


async def _delete(context: Context, name: str | None, had: Properties) -> None:
    await ignoring(_MISSING, context("lambda", "DeleteFunction", FunctionName=name or had["FunctionName"]))


async def _permit(context: Context, wanted: Properties) -> Attributes:
    await context(
        "lambda",
        "AddPermission",
        StatementId=wanted["Id"],
        **picked(
            wanted,
            "FunctionName Action Principal SourceArn SourceAccount EventSourceToken PrincipalOrgID "
            "FunctionUrlAuthType InvokedViaFunctionUrl",
        ),
    )
    context.made(wanted["Id"])
    return {"Id": wanted["Id"]}


async def _forbid(context: Context, statement: str | None, had: Properties) -> None:
    statement = statement or had["Id"]
    await ignoring(
        _MISSING,
        context("lambda", "RemovePermission", FunctionName=had["FunctionName"], StatementId=statement),
    )


async def _create_url(context: Context, wanted: Properties) -> Attributes:
    answer = await context(
        "lambda",
        "CreateFunctionUrlConfig",
        FunctionName=wanted["TargetFunctionArn"],
        **picked(wanted, "Qualifier AuthType Cors InvokeMode"),
    )
    context.made(answer["FunctionArn"])
    return {"FunctionArn": answer["FunctionArn"], "FunctionUrl": answer["FunctionUrl"]}


async def _update_url(context: Context, arn: str, old: Properties, new: Properties) -> None:
    await context(
        "lambda",
        "UpdateFunctionUrlConfig",
        FunctionName=new["TargetFunctionArn"],
        **picked(new, "Qualifier AuthType Cors InvokeMode"),
    )


async def _delete_url(context: Context, arn: str | None, had: Properties) -> None:
    call = context(
        "lambda", "DeleteFunctionUrlConfig", FunctionName=had["TargetFunctionArn"], **picked(had, "Qualifier")
    )
    await ignoring(_MISSING, call)


_SOURCE = (
    "Enabled BatchSize MaximumBatchingWindowInSeconds FilterCriteria FunctionResponseTypes ScalingConfig"
)

_SOURCE_DEFAULTS: dict[str, Any] = {
    "Enabled": True,
    "BatchSize": 10,
    "MaximumBatchingWindowInSeconds": 0,
    "FilterCriteria": {},
    "FunctionResponseTypes": [],
    "ScalingConfig": {},
}
"""What is no longer said is so again."""


async def _create_source(context: Context, wanted: Properties) -> Attributes:
    answer = await context(
        "lambda",
        "CreateEventSourceMapping",
        **picked(wanted, f"EventSourceArn FunctionName {_SOURCE}"),
    )
    context.made(answer["UUID"])
    return {"Id": answer["UUID"], "EventSourceMappingArn": answer["EventSourceMappingArn"]}


async def _update_source(context: Context, mapping_id: str, old: Properties, new: Properties) -> None:
    await context(
        "lambda",
        "UpdateEventSourceMapping",
        UUID=mapping_id,
        **{**_SOURCE_DEFAULTS, **picked(new, f"FunctionName {_SOURCE}")},
    )


async def _delete_source(context: Context, mapping_id: str | None, had: Properties) -> None:
    if mapping_id is None:
        found = await ignoring(
            _MISSING,
            context("lambda", "ListEventSourceMappings", **picked(had, "EventSourceArn FunctionName")),
        )
        mapping_id = next((it["UUID"] for it in (found or {}).get("EventSourceMappings", ())), None)
    if mapping_id is not None:
        await ignoring(_MISSING, context("lambda", "DeleteEventSourceMapping", UUID=mapping_id))


TYPES = (
    ResourceType(
        name="AWS::Lambda::Function",
        supported=properties(f"{_CONFIGURATION} Architectures Code FunctionName KmsKeyArn PackageType Tags"),
        create=_create,
        update=_update,
        delete=_delete,
        named_by="FunctionName",
        longest_name=64,
    ),
    ResourceType(
        name="AWS::Lambda::Permission",
        supported=properties(
            "Action EventSourceToken FunctionName FunctionUrlAuthType InvokedViaFunctionUrl Principal "
            "PrincipalOrgID SourceAccount SourceArn"
        ),
        create=_permit,
        delete=_forbid,
        named_by="Id",
        longest_name=100,
    ),
    ResourceType(
        name="AWS::Lambda::Url",
        supported=properties("AuthType Cors InvokeMode Qualifier TargetFunctionArn"),
        create=_create_url,
        update=_update_url,
        delete=_delete_url,
    ),
    ResourceType(
        name="AWS::Lambda::EventSourceMapping",
        supported=properties(f"EventSourceArn FunctionName {_SOURCE}"),
        create=_create_source,
        update=_update_source,
        delete=_delete_source,
    ),
)
