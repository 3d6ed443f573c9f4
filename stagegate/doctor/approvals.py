"""Approvals that whoever opens a link decides: a mail scanner, a preview, a browser that reads ahead."""

import re
from collections.abc import Iterator
from typing import Any

from stagegate.doctor.apis import call_of
from stagegate.doctor.findings import Fault
from stagegate.doctor.permissions import Need, role_of, statements
from stagegate.doctor.project import Project, Resource, State, Template, text_of, texts

_TOKEN = re.compile(r"(\$\$|\$states\.context)\.Task\.Token")
_ONLY_TOKEN = re.compile(r"(\{%\s*)?(\$\$|\$states\.context)\.Task\.Token(\s*%\})?")
_MAILS = ("sns", "ses", "sesv2")
_SENDS = re.compile(r"send_task_(success|failure)|SendTask(Success|Failure)", re.IGNORECASE)
_LOOKS_AT_METHOD = re.compile(r"http_?method|\bmethod\b", re.IGNORECASE)
_READ_METHODS = ("GET", "HEAD", "ANY")


def decided_by_get(project: Project) -> Iterator[Fault]:
    for definition, state in project.states:
        if wrong := _mailed_token(state):
            yield Fault(file=definition.file, where=state.name, wrong=wrong)
    for template in project.templates:
        yield from _methods(template)
        yield from _urls(template)


def _mailed_token(state: State) -> str | None:
    call = call_of(state)
    with_token = [text for text in texts(dict(state.request)) if _TOKEN.search(text)]
    if call and call.service in _MAILS and any(not _ONLY_TOKEN.fullmatch(text) for text in with_token):
        return f"the task token is written into the message of {call}"
    if any("http" in text for text in with_token):
        return "the task token is part of a link"
    return None


def _methods(template: Template) -> Iterator[Fault]:
    """Methods and routes of API Gateway that read, and whose function may decide."""
    for resource in template.of_type("AWS::ApiGateway::Method", "AWS::ApiGatewayV2::Route"):
        method, target = _method(resource, template)
        if method not in _READ_METHODS:
            continue
        if any(_SENDS.search(text) for text in texts(target)):
            wrong = f"{method} sends a task's result"
        elif function := _deciding_function(target, template):
            wrong = f"{method} calls {function.logical_id}, which may send a task's result"
        else:
            continue
        yield Fault(file=template.file, where=resource.logical_id, wrong=wrong)


def _method(resource: Resource, template: Template) -> tuple[str, Any]:
    """The HTTP method, and what it is integrated with."""
    if resource.type == "AWS::ApiGateway::Method":
        return str(resource.properties.get("HttpMethod")), resource.properties.get("Integration")
    route = str(resource.properties.get("RouteKey"))
    named = re.findall(r"\$\{(\w+)\}", text_of(resource.properties.get("Target")) or "")
    integrations = [template.resources[name].properties for name in named if name in template.resources]
    return "ANY" if route == "$default" else route.partition(" ")[0], [
        dict(properties) for properties in integrations
    ]


def _deciding_function(target: Any, template: Template) -> Resource | None:
    for name in _referred(target):
        function = template.resources.get(name)
        if function is None or function.type != "AWS::Lambda::Function":
            continue
        if _may_decide(function, template) and not _LOOKS_AT_METHOD.search(_code(function)):
            return function
    return None


def _may_decide(function: Resource, template: Template) -> bool:
    role = role_of(function, template, member="Role")
    allowed = (statements(role, template) or []) if role else []
    needs = [Need(action=f"states:SendTask{end}") for end in ("Success", "Failure")]
    return any(statement.allows(need) for statement in allowed for need in needs)


def _urls(template: Template) -> Iterator[Fault]:
    """Functions written into the template, behind a URL of their own, which takes every method."""
    for url in template.of_type("AWS::Lambda::Url"):
        for name in _referred(url.properties.get("TargetFunctionArn")):
            function = template.resources.get(name)
            code = _code(function) if function else ""
            if _SENDS.search(code) and not _LOOKS_AT_METHOD.search(code):
                wrong = f"{name} sends a task's result whatever the method of the request is"
                yield Fault(file=template.file, where=url.logical_id, wrong=wrong)


def _code(function: Resource) -> str:
    code = function.properties.get("Code")
    return (text_of(code.get("ZipFile")) or "") if isinstance(code, dict) else ""


def _referred(value: Any) -> list[str]:
    """The resources that a value refers to, however deep."""
    if (text := text_of(value)) is not None:
        return [match.partition(".")[0] for match in re.findall(r"\$\{([\w.]+)\}", text)]
    if isinstance(value, dict):
        return [name for item in value.values() for name in _referred(item)]
    return [name for item in value for name in _referred(item)] if isinstance(value, list) else []
