"""A stack's parameters: given, kept from before or by default, checked against what the template allows."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from stagegate.local.service import Aws, AWSError
from stagegate.local.stacks.template import Template, format_error

_SSM_VALUE = "AWS::SSM::Parameter::Value<"
_TYPES = ("String", "Number", "List<Number>", "CommaDelimitedList", "List<", "AWS::")

Given = Sequence[Mapping[str, Any]]


def choose(template: Template, given: Given, previous: Mapping[str, str] | None = None) -> dict[str, str]:
    """Each parameter's value as text; a ValidationError in CloudFormation's words where one will not do."""
    by_key = {entry["ParameterKey"]: entry for entry in given}
    if extra := [key for key in by_key if key not in template.parameters]:
        raise AWSError("ValidationError", f"Parameters: [{', '.join(extra)}] do not exist in the template")
    values: dict[str, str] = {}
    missing = []
    for name, declared in template.parameters.items():
        value = _value(name, declared, by_key.get(name), previous)
        if value is None:
            missing.append(name)
        else:
            _check(name, declared, value)
            values[name] = value
    if missing:
        raise AWSError("ValidationError", f"Parameters: [{', '.join(missing)}] must have values")
    return values


def _value(
    name: str,
    declared: Mapping[str, Any],
    given: Mapping[str, Any] | None,
    previous: Mapping[str, str] | None,
) -> str | None:
    if given is not None and given.get("UsePreviousValue"):
        if previous is None or name not in previous:
            raise AWSError(
                "ValidationError", f"Invalid input for parameter key {name}. Cannot use previous value."
            )
        return previous[name]
    if given is not None and given.get("ParameterValue") is not None:
        return str(given["ParameterValue"])
    if "Default" in declared:
        return _text(declared["Default"])
    return None


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _check(name: str, declared: Mapping[str, Any], value: str) -> None:
    kind = declared["Type"]
    if not isinstance(kind, str) or not kind.startswith(_TYPES):
        raise format_error(f"Unrecognized parameter type: {kind}")
    wrong = declared.get("ConstraintDescription")

    def refuse(reason: str) -> AWSError:
        return AWSError(
            "ValidationError", f"Parameter {name} failed to satisfy constraint: {wrong or reason}"
        )

    parts = (
        [part.strip() for part in value.split(",")]
        if kind.startswith(("List<", "CommaDelimited"))
        else [value]
    )
    if kind in ("Number", "List<Number>"):
        for part in parts:
            _check_number(name, declared, part, refuse)
    allowed = declared.get("AllowedValues")
    if allowed is not None and any(part not in [_text(choice) for choice in allowed] for part in parts):
        listed = ", ".join(_text(choice) for choice in allowed)
        raise AWSError(
            "ValidationError",
            wrong_or(wrong, name, f"Parameter '{name}' must be one of AllowedValues [{listed}]"),
        )
    if kind == "String":
        pattern = declared.get("AllowedPattern")
        if pattern is not None and re.fullmatch(str(pattern), value) is None:
            raise refuse(f"Parameter {name} must match pattern {pattern}")
        if len(value) < int(declared.get("MinLength", 0)):
            raise refuse(f"Parameter {name} must contain at least {declared['MinLength']} characters")
        if "MaxLength" in declared and len(value) > int(declared["MaxLength"]):
            raise refuse(f"Parameter {name} must contain at most {declared['MaxLength']} characters")


def wrong_or(described: str | None, name: str, reason: str) -> str:
    """CloudFormation shows the template's own description of a constraint in the place of its reason."""
    return f"Parameter {name} failed to satisfy constraint: {described}" if described else reason


def _check_number(name: str, declared: Mapping[str, Any], value: str, refuse: Any) -> None:
    try:
        number = float(value)
    except ValueError:
        raise AWSError("ValidationError", f"Parameter '{name}' must be a number; '{value}' is none") from None
    if "MinValue" in declared and number < float(declared["MinValue"]):
        raise refuse(f"Parameter {name} must be a number not less than {declared['MinValue']}")
    if "MaxValue" in declared and number > float(declared["MaxValue"]):
        raise refuse(f"Parameter {name} must be a number not greater than {declared['MaxValue']}")


async def resolve(template: Template, values: Mapping[str, str], aws: Aws) -> dict[str, Any]:
    """What `Ref` gives for each parameter: lists as lists, an SSM parameter's value instead of its name."""
    resolved: dict[str, Any] = {}
    for name, value in values.items():
        kind = template.parameters[name]["Type"]
        if kind.startswith(_SSM_VALUE):
            try:
                value = (await aws("ssm", "GetParameter", {"Name": value}))["Parameter"]["Value"]
            except AWSError as error:
                raise AWSError(
                    "ValidationError",
                    f"Unable to fetch parameters [{value}] from parameter store for this account.",
                ) from error
            kind = kind.removeprefix(_SSM_VALUE).removesuffix(">")
        is_list = kind.startswith(("List<", "CommaDelimitedList"))
        resolved[name] = [part.strip() for part in value.split(",")] if is_list else value
    return resolved


def described(
    template: Template, values: Mapping[str, str], resolved: Mapping[str, Any]
) -> list[dict[str, str]]:
    """The parameters as DescribeStacks gives them: a secret one as four stars."""
    answer = []
    for name, value in values.items():
        declared = template.parameters.get(name, {})
        hidden = str(declared.get("NoEcho", "false")).lower() == "true"
        entry = {"ParameterKey": name, "ParameterValue": "****" if hidden else value}
        if str(declared.get("Type", "")).startswith(_SSM_VALUE):
            found = resolved.get(name, "")
            entry["ResolvedValue"] = ",".join(found) if isinstance(found, list) else str(found)
        answer.append(entry)
    return answer


def declared(template: Template) -> list[dict[str, Any]]:
    """The parameters as ValidateTemplate and GetTemplateSummary give them."""
    answer = []
    for name, parameter in template.parameters.items():
        entry: dict[str, Any] = {
            "ParameterKey": name,
            "ParameterType": parameter["Type"],
            "NoEcho": str(parameter.get("NoEcho", "false")).lower() == "true",
        }
        if "Default" in parameter:
            entry["DefaultValue"] = _text(parameter["Default"])
        if "Description" in parameter:
            entry["Description"] = parameter["Description"]
        if "AllowedValues" in parameter:
            entry["ParameterConstraints"] = {
                "AllowedValues": [_text(choice) for choice in parameter["AllowedValues"]]
            }
        answer.append(entry)
    return answer
