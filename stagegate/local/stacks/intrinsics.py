"""The functions of a template: from what is written, with parameters, conditions and resources, to values.

A function of `_FUNCTIONS` takes its argument as written and evaluates what it needs of it, so that `Fn::If`
leaves the branch alone that is not taken.
"""

import base64
import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from stagegate.local.service import AWSError
from stagegate.local.stacks.template import LANGUAGE_EXTENSIONS, Template

NO_VALUE = object()
"""What `AWS::NoValue` is: the property that has it is not there."""

_PLACE = re.compile(r"\$\{([^}]*)\}")


class Resources(Protocol):
    """Where Ref and Fn::GetAtt find the stack's resources, and Fn::ImportValue other stacks' outputs."""

    def ref(self, logical_id: str) -> str: ...

    def attribute(self, logical_id: str, name: str) -> Any: ...

    def imported(self, name: str) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Gives values for what a template says, for one stack."""

    template: Template
    parameters: Mapping[str, Any]
    pseudo: Mapping[str, Any]
    """`AWS::Region` and its like."""
    resources: Resources
    _conditions: dict[str, bool] = field(default_factory=dict)

    def value(self, written: Any) -> Any:
        """`written` with every function in it replaced by what it gives."""
        if isinstance(written, list):
            return [value for part in written if (value := self.value(part)) is not NO_VALUE]
        if not isinstance(written, dict):
            return written
        if len(written) == 1:
            ((name, argument),) = written.items()
            if function := _FUNCTIONS.get(name):
                return function(self, argument)
            if str(name).startswith("Fn::"):
                raise template_error(f"{name} is not supported by the local runtime")
        return {name: value for name, part in written.items() if (value := self.value(part)) is not NO_VALUE}

    def condition(self, name: str) -> bool:
        """Whether the condition of that name holds."""
        if name not in self._conditions:
            if name not in self.template.conditions:
                raise format_error_of_condition(name)
            self._conditions[name] = self.holds(self.template.conditions[name])
        return self._conditions[name]

    def holds(self, written: Any) -> bool:
        """A condition as it is written where a condition may stand."""
        if isinstance(written, dict) and set(written) == {"Condition"}:
            return self.condition(written["Condition"])
        value = self.value(written)
        if isinstance(value, bool):
            return value
        if value in ("true", "false"):
            return bool(value == "true")
        raise template_error(f"every condition must be true or false, not {value!r}")

    def taken(self, written: Any) -> Any:
        """`written` with only the branches of Fn::If that are taken: the others need nothing."""
        if isinstance(written, list):
            return [self.taken(part) for part in written]
        if not isinstance(written, dict):
            return written
        branch = written.get("Fn::If")
        if len(written) == 1 and isinstance(branch, list) and len(branch) == 3:
            return self.taken(branch[1] if self.condition(branch[0]) else branch[2])
        return {name: self.taken(part) for name, part in written.items()}

    def active(self) -> list[str]:
        """The resources whose conditions hold."""
        return [
            name
            for name, resource in self.template.resources.items()
            if "Condition" not in resource or self.condition(resource["Condition"])
        ]

    def outputs(self) -> list[dict[str, Any]]:
        """The outputs whose conditions hold, as DescribeStacks gives them."""
        answer = []
        for name, output in self.template.outputs.items():
            if "Condition" in output and not self.condition(output["Condition"]):
                continue
            entry = {"OutputKey": name, "OutputValue": text(self.value(output["Value"]))}
            if "Description" in output:
                entry["Description"] = output["Description"]
            if "Export" in output:
                entry["ExportName"] = text(self.value(output["Export"]["Name"]))
            answer.append(entry)
        return answer


def template_error(message: str) -> AWSError:
    return AWSError("ValidationError", f"Template error: {message}")


def format_error_of_condition(name: str) -> AWSError:
    return AWSError("ValidationError", f"Template format error: Unresolved condition dependency {name}")


def text(value: Any) -> str:
    """A value where a text is wanted: numbers and booleans as JSON writes them."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int | float):
        return str(value)
    raise template_error(f"a text was expected, and there is {json.dumps(value, default=str)[:200]}")


def _arguments(name: str, argument: Any, *counts: int) -> list[Any]:
    if not isinstance(argument, list) or len(argument) not in counts:
        wanted = " or ".join(str(count) for count in counts)
        raise template_error(f"{name} object requires a list of {wanted} parameters")
    return argument


def _ref(evaluator: Evaluator, name: Any) -> Any:
    if name == "AWS::NoValue":
        return NO_VALUE
    if name in evaluator.pseudo:
        return evaluator.pseudo[name]
    if name in evaluator.parameters:
        return evaluator.parameters[name]
    return evaluator.resources.ref(name)


def _get_att(evaluator: Evaluator, argument: Any) -> Any:
    logical_id, attribute = argument.split(".", 1) if isinstance(argument, str) else argument
    return evaluator.resources.attribute(logical_id, text(evaluator.value(attribute)))


