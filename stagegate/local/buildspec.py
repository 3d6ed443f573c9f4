"""A buildspec, read and checked (CodeBuild User Guide, "Build specification reference")."""

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

PHASES = ("install", "pre_build", "build", "post_build")
REPORT_FORMATS = ("JUNITXML", "CUCUMBERJSON", "TESTNGXML", "NUNITXML", "NUNIT3XML", "VISUALSTUDIOTRX")
_RETRIES = 3  # of RETRY without a count
_RETRY = re.compile(r"RETRY(?:-(?P<count>\d{1,3})(?=-|$))?(?:-(?P<pattern>.+))?", re.DOTALL)
_FALLBACK_KEYS = 5

Document = dict[str, Any]


class BuildspecError(Exception):
    """The buildspec can't be used; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    commands: tuple[str, ...] = ()
    finally_commands: tuple[str, ...] = ()
    aborts: bool = False
    """Whether its failure ends the build, as CodeBuild does after install and pre_build in any case."""
    retries: int = 0
    """How often the build is started again when it fails here, with a message that has `retried`."""
    retried: str = ".*"
    runtime_versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Files:
    """What is collected at the end: artifacts, or the files of a report."""

    patterns: tuple[str, ...]
    base_directory: str = "."
    excluded: tuple[str, ...] = ()
    discard_paths: bool = False
    enable_symlinks: bool = False
    name: str | None = None
    """In the words of the shell: `made-$(date +%Y)`."""
    s3_prefix: str = ""
    file_format: str = "JUNITXML"


@dataclass(frozen=True, kw_only=True)
class Cache:
    paths: tuple[str, ...] = ()
    key: str | None = None
    """In the words of the shell, as the fallback keys."""
    fallback_keys: tuple[str, ...] = ()
    restores: bool = True
    saves: bool = True


@dataclass(frozen=True, kw_only=True)
class Buildspec:
    phases: dict[str, Phase]
    one_shell: bool = True
    """Version 0.2: what a command sets holds for the next. In version 0.1 each has a shell of its own."""
    shell: str = "sh"
    variables: dict[str, str] = field(default_factory=dict)
    parameter_store: dict[str, str] = field(default_factory=dict)
    secrets_manager: dict[str, str] = field(default_factory=dict)
    exported: tuple[str, ...] = ()
    artifacts: Files | None = None
    secondary_artifacts: dict[str, Files] = field(default_factory=dict)
    reports: dict[str, Files] = field(default_factory=dict)
    cache: Cache = Cache()
    batch: Document | None = None


def parse(text: str) -> Buildspec:
    """The buildspec in YAML or JSON. Raises BuildspecError."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BuildspecError(f"YAML_FILE_ERROR: {error}") from error
    if not isinstance(document, dict):
        raise BuildspecError("YAML_FILE_ERROR: the buildspec should be a mapping")
    version = str(document.get("version"))
    if version not in ("0.1", "0.2"):
        raise BuildspecError(f"YAML_FILE_ERROR: version {version} should be 0.2 or 0.1")
    _only(
        document,
        "the buildspec",
        {
            *("version", "run-as", "env", "proxy", "batch", "phases"),
            *("reports", "artifacts", "cache", *(("environment_variables",) if version == "0.1" else ())),
        },
    )
    _run_as("the buildspec", document)
    _only(document.get("proxy") or {}, "proxy", {"upload-artifacts", "logs"})
    phases = document.get("phases") or {}
    _only(phases, "phases", set(PHASES))
    if not phases and not document.get("batch"):
        raise BuildspecError("YAML_FILE_ERROR: phases are missing")
    environment = _environment(document)
    shell = environment.get("shell", "sh")
    if shell not in ("sh", "bash", "/bin/sh"):
        raise BuildspecError(f"YAML_FILE_ERROR: env.shell {shell} should be sh or bash")
    artifacts = document.get("artifacts")
    return Buildspec(
        phases={name: _phase(name, phase or {}) for name, phase in phases.items()},
        one_shell=version == "0.2",
        shell=shell,
        variables=_texts(environment.get("variables")),
        parameter_store=_texts(environment.get("parameter-store")),
        secrets_manager=_texts(environment.get("secrets-manager")),
        exported=tuple(environment.get("exported-variables") or ()),
        artifacts=_artifacts("artifacts", artifacts, "secondary-artifacts") if artifacts else None,
        secondary_artifacts={
            name: _artifacts(f"artifacts.secondary-artifacts.{name}", files)
            for name, files in ((artifacts or {}).get("secondary-artifacts") or {}).items()
        },
        reports={name: _report(name, report) for name, report in (document.get("reports") or {}).items()},
        cache=_cache(document.get("cache") or {}),
        batch=document.get("batch"),
    )


