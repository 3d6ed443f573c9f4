"""The shell script of a build: the commands of all phases, and what it says of itself on the way."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stagegate.local.buildspec import PHASES, Buildspec, Phase

_RESUME, _END = "resume.sh", "end"
_HASH_FILES = """#!/bin/sh
# What caches are named by: the hash of the files that the patterns name.
for pattern in "$@"; do
  find . -type f '(' -path "./$pattern" -o -path "./$(echo "$pattern" | sed 's#[*][*]/##g')" ')'
done | LC_ALL=C sort -u | xargs -d '\\n' -r sha256sum | sha256sum | cut -d ' ' -f 1
"""


@dataclass(frozen=True, kw_only=True)
class Script:
    command: list[str]
    commands: tuple[str, ...]
    """The script's lines `MARK run NUMBER` are about these."""


def phases_of(spec: Buildspec) -> dict[str, Phase]:
    """All four: one without commands succeeds at once."""
    return {name: spec.phases.get(name, Phase()) for name in PHASES}


def write(spec: Buildspec, home: Path, *, mark: str, names: Mapping[str, str]) -> Script:
    """All commands in one shell, so that what one sets or where it goes holds for the next.

    A command may end the shell (`exit 1`): what is then left runs in a new one, with the environment and
    the folder that the first had. `names` are texts in the shell's words, told at the end.
    """
    steps, commands = _steps(spec, mark)
    steps += [f'echo {mark} export {name} "$({_encoded(f"${{{name}-}}")})" >&9' for name in spec.exported]
    steps += [f'echo {mark} name {key} "$({_encoded(text)})" >&9' for key, text in names.items()]
    resume, end = (shlex.quote(str(home / name)) for name in (_RESUME, _END))
    failed = f"echo {mark} failed $1 >&9; __failed=1; CODEBUILD_BUILD_SUCCEEDING=0"
    lines = [
        "exec 9>&1; __step=0; __failed=0; __running=0",
        "CODEBUILD_BUILD_SUCCEEDING=1; export CODEBUILD_BUILD_SUCCEEDING",
        f'__after() {{ __running=0; [ "$1" = 0 ] || {{ {failed}; }}; }}',
        "__ended() {",
        f'__code=$?; [ -e {end} ] && exit 0; [ "$__running" = 0 ] || __after "$__code"',
        f"__here=$(pwd); export __here __step __failed; export -p > {resume}",
        "}",
        f'if [ -e {resume} ]; then . {resume}; rm {resume}; cd "$__here"; fi',
        "trap __ended EXIT",
        "while :; do __step=$((__step + 1)); case $__step in",
        *(line for number, step in enumerate(steps, start=1) for line in (f"{number})", step, ";;")),
        "*) break ;;",
        "esac; done",
        f": > {end}",
    ]
    script = home / "build.sh"
    script.write_text("\n".join([*lines, ""]))
    shell = "sh" if spec.shell == "/bin/sh" else spec.shell
    again = (
        f"while :; do {shell} {shlex.quote(str(script))}; code=$?; [ -e {end} ] && exit 0; "
        f"[ -e {resume} ] || exit $((code ? code : 1)); done"
    )
    return Script(command=["sh", "-c", again], commands=commands)


def write_hash_files(folder: Path) -> None:
    """The command `codebuild-hash-files`, which the key of a cache may use."""
    folder.mkdir(parents=True, exist_ok=True)
    command = folder / "codebuild-hash-files"
    command.write_text(_HASH_FILES)
    command.chmod(0o755)


def _steps(spec: Buildspec, mark: str) -> tuple[list[str], tuple[str, ...]]:
    """One step of the script for each command, and for each phase's begin and end."""
    steps: list[str] = []
    commands: list[str] = []
    phases = phases_of(spec)
    last = sum(2 + len(phase.commands) + len(phase.finally_commands) for phase in phases.values())
    for name, phase in phases.items():
        steps.append(f"__failed=0; echo {mark} begin {name.upper()} >&9")
        for command in (*phase.commands, *phase.finally_commands):
            text = shlex.quote(command)
            call = f"eval {text}" if spec.one_shell else f'( cd "$CODEBUILD_SRC_DIR"; eval {text} )'
            run = f"__running=1; echo {mark} run {len(commands)} >&9\n{call}\n__after $?"
            steps.append(run)
            commands.append(command)
        first = len(steps) - len(phase.commands) - len(phase.finally_commands)
        for place in range(first, first + len(phase.commands)):
            steps[place] = f'if [ "$__failed" = 0 ]; then\n{steps[place]}\nfi'
        end = f"__step={last}" if phase.aborts else ":"
        steps.append(f'if [ "$__failed" != 0 ]; then echo {mark} left >&9; {end}; fi')
    return steps, tuple(commands)


def _encoded(text: str) -> str:
    """A command that writes the text in one word, whatever is in it."""
    return f"printf %s \"{text}\" | base64 | tr -d '\\n'"