def _sub(evaluator: Evaluator, argument: Any) -> str:
    if isinstance(argument, str):
        pattern, variables = argument, {}
    else:
        pattern, variables = _arguments("Fn::Sub", argument, 2)

    def put(match: re.Match[str]) -> str:
        name = match[1].strip()
        if name.startswith("!"):
            return "${" + name[1:] + "}"
        if name in variables:
            return text(evaluator.value(variables[name]))
        if "." in name:
            return text(_get_att(evaluator, name))
        return text(_ref(evaluator, name))

    return _PLACE.sub(put, pattern)


def _join(evaluator: Evaluator, argument: Any) -> str:
    separator, parts = _arguments("Fn::Join", argument, 2)
    values = evaluator.value(parts)
    if not isinstance(values, list):
        raise template_error(
            "every Fn::Join object requires two parameters, (1) a string delimiter and (2) a list"
        )
    return str(separator).join(text(value) for value in values)


def _select(evaluator: Evaluator, argument: Any) -> Any:
    index, choices = _arguments("Fn::Select", argument, 2)
    number, values = int(text(evaluator.value(index))), evaluator.value(choices)
    if not isinstance(values, list) or not 0 <= number < len(values):
        raise template_error(f"Fn::Select cannot select nonexistent value at index {number}")
    return values[number]


def _split(evaluator: Evaluator, argument: Any) -> list[str]:
    separator, source = _arguments("Fn::Split", argument, 2)
    return text(evaluator.value(source)).split(separator)


def _if(evaluator: Evaluator, argument: Any) -> Any:
    condition, when, otherwise = _arguments("Fn::If", argument, 3)
    return evaluator.value(when if evaluator.condition(condition) else otherwise)


def _equals(evaluator: Evaluator, argument: Any) -> bool:
    left, right = _arguments("Fn::Equals", argument, 2)
    first, second = evaluator.value(left), evaluator.value(right)
    if isinstance(first, dict | list) or isinstance(second, dict | list):
        return bool(first == second)
    return text(first) == text(second)


def _find_in_map(evaluator: Evaluator, argument: Any) -> Any:
    name, first, second = (
        text(evaluator.value(key)) for key in _arguments("Fn::FindInMap", argument, 3, 4)[:3]
    )
    try:
        return evaluator.template.mappings[name][first][second]
    except KeyError:
        if len(argument) == 4 and "DefaultValue" in argument[3]:
            check_extension(evaluator.template, "DefaultValue of Fn::FindInMap")
            return evaluator.value(argument[3]["DefaultValue"])
        raise template_error(f"Unable to get mapping for {name}::{first}::{second}") from None


def _cidr(evaluator: Evaluator, argument: Any) -> list[str]:
    block, count, bits = [evaluator.value(part) for part in (*_arguments("Fn::Cidr", argument, 2, 3), 8)[:3]]
    network = ipaddress.ip_network(text(block))
    prefix = network.max_prefixlen - int(text(bits))
    subnets = network.subnets(new_prefix=prefix)
    try:
        return [str(next(subnets)) for _ in range(int(text(count)))]
    except StopIteration:
        raise template_error(f"Fn::Cidr: {block} has not {count} blocks of {bits} bits") from None


def check_extension(template: Template, function: str) -> None:
    """Refuse what only the transform AWS::LanguageExtensions brings."""
    if not template.knows_extensions:
        raise template_error(f"{function} needs the template's Transform: {LANGUAGE_EXTENSIONS}")


def _length(evaluator: Evaluator, argument: Any) -> int:
    check_extension(evaluator.template, "Fn::Length")
    value = evaluator.value(argument)
    if not isinstance(value, list):
        raise template_error("Fn::Length object requires a list")
    return len(value)


def _to_json_string(evaluator: Evaluator, argument: Any) -> str:
    check_extension(evaluator.template, "Fn::ToJsonString")
    return json.dumps(evaluator.value(argument), separators=(",", ":"))


_FUNCTIONS: Mapping[str, Callable[[Evaluator, Any], Any]] = {
    "Ref": _ref,
    "Condition": lambda evaluator, argument: (
        evaluator.condition(argument)
        if isinstance(argument, str)
        else {"Condition": evaluator.value(argument)}
    ),
    "Fn::And": lambda evaluator, argument: all(evaluator.holds(part) for part in argument),
    "Fn::Base64": lambda evaluator, argument: base64.b64encode(
        text(evaluator.value(argument)).encode()
    ).decode(),
    "Fn::Cidr": _cidr,
    "Fn::Equals": _equals,
    "Fn::FindInMap": _find_in_map,
    "Fn::GetAZs": lambda evaluator, argument: [
        f"{text(evaluator.value(argument)) or evaluator.pseudo['AWS::Region']}{zone}" for zone in "abcdef"
    ],
    "Fn::GetAtt": _get_att,
    "Fn::If": _if,
    "Fn::ImportValue": lambda evaluator, argument: evaluator.resources.imported(
        text(evaluator.value(argument))
    ),
    "Fn::Join": _join,
    "Fn::Length": _length,
    "Fn::Not": lambda evaluator, argument: not evaluator.holds(_arguments("Fn::Not", argument, 1)[0]),
    "Fn::Or": lambda evaluator, argument: any(evaluator.holds(part) for part in argument),
    "Fn::Select": _select,
    "Fn::Split": _split,
    "Fn::Sub": _sub,
    "Fn::ToJsonString": _to_json_string,
}
"""By name, as a template writes it."""
