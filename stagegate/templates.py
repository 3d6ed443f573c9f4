"""CloudFormation templates as data, read from YAML with the short forms, or from JSON."""

from typing import Any

import yaml


class Loader(yaml.SafeLoader):
    """Safe, with CloudFormation's short forms."""


def _short_form(loader: Any, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


Loader.add_multi_constructor("!", _short_form)


def read_template(text: str) -> dict[str, Any]:
    """Raises yaml.YAMLError for what is neither YAML nor JSON."""
    template: dict[str, Any] = yaml.load(text, Loader=Loader)  # noqa: S506 - built on the safe loader
    return template
