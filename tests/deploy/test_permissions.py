"""The policies of the templates: actions that there are, and no "*" where IAM knows something narrower."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.resources import files
from typing import Any

import pytest

from stagegate.local.stacks.template import parse
from tests.workflows.conftest import ROOT

TEMPLATES = sorted((ROOT / "deploy").glob("*.yaml"))
REFERENCE = json.loads(
    files("cfnlint").joinpath("data", "AdditionalSpecs", "Policies.json").read_text(encoding="utf-8")
)
"""The Service Authorization Reference, as cfn-lint has it: the kinds of resources that each action knows."""

_INTERFACES = (
    "of a role in a VPC: the service makes, permits and deletes interfaces there, whose ids come later"
)
ON_ANYTHING = {
    "cloudwatch:PutMetricData": "it knows data sets alone, which metrics in a namespace are not: a condition "
    "on the namespace narrows it",
    "ec2:CreateNetworkInterface": _INTERFACES,
    "ec2:CreateNetworkInterfacePermission": _INTERFACES,
    "ec2:DeleteNetworkInterface": _INTERFACES,
    "ec2:DeleteNetworkInterfacePermission": _INTERFACES,
}
"""Actions that know resources, and yet have to be allowed on "*"; with the reason."""


@dataclass(frozen=True, kw_only=True)
class Allowed:
    role: str
    action: str
    resources: tuple[str, ...]
    has_condition: bool


def allowed(template: str) -> list[Allowed]:
    """Each action of each statement of the template's roles."""
    resources = parse((ROOT / "deploy" / template).read_text()).resources
    return [
        Allowed(
            role=name,
            action=action,
            resources=tuple(json.dumps(resource) for resource in as_list(statement["Resource"])),
            has_condition="Condition" in statement,
        )
        for name, resource in resources.items()
        if resource["Type"] == "AWS::IAM::Role"
        for statement in statements(resource["Properties"].get("Policies", []))
        for action in as_list(statement["Action"])
    ]


def statements(value: Any) -> Iterator[dict[str, Any]]:
    """What allows, however deep in conditions of the template."""
    if isinstance(value, list):
        for part in value:
            yield from statements(part)
    elif isinstance(value, dict):
        if value.get("Effect") == "Allow":
            yield value
        else:
            for part in value.values():
                yield from statements(part)


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def meant(action: str) -> list[dict[str, Any]]:
    """What the reference says of the action, or of those that a pattern stands for."""
    prefix, _, name = action.partition(":")
    known = REFERENCE.get(prefix, {}).get("Actions", {})
    return [entry for other, entry in known.items() if fnmatchcase(other, name.lower())]


@pytest.mark.parametrize("template", [path.name for path in TEMPLATES])
def test_every_action_is_one_that_iam_knows(template: str) -> None:
    assert [one.action for one in allowed(template) if not meant(one.action)] == []


@pytest.mark.parametrize("template", [path.name for path in TEMPLATES])
def test_an_action_is_allowed_on_anything_only_where_iam_knows_nothing_narrower(template: str) -> None:
    too_wide = [
        (one.role, one.action)
        for one in allowed(template)
        if '"*"' in one.resources
        and any(entry.get("Resources") for entry in meant(one.action))
        and one.action not in ON_ANYTHING
    ]

    assert too_wide == []


def test_metrics_are_sent_into_a_namespace_of_sagemaker_alone() -> None:
    sending = [one for one in allowed("platform.yaml") if one.action == "cloudwatch:PutMetricData"]

    assert sending
    assert all(one.has_condition for one in sending)


@pytest.mark.parametrize("template", [path.name for path in TEMPLATES])
def test_no_action_is_a_whole_service(template: str) -> None:
    assert [one.action for one in allowed(template) if one.action.partition(":")[2] in ("", "*")] == []
