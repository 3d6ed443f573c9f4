"""AWS::IAM: roles, their policies, and managed policies."""

import json
from collections.abc import Iterable
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


async def _create_role(context: Context, wanted: Properties) -> Attributes:
    name = wanted["RoleName"]
    answer = await context(
        "iam",
        "CreateRole",
        AssumeRolePolicyDocument=json.dumps(wanted["AssumeRolePolicyDocument"]),
        Tags=context.merged_tags(wanted),
        **picked(wanted, "RoleName Path Description MaxSessionDuration PermissionsBoundary"),
    )
    context.made(name)
    await _put_policies(context, name, wanted.get("Policies", ()))
    for arn in wanted.get("ManagedPolicyArns", ()):
        await context("iam", "AttachRolePolicy", RoleName=name, PolicyArn=arn)
    return {"Arn": answer["Role"]["Arn"], "RoleId": answer["Role"]["RoleId"]}


async def _put_policies(context: Context, role: str, policies: Iterable[Any]) -> None:
    for policy in policies:
        await context(
            "iam",
            "PutRolePolicy",
            RoleName=role,
            PolicyName=policy["PolicyName"],
            PolicyDocument=json.dumps(policy["PolicyDocument"]),
        )


async def _update_role(context: Context, name: str, old: Properties, new: Properties) -> None:
    if old["AssumeRolePolicyDocument"] != new["AssumeRolePolicyDocument"]:
        document = json.dumps(new["AssumeRolePolicyDocument"])
        await context("iam", "UpdateAssumeRolePolicy", RoleName=name, PolicyDocument=document)
    if picked(old, "Description MaxSessionDuration") != picked(new, "Description MaxSessionDuration"):
        await context(
            "iam",
            "UpdateRole",
            RoleName=name,
            Description=new.get("Description", ""),
            MaxSessionDuration=new.get("MaxSessionDuration", 3600),
        )
    if old.get("PermissionsBoundary") != new.get("PermissionsBoundary"):
        if boundary := new.get("PermissionsBoundary"):
            await context("iam", "PutRolePermissionsBoundary", RoleName=name, PermissionsBoundary=boundary)
        else:
            await context("iam", "DeleteRolePermissionsBoundary", RoleName=name)
    kept = {policy["PolicyName"] for policy in new.get("Policies", ())}
    for policy in old.get("Policies", ()):
        if policy["PolicyName"] not in kept:
            await ignoring(
                "NoSuchEntity",
                context("iam", "DeleteRolePolicy", RoleName=name, PolicyName=policy["PolicyName"]),
            )
    await _put_policies(context, name, new.get("Policies", ()))
    before, after = set(old.get("ManagedPolicyArns", ())), set(new.get("ManagedPolicyArns", ()))
    for arn in sorted(before - after):
        await ignoring("NoSuchEntity", context("iam", "DetachRolePolicy", RoleName=name, PolicyArn=arn))
    for arn in sorted(after - before):
        await context("iam", "AttachRolePolicy", RoleName=name, PolicyArn=arn)
    await update_tags(
        context,
        old,
        new,
        put=lambda tags: context(
            "iam", "TagRole", RoleName=name, Tags=[{"Key": key, "Value": tags[key]} for key in tags]
        ),
        remove=lambda keys: context("iam", "UntagRole", RoleName=name, TagKeys=keys),
    )


async def _delete_role(context: Context, name: str | None, had: Properties) -> None:
    role = name or had["RoleName"]
    inline = await ignoring("NoSuchEntity", context("iam", "ListRolePolicies", RoleName=role))
    if inline is None:
        return
    for policy in inline["PolicyNames"]:
        await context("iam", "DeleteRolePolicy", RoleName=role, PolicyName=policy)
    attached = await context("iam", "ListAttachedRolePolicies", RoleName=role)
    for policy in attached["AttachedPolicies"]:
        await context("iam", "DetachRolePolicy", RoleName=role, PolicyArn=policy["PolicyArn"])
    await context("iam", "DeleteRole", RoleName=role)


_HOLDERS = (("Roles", "Role"), ("Users", "User"), ("Groups", "Group"))


def _holders(had: Properties) -> set[tuple[str, str]]:
    return {(kind, name) for plural, kind in _HOLDERS for name in had.get(plural, ())}


async def _create_policy(context: Context, wanted: Properties) -> Attributes:
    context.made(wanted["Id"])
    document = json.dumps(wanted["PolicyDocument"])
    for kind, name in sorted(_holders(wanted)):
        holder = {f"{kind}Name": name}
        await context(
            "iam", f"Put{kind}Policy", PolicyName=wanted["PolicyName"], PolicyDocument=document, **holder
        )
    return {"Id": wanted["Id"]}


