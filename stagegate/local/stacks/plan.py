"""What an update would do, as data: which resources are added, changed, replaced or removed, and why."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stagegate.local.stacks.evaluation import UNKNOWN, planning_evaluator
from stagegate.local.stacks.graph import dependencies, in_sequence
from stagegate.local.stacks.intrinsics import Evaluator
from stagegate.local.stacks.records import Document, Records
from stagegate.local.stacks.resources import RESOURCE_TYPES
from stagegate.local.stacks.schemas import schema
from stagegate.local.stacks.template import Template, parse

_POLICIES = ("Metadata", "DeletionPolicy", "UpdateReplacePolicy")


@dataclass(frozen=True, kw_only=True)
class Change:
    """One resource's part of a plan."""

    action: str
    """Add, Modify or Remove."""
    logical_id: str
    resource_type: str
    physical_id: str | None = None
    replacement: str | None = None
    """True, False or Conditional, of a resource that is modified."""
    properties: tuple[str, ...] = ()
    """Those that change."""
    replacing: tuple[str, ...] = ()
    """Those of them that replace."""
    dynamic: tuple[str, ...] = ()
    """Those of them whose new value is known only when other resources are there."""
    before: Mapping[str, Any] = field(default_factory=dict)
    """The properties as they are."""
    after: Mapping[str, Any] = field(default_factory=dict)
    """The properties as they will be, as far as that is known."""
    scope: tuple[str, ...] = ()
    policy_action: str | None = None


def planning(records: Records, stack: Document, template: Template, resolved: Mapping[str, Any]) -> Evaluator:
    """An evaluator for which every resource that is not there yet is unknown."""
    existing = {it["LogicalResourceId"] for it in _existing(records, stack)}
    unknown = set(template.resources) - existing
    return planning_evaluator(records, stack, template, dict(resolved), unknown)


def plan(records: Records, stack: Document, template: Template, resolved: Mapping[str, Any]) -> list[Change]:
    """The changes from the stack as it is to what `template` says, in the order in which they are made."""
    existing = {it["LogicalResourceId"]: it for it in _existing(records, stack)}
    unknown = set(template.resources) - existing.keys()
    evaluator = planning_evaluator(records, stack, template, dict(resolved), unknown)
    needs = dependencies(evaluator)
    changes = []
    for name in in_sequence(needs):
        declared = template.resources[name]
        if name not in existing:
            after = evaluator.value(declared.get("Properties", {}))
            changes.append(Change(action="Add", logical_id=name, resource_type=declared["Type"], after=after))
            continue
        change = _modification(name, declared, existing[name], evaluator)
        if change is not None:
            changes.append(change)
            if change.replacement == "True":
                unknown.add(name)
    changes += [
        Change(
            action="Remove",
            logical_id=name,
            resource_type=resource["ResourceType"],
            physical_id=resource.get("PhysicalResourceId"),
            before=resource["Properties"],
            policy_action="Retain" if str(resource.get("DeletionPolicy")).startswith("Retain") else "Delete",
        )
        for name, resource in existing.items()
        if name not in needs
    ]
    return changes


def is_changed(
    records: Records,
    stack: Document,
    template: Template,
    resolved: Mapping[str, Any],
    tags: list[dict[str, str]],
) -> bool:
    """Whether there is anything to do for an update.

    What has become of a resource's attributes in the meantime is nothing: CloudFormation compares what it was
    given with what it was given before. A stack that was left half done is tried again.
    """
    current = stack["Current"]
    is_same = template == parse(current["TemplateBody"]) and dict(resolved) == current.get("Resolved")
    if is_same and stack["StackStatus"].endswith("_COMPLETE") and not _has_references(stack):
        return bool(tags != current.get("Tags", []))
    return (
        bool(plan(records, stack, template, resolved))
        or template.outputs != parse(current["TemplateBody"]).outputs
        or tags != current.get("Tags", [])
        or _outputs_change(records, stack, template, resolved)
    )


def _outputs_change(
    records: Records, stack: Document, template: Template, resolved: Mapping[str, Any]
) -> bool:
    evaluator = planning_evaluator(records, stack, template, dict(resolved), set())
    return evaluator.outputs() != stack.get("Outputs", []) and not _has_references(stack)


def _has_references(stack: Document) -> bool:
    return "{{resolve:" in stack["Current"]["TemplateBody"]


def _existing(records: Records, stack: Document) -> list[Document]:
    gone = ("DELETE_COMPLETE", "DELETE_SKIPPED", "CREATE_FAILED")
    return [it for it in records.resources(stack["StackId"]) if it["ResourceStatus"] not in gone]


def _modification(
    name: str, declared: Mapping[str, Any], resource: Document, evaluator: Evaluator
) -> Change | None:
    kind = RESOURCE_TYPES[declared["Type"]]
    known = schema(kind.name)
    assert known is not None, kind.name
    old, new = resource["Properties"], evaluator.value(declared.get("Properties", {}))
    changed = sorted(part for part in old.keys() | new.keys() if old.get(part) != new.get(part))
    policies = [member for member in _POLICIES if declared.get(member) != resource.get(member)]
    if not changed and not policies:
        return None
    replacing = changed if kind.update is None else known.replaces(old, new)
    dynamic = [part for part in changed if _is_unknown(new.get(part))]
    conditional = bool(replacing) and all(part in dynamic for part in replacing)
    return Change(
        action="Modify",
        logical_id=name,
        resource_type=declared["Type"],
        physical_id=resource.get("PhysicalResourceId"),
        replacement=("Conditional" if conditional else "True") if replacing else "False",
        properties=tuple(changed),
        replacing=tuple(replacing),
        dynamic=tuple(dynamic),
        before=old,
        after=new,
        scope=(
            *(["Properties"] if set(changed) - {"Tags"} else []),
            *(["Tags"] if "Tags" in changed else []),
            *policies,
        ),
    )


def _is_unknown(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_is_unknown(part) for part in value.values())
    if isinstance(value, list):
        return any(_is_unknown(part) for part in value)
    return isinstance(value, str) and UNKNOWN in value
