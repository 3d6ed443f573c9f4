"""The file of faults, read strictly: whatever would never fire as it is written is refused, by its place.

docs/faults.md is its reference.
"""

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from stagegate.errors import ConfigurationError
from stagegate.local import apis, event_patterns, fault_errors
from stagegate.local.faults import (
    CALLERS,
    USUAL_CALLERS,
    Delay,
    Duplicate,
    Effect,
    Error,
    Failure,
    Fault,
    Faults,
    Interruption,
    Loss,
)
from stagegate.local.service import AWSError

_MEETS = ("operation", "event", "where", "by")
_WHEN = ("calls", "rate", "times")
_EFFECTS = ("error", "delay", "lose", "fail", "interrupt", "duplicate")
KEYS = (*_MEETS, *_WHEN, *_EFFECTS, "message", "status")
_OF_EVENTS = ("delay", "lose", "duplicate")
_OF_CALLS = ("error", "delay", "lose", "fail", "interrupt")
_OF_SERVICES = ("fail", "interrupt")
"""What becomes of a job later, whoever started it."""

_JOBS = ("sagemaker:CreateTrainingJob", "sagemaker:CreateProcessingJob", "sagemaker:CreateTransformJob")
_ENDPOINTS = ("sagemaker:CreateEndpoint", "sagemaker:UpdateEndpoint")
_BUILDS = ("codebuild:StartBuild",)
_JOB_REASON = re.compile(r"(AlgorithmError|CapacityError|ClientError|InternalServerError): \S.*", re.DOTALL)
_BUILD_REASON = re.compile(r"[A-Z][A-Z_]+: \S.*", re.DOTALL)
_REASONS: Mapping[str, Mapping[tuple[str, ...], str]] = {
    "image": {
        _JOBS: "ClientError: Cannot pull algorithm container. Either the image does not exist or its "
        "permissions are incorrect.",
        _ENDPOINTS: "The primary container for production variant AllTraffic did not pass the ping health "
        "check. Please check CloudWatch logs for this endpoint.",
        _BUILDS: "BUILD_CONTAINER_UNABLE_TO_PULL_IMAGE: Unable to pull customer's container image. "
        "CannotPullContainerError: the image does not exist or may require authorization",
    },
    "capacity": {
        _JOBS: "CapacityError: Unable to provision requested ML compute capacity. Please retry using a "
        "different ML instance type or after some time.",
        _ENDPOINTS: "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity "
        "error. Please retry using a different ML instance type or after some time.",
    },
    "internal": {
        _JOBS: "InternalServerError: We encountered an internal error. Please try again.",
        _ENDPOINTS: "Request to service failed. If failure persists after retry, contact customer support.",
        _BUILDS: "INTERNAL_SERVICE_ERROR: CodeBuild is experiencing an issue",
    },
}
_FORMS: Sequence[tuple[tuple[str, ...], Callable[[str], Any], str]] = (
    (
        _JOBS,
        _JOB_REASON.fullmatch,
        "'ClientError: …' (or AlgorithmError, CapacityError, InternalServerError)",
    ),
    (_BUILDS, _BUILD_REASON.fullmatch, "'STATUS_CODE: …'"),
    (_ENDPOINTS, lambda text: " " in text, "a FailureReason of several words"),
)
_EVENT = ("version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail")


def read_faults(path: Path) -> Faults:
    """The faults of a file. Raises ConfigurationError: which entry, which key, and what would be right."""
    try:
        document = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from error
    return parse_faults(document, name=path.name)


def parse_faults(document: Mapping[str, Any], *, name: str) -> Faults:
    """The same of what stands in the file."""
    if unknown := sorted(document.keys() - {"seed", "fault"}):
        raise ConfigurationError(f"{name}: there is no key '{unknown[0]}'; there are seed and [[fault]]")
    seed, tables = document.get("seed", 0), document.get("fault")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ConfigurationError(f"{name}: seed is {seed!r}; it should be a whole number")
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise ConfigurationError(f"{name}: there is no fault in it; each should be a table, [[fault]]")
    entries = [_Entry(f"{name}: fault {number}", number, table) for number, table in enumerate(tables, 1)]
    return Faults([_fault(entry) for entry in entries], seed=seed)