def _environment(document: Document) -> Document:
    """`env`; in version 0.1 also by its older name, with `plaintext` for `variables`."""
    older = document.get("environment_variables") or {}
    _only(older, "environment_variables", {"plaintext", "parameter-store"})
    environment = document.get("env") or {}
    known = {"shell", "variables", "parameter-store", "secrets-manager", "exported-variables"}
    _only(environment, "env", {*known, "git-credential-helper"})
    renamed = {"variables" if name == "plaintext" else name: values for name, values in older.items()}
    return {**renamed, **environment}


def _phase(name: str, phase: Document) -> Phase:
    known = {"commands", "finally", "on-failure", "run-as", "runtime-versions"}
    _only(phase, f"phases.{name}", known - ({"runtime-versions"} if name != "install" else set()))
    _run_as(f"phases.{name}", phase)
    given = str(phase.get("on-failure", ""))
    retry = _RETRY.fullmatch(given)
    if given.upper() not in ("", "ABORT", "CONTINUE") and retry is None:
        raise BuildspecError(
            f"YAML_FILE_ERROR: phases.{name}.on-failure {given} should be ABORT, CONTINUE or RETRY"
        )
    count = int(retry["count"] or _RETRIES) if retry else 0
    pattern = (retry["pattern"] if retry else None) or ".*"
    if count > 100:
        raise BuildspecError(
            f"YAML_FILE_ERROR: phases.{name}.on-failure {given}: the count should be 0 to 100"
        )
    try:
        re.compile(pattern)
    except re.error as error:
        raise BuildspecError(f"YAML_FILE_ERROR: phases.{name}.on-failure {given}: {error}") from error
    return Phase(
        commands=_commands(f"phases.{name}.commands", phase.get("commands")),
        finally_commands=_commands(f"phases.{name}.finally", phase.get("finally")),
        aborts=given.upper() == "ABORT" or (given.upper() != "CONTINUE" and name in ("install", "pre_build")),
        retries=count,
        retried=pattern,
        runtime_versions=_texts(phase.get("runtime-versions")),
    )


def _artifacts(where: str, artifacts: Document, *further: str) -> Files:
    known = {"files", "name", "base-directory", "discard-paths", "exclude-paths", "enable-symlinks"}
    _only(artifacts, where, {*known, "s3-prefix", *further})
    return Files(
        patterns=_list(f"{where}.files", artifacts.get("files")),
        base_directory=artifacts.get("base-directory", "."),
        excluded=_list(f"{where}.exclude-paths", artifacts.get("exclude-paths") or []),
        discard_paths=_is_yes(artifacts.get("discard-paths")),
        enable_symlinks=_is_yes(artifacts.get("enable-symlinks")),
        name=None if artifacts.get("name") is None else str(artifacts["name"]),
        s3_prefix=str(artifacts.get("s3-prefix") or ""),
    )


def _report(name: str, report: Document) -> Files:
    _only(report, f"reports.{name}", {"files", "base-directory", "discard-paths", "file-format"})
    file_format = str(report.get("file-format", "JUNITXML")).upper()
    if file_format not in REPORT_FORMATS:
        raise BuildspecError(
            f"YAML_FILE_ERROR: reports.{name}.file-format {file_format} is not supported by the local "
            f"runtime; {', '.join(REPORT_FORMATS)} are"
        )
    return Files(
        patterns=_list(f"reports.{name}.files", report.get("files")),
        base_directory=report.get("base-directory", "."),
        discard_paths=_is_yes(report.get("discard-paths")),
        file_format=file_format,
    )


def _cache(cache: Document) -> Cache:
    _only(cache, "cache", {"paths", "key", "fallback-keys", "action"})
    action = cache.get("action")
    if action not in (None, "restore", "save"):
        raise BuildspecError(f"YAML_FILE_ERROR: cache.action {action} should be restore or save")
    fallback = _list("cache.fallback-keys", cache.get("fallback-keys") or [])
    if len(fallback) > _FALLBACK_KEYS:
        raise BuildspecError(f"YAML_FILE_ERROR: cache.fallback-keys should be at most {_FALLBACK_KEYS}")
    return Cache(
        paths=_list("cache.paths", cache.get("paths") or []),
        key=None if cache.get("key") is None else str(cache["key"]),
        fallback_keys=tuple(str(key) for key in fallback),
        restores=action != "save",
        saves=action != "restore",
    )


def _run_as(where: str, document: Document) -> None:
    """The builds of one machine run as the user that runs it, who can't be another."""
    if (user := document.get("run-as")) not in (None, "root"):
        raise BuildspecError(
            f"YAML_FILE_ERROR: {where}: run-as {user} is not supported by the local runtime, whose builds "
            "run as its own user"
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


def _is_yes(value: Any) -> bool:
    """`yes`, which YAML reads as true, or the word."""
    return str(value).lower() in ("yes", "true")


def _only(document: Any, where: str, known: set[str]) -> None:
    if not isinstance(document, dict):
        raise BuildspecError(f"YAML_FILE_ERROR: {where} should be a mapping")
    if unknown := sorted(set(document) - known):
        raise BuildspecError(f"YAML_FILE_ERROR: {where}: {', '.join(unknown)} is not supported")
