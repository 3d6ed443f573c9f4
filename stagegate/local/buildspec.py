"""A buildspec, read and checked (CodeBuild User Guide, "Build specification reference", version 0.2)."""

from dataclasses import dataclass, field
from typing import Any

import yaml

PHASES = ("install", "pre_build", "build", "post_build")

Document = dict[str, Any]


class BuildspecError(Exception):
    """The buildspec can't be used; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    commands: tuple[str, ...] = ()
    finally_commands: tuple[str, ...] = ()
    aborts: bool = False
    """Whether its failure ends the build, as CodeBuild does after install and pre_build in any case."""


@dataclass(frozen=True, kw_only=True)
class Files:
    """What is collected at the end: artifacts, or the files of a report."""

    patterns: tuple[str, ...]
    base_directory: str = "."
    discard_paths: bool = False
    file_format: str = "JUNITXML"


@dataclass(frozen=True, kw_only=True)
class Buildspec:
    phases: dict[str, Phase]
    shell: str = "sh"
    variables: dict[str, str] = field(default_factory=dict)
    parameter_store: dict[str, str] = field(default_factory=dict)
    secrets_manager: dict[str, str] = field(default_factory=dict)
    exported: tuple[str, ...] = ()
    artifacts: Files | None = None
    reports: dict[str, Files] = field(default_factory=dict)


def parse(text: str) -> Buildspec:
    """The buildspec in YAML or JSON. Raises BuildspecError."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BuildspecError(f"YAML_FILE_ERROR: {error}") from error
    if not isinstance(document, dict):
        raise BuildspecError("YAML_FILE_ERROR: the buildspec should be a mapping")
    if str(document.get("version")) != "0.2":
        raise BuildspecError(f"YAML_FILE_ERROR: version {document.get('version')} should be 0.2")
    _only(document, "the buildspec", {"version", "env", "phases", "reports", "artifacts", "run-as", "cache"})
    phases = document.get("phases") or {}
    _only(phases, "phases", set(PHASES))
    if not phases:
        raise BuildspecError("YAML_FILE_ERROR: phases are missing")
    environment = document.get("env") or {}
    _only(
        environment, "env", {"shell", "variables", "parameter-store", "secrets-manager", "exported-variables"}
    )
    shell = environment.get("shell", "sh")
    if shell not in ("sh", "bash", "/bin/sh"):
        raise BuildspecError(f"YAML_FILE_ERROR: env.shell {shell} should be sh or bash")
    return Buildspec(
        phases={name: _phase(name, phase or {}) for name, phase in phases.items()},
        shell=shell,
        variables=_texts(environment.get("variables")),
        parameter_store=_texts(environment.get("parameter-store")),
        secrets_manager=_texts(environment.get("secrets-manager")),
        exported=tuple(environment.get("exported-variables") or ()),
        artifacts=_artifacts(document.get("artifacts")),
        reports={name: _report(name, report) for name, report in (document.get("reports") or {}).items()},
    )


def _phase(name: str, phase: Document) -> Phase:
    _only(phase, f"phases.{name}", {"commands", "finally", "on-failure", "run-as", "runtime-versions"})
    failure = str(phase.get("on-failure", "CONTINUE")).upper()
    if failure not in ("ABORT", "CONTINUE"):
        raise BuildspecError(
            f"YAML_FILE_ERROR: phases.{name}.on-failure {failure} should be ABORT or CONTINUE"
        )
    return Phase(
        commands=_commands(f"phases.{name}.commands", phase.get("commands")),
        finally_commands=_commands(f"phases.{name}.finally", phase.get("finally")),
        aborts=failure == "ABORT" or ("on-failure" not in phase and name in ("install", "pre_build")),
    )


def _artifacts(artifacts: Document | None) -> Files | None:
    if not artifacts:
        return None
    _only(artifacts, "artifacts", {"files", "base-directory", "discard-paths", "name"})
    return Files(
        patterns=_list("artifacts.files", artifacts.get("files")),
        base_directory=artifacts.get("base-directory", "."),
        discard_paths=str(artifacts.get("discard-paths", "no")).lower() in ("yes", "true"),
    )


def _report(name: str, report: Document) -> Files:
    _only(report, f"reports.{name}", {"files", "base-directory", "discard-paths", "file-format"})
    return Files(
        patterns=_list(f"reports.{name}.files", report.get("files")),
        base_directory=report.get("base-directory", "."),
        file_format=report.get("file-format", "JUNITXML"),
    )


def _commands(where: str, commands: Any) -> tuple[str, ...]:
    if commands is None:
        return ()
    return tuple(str(command) for command in _list(where, commands))


def _list(where: str, value: Any) -> tuple[Any, ...]:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or any(isinstance(entry, dict | list) for entry in value):
        raise BuildspecError(f"YAML_FILE_ERROR: {where} should be a list of texts")
    return tuple(value)


def _texts(values: Document | None) -> dict[str, str]:
    return {name: str(value) for name, value in (values or {}).items()}


def _only(document: Any, where: str, known: set[str]) -> None:
    if not isinstance(document, dict):
        raise BuildspecError(f"YAML_FILE_ERROR: {where} should be a mapping")
    if unknown := sorted(set(document) - known):
        raise BuildspecError(f"YAML_FILE_ERROR: {where}: {', '.join(unknown)} is not supported")
