"""One build: source in, the buildspec's commands, artifacts and reports out."""

import asyncio
import io
import json
import logging
import re
import secrets
import shlex
import shutil
import signal
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stagegate.local import build_reports, buildspec, s3
from stagegate.local.buildspec import Buildspec, BuildspecError, Files
from stagegate.local.log_stream import LogStream
from stagegate.local.processes import LauncherLost, Processes, Program
from stagegate.local.service import AWSError, Runtime

_LOGGER = logging.getLogger(__name__)
_GRACE_SECONDS = 10
_WRITTEN_IN_PLACE = re.compile(r"\s*(\{|version\s*:)")

Document = dict[str, Any]


class PhaseFailed(Exception):
    """A phase outside of the buildspec's commands failed; the arguments are its status code and message."""


class BuildLog(LogStream):
    """The build's log. Lines that begin with `mark` are not for it: they say where the script is."""

    def __init__(
        self, runtime: Runtime, *, group: str, stream: str, said: Callable[[list[str]], None]
    ) -> None:
        super().__init__(runtime.aws, group=group, stream=stream)
        self.mark = secrets.token_hex(16)
        self._said = said

    def write(self, line: str) -> None:
        if line.startswith(self.mark):
            self._said(line.split(" ", 3)[1:])
        else:
            super().write(line)


