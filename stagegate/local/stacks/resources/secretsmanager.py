"""AWS::SecretsManager: secrets, generated too."""

import json
import uuid
from typing import Any

from stagegate.local.stacks.resources.kind import (
    Attributes,
    Context,
    Properties,
    ResourceType,
    ignoring,
    picked,
    properties,
    update_tags,
)

_GENERATION = (
    "PasswordLength ExcludeCharacters ExcludeNumbers ExcludePunctuation ExcludeUppercase ExcludeLowercase "
    "IncludeSpace RequireEachIncludedType"
)


async def _create(context: Context, wanted: Properties) -> Attributes:
    answer = await context(
        "secretsmanager",
        "CreateSecret",
        SecretString=await _content(context, wanted),
        Tags=context.merged_tags(wanted),
        **picked(wanted, "Name Description KmsKeyId"),
    )
    context.made(answer["ARN"])
    return {"Id": answer["ARN"]}


async def _content(context: Context, wanted: Properties) -> str | None:
    given: str | None = wanted.get("SecretString")
    if "GenerateSecretString" not in wanted:
        return given
    generation: dict[str, Any] = wanted["GenerateSecretString"]
    answer = await context("secretsmanager", "GetRandomPassword", **picked(generation, _GENERATION))
    password: str = answer["RandomPassword"]
    if "GenerateStringKey" not in generation:
        return password
    template = json.loads(generation.get("SecretStringTemplate", "{}"))
    return json.dumps({**template, generation["GenerateStringKey"]: password})


async def _update(context: Context, arn: str, old: Properties, new: Properties) -> None:
    changes = {"Description": new.get("Description", ""), **picked(new, "KmsKeyId")}
    if old.get("SecretString") != new.get("SecretString") or (
        old.get("GenerateSecretString") != new.get("GenerateSecretString")
    ):
        changes["SecretString"] = await _content(context, new)
    token = str(uuid.uuid4())  # boto3 sends one always, and moto counts on it
    await context("secretsmanager", "UpdateSecret", SecretId=arn, ClientRequestToken=token, **changes)
    await update_tags(
        context,
        old,
        new,
        put=lambda tags: context(
            "secretsmanager",
            "TagResource",
            SecretId=arn,
            Tags=[{"Key": key, "Value": tags[key]} for key in tags],
        ),
        remove=lambda keys: context("secretsmanager", "UntagResource", SecretId=arn, TagKeys=keys),
    )


async def _delete(context: Context, arn: str | None, had: Properties) -> None:
    await ignoring(
        "ResourceNotFoundException",
        context(
            "secretsmanager", "DeleteSecret", SecretId=arn or had["Name"], ForceDeleteWithoutRecovery=True
        ),
    )


TYPES = (
    ResourceType(
        name="AWS::SecretsManager::Secret",
        supported=properties("Description GenerateSecretString KmsKeyId Name SecretString Tags"),
        create=_create,
        update=_update,
        delete=_delete,
        named_by="Name",
        longest_name=512,
    ),
)
