"""AWS::SSM: parameters."""

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

_AS_GIVEN = "Name Value Type Description AllowedPattern DataType Tier Policies"


def _attributes(had: Properties) -> Attributes:
    return {"Type": had["Type"], "Value": had["Value"]}


async def _create(context: Context, wanted: Properties) -> Attributes:
    await context("ssm", "PutParameter", Tags=context.merged_tags(wanted), **picked(wanted, _AS_GIVEN))
    context.made(wanted["Name"])
    return _attributes(wanted)


async def _update(context: Context, name: str, old: Properties, new: Properties) -> Attributes:
    given = {"Description": "", **picked(new, _AS_GIVEN)}
    await context("ssm", "PutParameter", Overwrite=True, **given)
    it = {"ResourceType": "Parameter", "ResourceId": name}
    await update_tags(
        context,
        old,
        new,
        put=lambda tags: context(
            "ssm", "AddTagsToResource", Tags=[{"Key": key, "Value": tags[key]} for key in tags], **it
        ),
        remove=lambda keys: context("ssm", "RemoveTagsFromResource", TagKeys=keys, **it),
    )
    return _attributes(new)


async def _delete(context: Context, name: str | None, had: Properties) -> None:
    await ignoring("ParameterNotFound", context("ssm", "DeleteParameter", Name=name or had["Name"]))


TYPES = (
    ResourceType(
        name="AWS::SSM::Parameter",
        supported=properties(f"{_AS_GIVEN} Tags"),
        create=_create,
        update=_update,
        delete=_delete,
        named_by="Name",
        longest_name=255,
        attributes=properties("Type Value"),
    ),
)
