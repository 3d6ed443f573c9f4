"""A problem of a definition, and AWS's words for what is wrong most often."""

from collections.abc import Iterable
from dataclasses import dataclass

SCHEMA = "SCHEMA_VALIDATION_FAILED"
ERROR = "ERROR"
WARNING = "WARNING"


@dataclass(frozen=True)
class Diagnostic:
    code: str
    message: str
    location: str | None
    """"/States/Name/Field"; None where it is the whole definition that is wrong."""
    severity: str = ERROR

    def __str__(self) -> str:
        return f"{self.code}: {self.message.rstrip()} at {'null' if self.location is None else self.location}"

    def as_members(self) -> dict[str, str]:
        """As the API gives it."""
        members = {"severity": self.severity, "code": self.code, "message": self.message}
        return members if self.location is None else {**members, "location": self.location}


def schema(message: str, at: str) -> Diagnostic:
    return Diagnostic(SCHEMA, message, at or "/")


def required(names: Iterable[str], at: str) -> Diagnostic:
    return schema(f"These fields are required: [{', '.join(names)}]", at)


def unsupported(name: str, at: str) -> Diagnostic:
    return schema(f"Field '{name}' is not supported", at)


def several(names: Iterable[str], at: str) -> Diagnostic:
    return schema(f"There should only be one of the following fields: [{', '.join(names)}]", at)


def none_of(names: Iterable[str], at: str) -> Diagnostic:
    return schema(f"This object should have only one of the following fields: [{', '.join(names)}]", at)


def wrong_type(kind: str, at: str) -> Diagnostic:
    return schema(f"Expected value of type {kind}", at)


def too_long(kind: str, name: str, most: int, at: str) -> Diagnostic:
    message = f"Invalid {kind} name: {name} exceeds the {most}-character limit allowed by the service"
    return Diagnostic(f"INVALID_{kind.upper()}_NAME", message, at)


def wrong_language(name: str, is_jsonata: bool, at: str) -> Diagnostic:
    own, other = ("JSONata", "JSONPath") if is_jsonata else ("JSONPath", "JSONata")
    message = (
        f"The QueryLanguage is set to '{own}', but field '{name}' is only supported for the '{other}' "
        "QueryLanguage"
    )
    return schema(message, at)
