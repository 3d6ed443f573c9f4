"""AWS::Budgets: budgets with their notifications, which nothing spends here."""

from typing import Any

from stagegate.local.stacks.intrinsics import text
from stagegate.local.stacks.resources.kind import (
    Attributes,
    Context,
    Properties,
    ResourceType,
    ignoring,
    properties,
)

_MISSING = "NotFoundException"


def _budget(wanted: Properties) -> dict[str, Any]:
    """As the API has it: with amounts as texts, and with a name."""
    budget = {"BudgetName": wanted["Id"], **wanted["Budget"]}
    if limit := budget.get("BudgetLimit"):
        budget["BudgetLimit"] = {**limit, "Amount": text(limit["Amount"])}
    return budget


async def _create(context: Context, wanted: Properties) -> Attributes:
    budget = _budget(wanted)
    await context(
        "budgets",
        "CreateBudget",
        AccountId=context.runtime.account_id,
        Budget=budget,
        NotificationsWithSubscribers=wanted.get("NotificationsWithSubscribers"),
    )
    context.made(budget["BudgetName"])
    return {}


async def _update(context: Context, name: str, old: Properties, new: Properties) -> None:
    """moto has no UpdateBudget."""
    await _delete(context, name, old)
    await _create(context, new)


async def _delete(context: Context, name: str | None, had: Properties) -> None:
    name = name or _budget(had)["BudgetName"]
    call = context("budgets", "DeleteBudget", AccountId=context.runtime.account_id, BudgetName=name)
    await ignoring(_MISSING, call)


TYPES = (
    ResourceType(
        name="AWS::Budgets::Budget",
        supported=properties("Budget NotificationsWithSubscribers"),
        create=_create,
        update=_update,
        delete=_delete,
        named_by="Id",
        longest_name=100,
    ),
)
