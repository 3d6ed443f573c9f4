"""The transform AWS::LanguageExtensions: Fn::ForEach written out, before a template is evaluated.

CloudFormation User Guide, "AWS::LanguageExtensions transform" and "Fn::ForEach".
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from stagegate.local.service import AWSError
from stagegate.local.stacks.template import LANGUAGE_EXTENSIONS, LOOP, Template, parse, read

_PLACE = re.compile(r"([$&])\{(\w+)\}")
_MOST_NESTED = 5


def processed(template: Template, resolved: Mapping[str, Any]) -> Template:
    """The template without the transform and with its loops written out, for these parameters."""
    if not template.is_extended:
        return template
    body = {section: part for section, part in read(template.text).items() if section != "Transform"}
    expanded = {
        section: _expanded(part, {}, resolved) if section in _LOOPED else part
        for section, part in body.items()
    }
    return parse(json.dumps({**expanded, "Metadata": {**body.get("Metadata", {}), **_MARK}}))


_LOOPED = ("Conditions", "Outputs", "Resources")
_MARK = {LANGUAGE_EXTENSIONS: True}
"""In the metadata of what was processed: its functions may be used there."""


def _expanded(value: Any, names: Mapping[str, str], resolved: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [_expanded(part, names, resolved) for part in value]
    if isinstance(value, str):
        return _put(value, names)
    if not isinstance(value, dict):
        return value
    if set(value) == {"Ref"} and value["Ref"] in names:
        return names[value["Ref"]]
    written: dict[str, Any] = {}
    for name, part in value.items():
        if not name.startswith(LOOP):
            written[_put(name, names)] = _expanded(part, names, resolved)
            continue
        for key, entry in _loop(name, part, names, resolved):
            if key in written or key in value:
                raise _invalid(f"{name}: there is {key} already")
            written[key] = entry
    return written


def _loop(
    loop: str, argument: Any, names: Mapping[str, str], resolved: Mapping[str, Any]
) -> list[tuple[str, Any]]:
    """What a loop stands for: each output key with its value, for each item of the collection."""
    if not isinstance(argument, list) or len(argument) != 3 or not isinstance(argument[2], dict):
        raise _invalid(f"{loop} needs a list of an identifier, a collection and an output")
    identifier, collection, output = argument
    if not isinstance(identifier, str) or identifier in names or identifier in resolved:
        raise _invalid(f"{loop}: the identifier {identifier} is a text that nothing else is named by")
    if len(names) >= _MOST_NESTED:
        raise _invalid(f"{loop}: loops are nested {_MOST_NESTED} deep at most")
    entries = []
    for item in _items(loop, collection, names, resolved):
        bound = {**names, identifier: item}
        expanded = _expanded(output, bound, resolved)
        entries += list(expanded.items())
    if len({key for key, _ in entries}) != len(entries):
        raise _invalid(
            f"{loop}: its output has the same key for several items; put ${{{identifier}}} into it"
        )
    return entries


def _items(loop: str, collection: Any, names: Mapping[str, str], resolved: Mapping[str, Any]) -> list[str]:
    if isinstance(collection, dict) and set(collection) == {"Ref"}:
        collection = resolved.get(collection["Ref"])
    if not isinstance(collection, list):
        raise _invalid(f"{loop}: its collection is a list, or a Ref to a parameter that is one")
    items: list[str] = []
    for item in collection:
        value = resolved.get(item["Ref"]) if isinstance(item, dict) and set(item) == {"Ref"} else item
        items += value if isinstance(value, list) else [_put(str(value), names)]
    return items


def _put(text: str, names: Mapping[str, str]) -> str:
    """${Name} is the item, &{Name} what of it may stand in a logical id."""

    def value(match: re.Match[str]) -> str:
        if match[2] not in names:
            return match[0]
        item = names[match[2]]
        return item if match[1] == "$" else re.sub(r"[^A-Za-z0-9]", "", item)

    return _PLACE.sub(value, text)


def _invalid(message: str) -> AWSError:
    return AWSError(
        "ValidationError",
        f"Transform {LANGUAGE_EXTENSIONS} failed with: {message}. Rollback requested by user.",
    )