@dataclass(frozen=True)
class _Entry:
    """One table of the file."""

    place: str
    number: int
    table: Mapping[str, Any]

    def wrong(self, key: str, right: str) -> ConfigurationError:
        return ConfigurationError(f"{self.place}: {key} is {self.table[key]!r}; it should be {right}")

    def refused(self, why: str) -> ConfigurationError:
        return ConfigurationError(f"{self.place}: {why}")

    def number_of(self, key: str, *, value: Any, right: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise self.wrong(key, right)
        return float(value)


def _fault(entry: _Entry) -> Fault:
    table = entry.table
    for key in table:
        if key not in KEYS:
            raise entry.refused(f"there is no key '{key}'{_near(key, KEYS)}; there are {', '.join(KEYS)}")
    if ("operation" in table) == ("event" in table):
        raise entry.refused("it should have either operation, for calls, or event, for events")
    effects = [key for key in _EFFECTS if key in table]
    if len(effects) != 1:
        has = f"it has {' and '.join(effects)}" if effects else "nothing happens"
        raise entry.refused(f"{has}; it should have one of {', '.join(_EFFECTS)}")
    (effect,) = effects
    is_of_event = "event" in table
    if effect not in (possible := _OF_EVENTS if is_of_event else _OF_CALLS):
        of = "an event" if is_of_event else "an operation"
        raise entry.refused(f"{effect} does not go with {of}; {', '.join(possible)} do")
    for key in ("message", "status"):
        if key in table and effect != "error":
            raise entry.refused(f"{key} goes with error, and not with {effect}")
    if is_of_event:
        for key in ("where", "by"):
            if key in table:
                raise entry.refused(f"{key} goes with operation; an event is met by its pattern")
        return Fault(
            number=entry.number, effect=_effect(entry, effect, []), event=_event(entry), **_when(entry)
        )
    if "by" in table and effect in _OF_SERVICES:
        raise entry.refused(f"by does not go with {effect}, which happens whoever started it")
    operations = _operations(entry)
    return Fault(
        number=entry.number,
        effect=_effect(entry, effect, operations),
        operation=table["operation"],
        where=_where(entry, operations),
        by=_by(entry),
        **_when(entry),
    )


def _operations(entry: _Entry) -> list[tuple[str, str]]:
    """The services and operations that the pattern means."""
    pattern = entry.table["operation"]
    if not isinstance(pattern, str) or pattern.count(":") != 1:
        raise entry.wrong("operation", "a service and its operation, as 'sagemaker:CreateTrainingJob'")
    service_pattern, operation_pattern = pattern.split(":")
    services = [service for service in apis.APIS if fnmatchcase(service, service_pattern)]
    if not services:
        meant = [api.name for api in apis.APIS.values() if api.signing_name == service_pattern]
        near = f"; do you mean '{meant[0]}'?" if meant else _near(service_pattern, apis.APIS)
        raise entry.wrong("operation", f"of a service that docs/emulated.md lists{near}")
    found = [
        (service, operation)
        for service in services
        for operation in apis.model(service).operation_names
        if fnmatchcase(operation, operation_pattern)
    ]
    if not found:
        names = [name for service in services for name in apis.model(service).operation_names]
        near = _near(operation_pattern, names)
        raise entry.wrong("operation", f"an operation that {', '.join(services)} has{near}")
    return found


def _event(entry: _Entry) -> dict[str, Any]:
    pattern = entry.table["event"]
    if not isinstance(pattern, dict) or not pattern:
        raise entry.wrong("event", "a pattern of EventBridge, as { source = ['aws.sagemaker'] }")
    for key in pattern:
        if key not in _EVENT and not key.startswith("$"):
            near = _near(key, _EVENT)
            raise entry.wrong("event", f"a pattern of what events have, which is no '{key}'{near}")
    try:
        event_patterns.check(pattern)
    except AWSError as error:
        raise entry.wrong("event", f"a pattern of EventBridge: {error.message}") from error
    return pattern


def _where(entry: _Entry, operations: Sequence[tuple[str, str]]) -> Mapping[str, str]:
    where = entry.table.get("where", {})
    if not isinstance(where, dict) or not all(isinstance(pattern, str) for pattern in where.values()):
        raise entry.wrong("where", "patterns of members, as { TrainingJobName = '*-train-*' }")
    shapes = [apis.operation_model(service, name).input_shape for service, name in operations]
    for path in where:
        if not any(_has(shape, path.split(".")) for shape in shapes):
            members = {name for shape in shapes if shape is not None for name in shape.members}
            right = f"of members that {entry.table['operation']} has{_near(path.split('.')[0], members)}"
            raise entry.refused(f"where names '{path}'; it should be {right}")
    return where


def _has(shape: Any, path: Sequence[str]) -> bool:
    if not path:
        return True
    if shape is None or shape.type_name not in ("structure", "map"):
        return False
    if shape.type_name == "map":
        return _has(shape.value, path[1:])
    return path[0] in shape.members and _has(shape.members[path[0]], path[1:])


def _by(entry: _Entry) -> Sequence[str]:
    given = entry.table.get("by", list(USUAL_CALLERS))
    callers = [given] if isinstance(given, str) else given
    if not isinstance(callers, list) or not callers or any(caller not in CALLERS for caller in callers):
        raise entry.wrong("by", f"one or several of {', '.join(CALLERS)}")
    return tuple(callers)


def _when(entry: _Entry) -> dict[str, Any]:
    table = entry.table
    if "calls" in table and "rate" in table:
        raise entry.refused("it has calls and rate; it should have one of them")
    when: dict[str, Any] = {}
    if "calls" in table:
        numbers = table["calls"]
        if not isinstance(numbers, list) or not numbers or not all(_counts(number) for number in numbers):
            raise entry.wrong("calls", "a list of numbers from 1, as [1, 3]")
        when["calls"] = frozenset(numbers)
    if "rate" in table:
        right = "a number above 0, and at most 1"
        when["rate"] = entry.number_of("rate", value=table["rate"], right=right)
        if not 0 < when["rate"] <= 1:
            raise entry.wrong("rate", right)
    if "times" in table:
        if not _counts(table["times"]):
            raise entry.wrong("times", "a whole number from 1")
        when["times"] = table["times"]
    return when


def _effect(entry: _Entry, key: str, operations: Sequence[tuple[str, str]]) -> Effect:
    value = entry.table[key]
    match key:
        case "error":
            return _error(entry, operations)
        case "delay":
            right = "a number of seconds above 0"
            if not (seconds := entry.number_of("delay", value=value, right=right)):
                raise entry.wrong("delay", right)
            return Delay(seconds=seconds)
        case "lose":
            possible = ("request", "answer") if operations else ("event",)
            if value not in possible:
                raise entry.wrong("lose", " or ".join(f"'{what}'" for what in possible))
            return Loss(what=value)
        case "fail":
            return Failure(reason=_reason(entry, operations))
        case "interrupt":
            return _interruption(entry, operations)
        case _:
            if not _counts(value):
                raise entry.wrong("duplicate", "how many times more it comes, a whole number from 1")
            return Duplicate(copies=value)


def _error(entry: _Entry, operations: Sequence[tuple[str, str]]) -> Error:
    code, message, status = (entry.table.get(key) for key in ("error", "message", "status"))
    if not isinstance(code, str):
        raise entry.wrong("error", "an error's code, as 'ThrottlingException'")
    if code != fault_errors.THROTTLED:
        for service in dict.fromkeys(service for service, _ in operations):
            if code not in (codes := fault_errors.codes(service)):
                near = _near(code, codes) or f": {', '.join(sorted(codes))}"
                raise entry.wrong("error", f"'{fault_errors.THROTTLED}', or what {service} answers{near}")
    if message is not None and not isinstance(message, str):
        raise entry.wrong("message", "a text")
    if status is not None and not (_counts(status) and 400 <= status <= 599):
        raise entry.wrong("status", "an HTTP status from 400 to 599")
    return Error(code=code, message=message, status=status)


def _reason(entry: _Entry, operations: Sequence[tuple[str, str]]) -> str:
    reason = entry.table["fail"]
    named = [f"{service}:{operation}" for service, operation in operations]
    forms = [form for form in _FORMS if any(name in form[0] for name in named)]
    if not forms:
        known = ", ".join((*_JOBS, *_ENDPOINTS, *_BUILDS))
        raise entry.wrong("operation", f"for fail, one of {known}")
    if len(forms) > 1:
        raise entry.wrong("operation", "for fail, of jobs, of endpoints or of builds: their reasons differ")
    ((kinds, is_reason, form),) = forms
    words = [word for word, reasons in _REASONS.items() if kinds in reasons]
    if isinstance(reason, str) and reason in words:
        return _REASONS[reason][kinds]
    if not isinstance(reason, str) or not is_reason(reason):
        raise entry.wrong("fail", f"{', '.join(repr(word) for word in words)} or {form}")
    return reason


def _interruption(entry: _Entry, operations: Sequence[tuple[str, str]]) -> Interruption:
    if ("sagemaker", "CreateTrainingJob") not in operations:
        raise entry.wrong("operation", "for interrupt, sagemaker:CreateTrainingJob")
    right = "the seconds after which, and for which: { after = 30, for = 60 }"
    value = entry.table["interrupt"]
    if not isinstance(value, dict) or "after" not in value or value.keys() - {"after", "for"}:
        raise entry.wrong("interrupt", right)
    after, seconds = (
        entry.number_of("interrupt", value=value.get(key, 0), right=right) for key in ("after", "for")
    )
    return Interruption(after=after, seconds=seconds)


def _counts(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _near(given: str, known: Iterable[str]) -> str:
    """What may have been meant."""
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(given.lower(), by_lower, n=3, cutoff=0.5)
    return f": near it are {', '.join(by_lower[name] for name in near)}" if near else ""