class BuildRun:
    """A build under way; `save` is called with its description whenever that has changed."""

    def __init__(
        self, runtime: Runtime, build: Document, *, processes: Processes, save: Callable[[Document], None]
    ) -> None:
        self._runtime = runtime
        self._processes = processes
        self._save = save
        self.build = build
        self._home = runtime.data / "builds" / build["id"].replace(":", "-")
        self._source = self._home / "src"
        self._stopping = asyncio.Event()
        self._log = BuildLog(
            runtime, group=build["logs"]["groupName"], stream=build["logs"]["streamName"], said=self._said
        )
        self._command = ""

    def request_stop(self) -> None:
        self._stopping.set()

    async def run(self, turn: asyncio.Semaphore) -> None:
        """From QUEUED to COMPLETED."""
        self._enter("QUEUED")
        try:
            async with turn:
                status = await self._phases()
        except PhaseFailed as error:
            self._leave("FAILED", code=error.args[0], message=error.args[1])
            status = "FAILED"
        except (AWSError, LauncherLost, OSError) as error:
            self._leave("FAULT", code="INTERNAL_SERVICE_ERROR", message=str(error))
            status = "FAULT"
        self._enter("FINALIZING")
        await self._log.flush()
        self._enter("COMPLETED")
        self.build["phases"][-1]["endTime"] = self.build["phases"][-1]["startTime"]
        self.build |= {"buildStatus": status, "buildComplete": True, "endTime": datetime.now(UTC)}
        self._save(self.build)

    async def _phases(self) -> str:
        self._enter("PROVISIONING")
        await asyncio.to_thread(shutil.rmtree, self._home, ignore_errors=True)
        await asyncio.to_thread(self._source.mkdir, parents=True)
        self._enter("DOWNLOAD_SOURCE")
        await self._download()
        try:
            spec = buildspec.parse(await asyncio.to_thread(self._buildspec))
        except BuildspecError as error:
            raise PhaseFailed("YAML_FILE_ERROR", str(error).removeprefix("YAML_FILE_ERROR: ")) from error
        environment = await self._environment(spec)
        self._enter(next(iter(self._commands(spec))).upper())
        status = await self._run_script(spec, environment)
        ran = {phase["phaseType"] for phase in self.build["phases"]}
        if status in ("SUCCEEDED", "FAILED") and "POST_BUILD" in ran:
            self._enter("UPLOAD_ARTIFACTS")
            await self._reports(spec)
            await self._artifacts(spec)
        return status

    def _commands(self, spec: Buildspec) -> dict[str, buildspec.Phase]:
        """All four phases: one without commands succeeds at once."""
        return {name: spec.phases.get(name, buildspec.Phase()) for name in buildspec.PHASES}

    async def _download(self) -> None:
        source = self.build["source"]
        if source["type"] == "NO_SOURCE":
            return
        location = f"s3://{source['location'].removeprefix('s3://')}"
        try:
            if location.endswith("/"):
                await s3.download(self._runtime.aws, location, self._source)
            else:
                archive = await s3.read(self._runtime.aws, location)
                await asyncio.to_thread(_unzip, archive, self._source)
        except (AWSError, zipfile.BadZipFile) as error:
            reason = error.message if isinstance(error, AWSError) else str(error)
            raise PhaseFailed(
                "CLIENT_ERROR", f"error while downloading source {location}: {reason}"
            ) from error

    def _buildspec(self) -> str:
        given: str = self.build["source"].get("buildspec") or "buildspec.yml"
        if _WRITTEN_IN_PLACE.match(given):
            return given
        path = (self._source / given).resolve()
        if not path.is_relative_to(self._source.resolve()) or not path.is_file():
            raise BuildspecError(f"YAML_FILE_ERROR: stat {given}: no such file or directory")
        text: str = path.read_text()
        return text

    async def _environment(self, spec: Buildspec) -> dict[str, str]:
        aws = self._runtime.aws
        variables = [
            *({"name": name, "value": value} for name, value in spec.variables.items()),
            *(
                {"name": name, "value": value, "type": "PARAMETER_STORE"}
                for name, value in spec.parameter_store.items()
            ),
            *(
                {"name": name, "value": value, "type": "SECRETS_MANAGER"}
                for name, value in spec.secrets_manager.items()
            ),
            *self.build["environment"].get("environmentVariables", []),
        ]
        values = {}
        for variable in variables:
            value = variable["value"]
            try:
                if variable.get("type") == "PARAMETER_STORE":
                    answer = await aws("ssm", "GetParameter", {"Name": value, "WithDecryption": True})
                    value = answer["Parameter"]["Value"]
                elif variable.get("type") == "SECRETS_MANAGER":
                    value = await self._secret(value)
            except (AWSError, KeyError, ValueError) as error:
                raise PhaseFailed(
                    variable["type"], f"{variable['name']}: {variable['value']} cannot be read: {error}"
                ) from error
            values[variable["name"]] = value
        build_id = self.build["id"]
        return {
            **self._runtime.environment(),
            "CODEBUILD_BUILD_ID": build_id,
            "CODEBUILD_BUILD_ARN": self.build["arn"],
            "CODEBUILD_BUILD_NUMBER": str(self.build["buildNumber"]),
            "CODEBUILD_BUILD_IMAGE": self.build["environment"]["image"],
            "CODEBUILD_INITIATOR": self.build["initiator"],
            "CODEBUILD_LOG_PATH": self.build["logs"]["streamName"],
            "CODEBUILD_START_TIME": str(int(self.build["startTime"].timestamp() * 1000)),
            "CODEBUILD_SRC_DIR": str(self._source),
            "CODEBUILD_SOURCE_VERSION": self.build.get("sourceVersion", ""),
            "CODEBUILD_CI": "true",
            "CI": "true",
            "HOME": str(self._home),
            **values,
        }

    async def _secret(self, reference: str) -> str:
        """`id`, `id:json-key`, `id:json-key:stage:version`; an ARN's own colons belong to the id."""
        head, rest = reference, ""
        if reference.startswith("arn:"):
            parts = reference.split(":")
            head, rest = ":".join(parts[:7]), ":".join(parts[7:])
        else:
            head, _, rest = reference.partition(":")
        key, stage, version = [*rest.split(":"), "", "", ""][:3]
        request = {"SecretId": head, "VersionStage": stage or None, "VersionId": version or None}
        text: str = (await self._runtime.aws("secretsmanager", "GetSecretValue", request))["SecretString"]
        return str(json.loads(text)[key]) if key else text

    async def _run_script(self, spec: Buildspec, environment: dict[str, str]) -> str:
        script = self._home / "build.sh"
        await asyncio.to_thread(
            script.write_text, _script(self._commands(spec), spec.exported, self._log.mark)
        )
        shell = "sh" if spec.shell == "/bin/sh" else spec.shell
        program = Program(
            home=self._home,
            command=[shell, str(script)],
            environment=environment,
            directory=str(self._source),
        )
        build_id = self.build["id"]
        running = asyncio.ensure_future(self._processes.run(build_id, program, self._log))
        stop = asyncio.ensure_future(self._stopping.wait())
        limit = self.build["timeoutInMinutes"] * 60
        try:
            await asyncio.wait({running, stop}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                status = "STOPPED" if self._stopping.is_set() else "TIMED_OUT"
                self._processes.signal(build_id, signal.SIGTERM)
                await asyncio.wait({running}, timeout=_GRACE_SECONDS)
                if not running.done():
                    self._processes.signal(build_id, signal.SIGKILL)
                await running
                self._leave(status, message="Build timed out" if status == "TIMED_OUT" else "")
                return status
            if code := (await running).code:  # a command ended the shell: `exit 1`
                self._leave(
                    "FAILED",
                    code="COMMAND_EXECUTION_ERROR",
                    message=f"Error while executing command: {self._command}. Reason: exit status {code}",
                )
        finally:
            for task in (stop, running):
                task.cancel()
            await asyncio.gather(running, return_exceptions=True)
        failed = any(phase.get("phaseStatus") == "FAILED" for phase in self.build["phases"])
        return "FAILED" if failed else "SUCCEEDED"

    def _said(self, words: list[str]) -> None:
        """What the script says of itself: a phase begins or ends, a command runs, a variable is exported."""
        what, rest = words[0], words[1:]
        if what == "begin":
            if rest[0] != self.build["currentPhase"]:
                self._enter(rest[0])
        elif what == "run":
            self._command = " ".join(rest)
            stamp = datetime.now(UTC).strftime("%Y/%m/%d %H:%M:%S")
            self._log.write(f"[Container] {stamp} Running command {self._command}")
        elif what == "failed":
            self._leave(
                "FAILED",
                code="COMMAND_EXECUTION_ERROR",
                message=f"Error while executing command: {self._command}. Reason: exit status {rest[0]}",
            )
        elif what == "export":
            name, _, value = " ".join(rest).partition("=")
            exported = self.build.setdefault("exportedEnvironmentVariables", [])
            exported.append({"name": name, "value": value})

    async def _reports(self, spec: Buildspec) -> None:
        for name, files in spec.reports.items():
            report = await asyncio.to_thread(
                build_reports.read, self._runtime, self.build, name, files.file_format, self._collect(files)
            )
            if report is not None:
                self._runtime.store.put(build_reports.REPORT, report["arn"], report)
                self.build.setdefault("reportArns", []).append(report["arn"])

    async def _artifacts(self, spec: Buildspec) -> None:
        target = self.build["artifacts"]
        if spec.artifacts is None or target.get("type", "NO_ARTIFACTS") != "S3":
            return
        files = await asyncio.to_thread(self._collect, spec.artifacts)
        if not files:
            raise PhaseFailed("CLIENT_ERROR", "no matching artifact paths found")
        contents = {
            path.name if spec.artifacts.discard_paths else name: await asyncio.to_thread(path.read_bytes)
            for name, path in files.items()
        }
        if target.get("packaging", "NONE") == "ZIP":
            await s3.write(self._runtime.aws, target["_uri"], _zip(contents))
            return
        for name, content in contents.items():
            await s3.write(self._runtime.aws, f"{target['_uri']}/{name}", content)

    def _collect(self, files: Files) -> dict[str, Path]:
        """The files that the patterns name, by their paths below the base directory."""
        base = self._source / files.base_directory
        found = {
            path.relative_to(base).as_posix(): path
            for pattern in files.patterns
            for path in sorted(base.glob(pattern))
            if path.is_file() and path.resolve().is_relative_to(self._source.resolve())
        }
        return dict(sorted(found.items()))

    def _enter(self, phase: str) -> None:
        """The phase before ends, unless it has, with success; this one begins."""
        self._leave("SUCCEEDED")
        self.build["phases"].append({"phaseType": phase, "startTime": datetime.now(UTC)})
        self.build["currentPhase"] = phase
        self._save(self.build)

    def _leave(self, status: str, *, code: str = "", message: str = "") -> None:
        if not self.build["phases"] or "endTime" in self.build["phases"][-1]:
            return
        phase, now = self.build["phases"][-1], datetime.now(UTC)
        phase |= {
            "phaseStatus": status,
            "endTime": now,
            "durationInSeconds": int((now - phase["startTime"]).total_seconds()),
            "contexts": [{"statusCode": code, "message": message}],
        }


def _script(phases: dict[str, buildspec.Phase], exported: tuple[str, ...], mark: str) -> str:
    """All commands in one shell, so that what one sets or where it goes holds for the next."""
    lines = ["CODEBUILD_BUILD_SUCCEEDING=1; export CODEBUILD_BUILD_SUCCEEDING; __aborted=0"]
    for name, phase in phases.items():
        lines += ['if [ "$__aborted" = 0 ]; then', f"echo {mark} begin {name.upper()}", "__status=0"]
        for command in phase.commands:
            lines += ['if [ "$__status" = 0 ]; then', *_command(command, mark), "fi"]
        lines += [
            'if [ "$__status" != 0 ]; then',
            f'echo {mark} failed "$__status"; CODEBUILD_BUILD_SUCCEEDING=0',
            *(["__aborted=1"] if phase.aborts else []),
            "fi",
        ]
        lines += [line for command in phase.finally_commands for line in _command(command, mark)]
        lines.append("fi")
    for name in exported:
        lines.append(f'echo "{mark} export {name}=${{{name}-}}"')
    return "\n".join([*lines, "exit 0", ""])


def _command(command: str, mark: str) -> list[str]:
    shown = shlex.quote(f"{mark} run {' '.join(command.split())}")
    return [f"echo {shown}", f"eval {shlex.quote(command)}", "__status=$?"]


def _unzip(archive: bytes, folder: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(archive)) as members:
        for member in members.infolist():
            path = Path(members.extract(member, folder))  # zipfile keeps paths inside
            if mode := member.external_attr >> 16 & 0o777:
                path.chmod(mode | 0o600)


def _zip(contents: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return buffer.getvalue()