async def _update_policy(context: Context, policy_id: str, old: Properties, new: Properties) -> None:
    gone = _holders(old) if old["PolicyName"] != new["PolicyName"] else _holders(old) - _holders(new)
    await _create_policy_at(context, new)
    await _remove_policy(context, old["PolicyName"], gone)


async def _create_policy_at(context: Context, wanted: Properties) -> None:
    document = json.dumps(wanted["PolicyDocument"])
    for kind, name in sorted(_holders(wanted)):
        holder = {f"{kind}Name": name}
        await context(
            "iam", f"Put{kind}Policy", PolicyName=wanted["PolicyName"], PolicyDocument=document, **holder
        )


async def _remove_policy(context: Context, policy: str, holders: set[tuple[str, str]]) -> None:
    for kind, name in sorted(holders):
        holder = {f"{kind}Name": name}
        await ignoring("NoSuchEntity", context("iam", f"Delete{kind}Policy", PolicyName=policy, **holder))


async def _delete_policy(context: Context, policy_id: str | None, had: Properties) -> None:
    await _remove_policy(context, had["PolicyName"], _holders(had))


async def _create_managed(context: Context, wanted: Properties) -> Attributes:
    answer = await context(
        "iam",
        "CreatePolicy",
        PolicyName=wanted["ManagedPolicyName"],
        PolicyDocument=json.dumps(wanted["PolicyDocument"]),
        **picked(wanted, "Path Description"),
    )
    policy = answer["Policy"]
    context.made(policy["Arn"])
    for kind, name in sorted(_holders(wanted)):
        await context("iam", f"Attach{kind}Policy", PolicyArn=policy["Arn"], **{f"{kind}Name": name})
    return {"PolicyArn": policy["Arn"], "PolicyId": policy["PolicyId"]}


async def _update_managed(context: Context, arn: str, old: Properties, new: Properties) -> None:
    if old["PolicyDocument"] != new["PolicyDocument"]:
        for version in (await context("iam", "ListPolicyVersions", PolicyArn=arn))["Versions"]:
            if not version["IsDefaultVersion"]:
                await context("iam", "DeletePolicyVersion", PolicyArn=arn, VersionId=version["VersionId"])
        document = json.dumps(new["PolicyDocument"])
        await context("iam", "CreatePolicyVersion", PolicyArn=arn, PolicyDocument=document, SetAsDefault=True)
    await _detach(context, arn, _holders(old) - _holders(new))
    for kind, name in sorted(_holders(new) - _holders(old)):
        await context("iam", f"Attach{kind}Policy", PolicyArn=arn, **{f"{kind}Name": name})


async def _detach(context: Context, arn: str, holders: set[tuple[str, str]]) -> None:
    for kind, name in sorted(holders):
        call = context("iam", f"Detach{kind}Policy", PolicyArn=arn, **{f"{kind}Name": name})
        await ignoring("NoSuchEntity", call)


async def _delete_managed(context: Context, arn: str | None, had: Properties) -> None:
    path = had.get("Path", "/")
    arn = arn or f"arn:aws:iam::{context.runtime.account_id}:policy{path}{had['ManagedPolicyName']}"
    await _detach(context, arn, _holders(had))
    versions = await ignoring("NoSuchEntity", context("iam", "ListPolicyVersions", PolicyArn=arn))
    if versions is None:
        return
    for version in versions["Versions"]:
        if not version["IsDefaultVersion"]:
            await context("iam", "DeletePolicyVersion", PolicyArn=arn, VersionId=version["VersionId"])
    await context("iam", "DeletePolicy", PolicyArn=arn)


TYPES = (
    ResourceType(
        name="AWS::IAM::Role",
        supported=properties(
            "AssumeRolePolicyDocument Description ManagedPolicyArns MaxSessionDuration Path "
            "PermissionsBoundary Policies RoleName Tags"
        ),
        create=_create_role,
        update=_update_role,
        delete=_delete_role,
        named_by="RoleName",
        longest_name=64,
    ),
    ResourceType(
        name="AWS::IAM::Policy",
        supported=properties("Groups PolicyDocument PolicyName Roles Users"),
        create=_create_policy,
        update=_update_policy,
        delete=_delete_policy,
        named_by="Id",
        longest_name=128,
    ),
    ResourceType(
        name="AWS::IAM::ManagedPolicy",
        supported=properties("Description Groups ManagedPolicyName Path PolicyDocument Roles Users"),
        create=_create_managed,
        update=_update_managed,
        delete=_delete_managed,
        named_by="ManagedPolicyName",
        longest_name=128,
    ),
)
