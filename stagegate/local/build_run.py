"""One build: source in, the buildspec's commands, cache, artifacts and reports out."""

import asyncio
import base64
import re
import shutil
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from stagegate.local import (
    build_environment,
    build_files,
    build_reports,
    build_script,
    build_sources,
    buildspec,
)
from stagegate.local.build_cache import BuildCache
from stagegate.local.build_environment import VariableError
from stagegate.local.build_log import BuildLog, Told
from stagegate.local.build_sources import SourceError
from stagegate.local.buildspec import Buildspec, BuildspecError, Files
from stagegate.local.processes import Ended, LauncherLost, Processes, Program
from stagegate.local.service import AWSError, Runtime

_GRACE_SECONDS = 10
_MINUTE = 60

Document = dict[str, Any]


class PhaseFailed(Exception):
    """A phase outside of the buildspec's commands failed; the arguments are its status code and message."""


class BuildRun:
    """A build under way; `save` is called with its description whenever that has changed."""

    def __init__(
        self, runtime: Runtime, build: Document, *, processes: Processes, save: Callable[[Document], None]
    ) -> None:
        self._runtime = runtime
        self._processes = processes
        self._save = save
        self.build = build
        self.retries = 0
        """How often it may be started again, as the phase says that it has failed in."""
        self._home = runtime.data / "builds" / build["id"].replace(":", "-")
        self._source = self._home / "src"
        self._sources = {"": self._source} | {
            source["sourceIdentifier"]: self._home / "sources" / source["sourceIdentifier"]
            for source in build.get("secondarySources", [])
        }
        self._cache = BuildCache(runtime.aws, build, runtime.data / "build-cache")
        self._key: str | None = None
        self._stopping = asyncio.Event()
        self._log = BuildLog(
            runtime, group=build["logs"]["groupName"], stream=build["logs"]["streamName"], said=self._said
        )
        self._commands: tuple[str, ...] = ()
        self._command = ""
        self._failure = ""
        self._unexported: frozenset[str] = frozenset()
        self._names: dict[str, str] = {}

    def request_stop(self) -> None:
        self._stopping.set()

    async def run(self, turn: asyncio.Semaphore) -> None:
        """From QUEUED to COMPLETED."""
        self._enter("QUEUED")
        try:
            if status := await self._wait_for(turn):
                self._leave(status, message="Build timed out" if status == "TIMED_OUT" else "")
            else:
                try:
                    status = await self._phases()
                finally:
                    turn.release()
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

    async def _wait_for(self, turn: asyncio.Semaphore) -> str:
        """Until it is this build's turn; else the status that it ends with."""
        taken = asyncio.ensure_future(turn.acquire())
        stop = asyncio.ensure_future(self._stopping.wait())
        limit = self.build["queuedTimeoutInMinutes"] * _MINUTE
        try:
            await asyncio.wait({taken, stop}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if taken.done() and not self._stopping.is_set():
                return ""
            if taken.done():
                turn.release()
            return "STOPPED" if self._stopping.is_set() else "TIMED_OUT"
        finally:
            for task in (stop, *(() if taken.done() else (taken,))):
                task.cancel()

    async def _phases(self) -> str:
        self._enter("PROVISIONING")
        if failure := self.build.get("_Failure"):
            raise PhaseFailed(*failure.split(": ", 1))
        await asyncio.to_thread(shutil.rmtree, self._home, ignore_errors=True)
        await asyncio.to_thread((self._home / "root").mkdir, parents=True)
        self._enter("DOWNLOAD_SOURCE")
        await self._fetch()
        aws, source = self._runtime.aws, self.build["source"]
        try:
            spec = buildspec.parse(await build_sources.buildspec_text(aws, source, self._source))
        except BuildspecError as error:
            raise PhaseFailed("YAML_FILE_ERROR", str(error).removeprefix("YAML_FILE_ERROR: ")) from error
        environment = await self._environment(spec)
        await self._restore(spec, environment)
        self._enter("INSTALL")
        status = await self._run_script(spec, environment)
        ran = {phase["phaseType"] for phase in self.build["phases"]}
        if status in ("SUCCEEDED", "FAILED") and "POST_BUILD" in ran:
            self._enter("UPLOAD_ARTIFACTS")
            await self._reports(spec)
            await self._artifacts(spec)
        if status == "SUCCEEDED":
            await self._save_cache(spec)
        return status

    async def _fetch(self) -> None:
        versions = {
            entry["sourceIdentifier"]: entry["sourceVersion"]
            for entry in self.build.get("secondarySourceVersions", [])
        }
        runtime = self._runtime
        try:
            resolved = await build_sources.fetch(
                runtime, self.build["source"], self.build.get("sourceVersion"), self._source
            )
            for source in self.build.get("secondarySources", []):
                identifier = source["sourceIdentifier"]
                await build_sources.fetch(
                    runtime, source, versions.get(identifier), self._sources[identifier]
                )
        except SourceError as error:
            raise PhaseFailed("CLIENT_ERROR", str(error)) from error
        if resolved is not None:
            self.build["resolvedSourceVersion"] = resolved

    async def _environment(self, spec: Buildspec) -> dict[str, str]:
        try:
            variables = await build_environment.variables(self._runtime.aws, self.build, spec)
        except VariableError as error:
            raise PhaseFailed(*error.args) from error
        self._unexported = variables.hidden
        self._log.hide(variables.values[name] for name in variables.hidden)
        ours = build_environment.of_codebuild(
            self._runtime, self.build, sources=self._sources, home=self._home / "root"
        )
        return ours | variables.values

    async def _restore(self, spec: Buildspec, environment: dict[str, str]) -> None:
        if not self._cache.is_used:
            return
        if spec.cache.key:
            keys = [
                await self._in_shell(key, environment) for key in (spec.cache.key, *spec.cache.fallback_keys)
            ]
            self._key, fallback = keys[0], keys[1:]
        else:
            fallback = []
        if spec.cache.restores:
            try:
                name = await self._cache.restore(self._home, self._key, fallback)
            except AWSError as error:
                self._say(f"The cache cannot be restored: {error.message}")
            else:
                self._say(f"The cache is restored: {name}" if name else "There is no cache to restore")

    async def _save_cache(self, spec: Buildspec) -> None:
        if not (self._cache.is_used and spec.cache.saves and spec.cache.paths):
            return
        try:
            saved = await self._cache.save(self._home, self._key, spec.cache.paths)
        except AWSError as error:
            self._say(f"The cache cannot be saved: {error.message}")
        else:
            self._say(f"The cache is saved: {saved}" if saved else "The cache of this key is there already")

    async def _in_shell(self, text: str, environment: dict[str, str]) -> str:
        """What the shell makes of the text, in the folder of the source."""
        tools = self._home / "tools"
        await asyncio.to_thread(build_script.write_hash_files, tools)
        told = Told(self._runtime)
        program = Program(
            home=self._home,
            command=["sh", "-c", f'PATH="{tools}:$PATH"; printf %s "{text}"'],
            environment=environment,
            directory=str(self._source),
        )
        ended = await self._processes.run(f"{self.build['id']}/text", program, told)
        if ended.code or not told.lines:
            raise PhaseFailed("CLIENT_ERROR", f"{text} cannot be evaluated: {' '.join(told.lines)}")
        return told.lines[-1]

    async def _run_script(self, spec: Buildspec, environment: dict[str, str]) -> str:
        names = {name: files.name for name, files in self._named_artifacts(spec).items() if files.name}
        for name, version in spec.phases.get("install", buildspec.Phase()).runtime_versions.items():
            self._say(f"The runtime {name} {version} is what this machine has")
        script = await asyncio.to_thread(
            build_script.write, spec, self._home, mark=self._log.mark, names=names
        )
        self._commands = script.commands
        program = Program(
            home=self._home,
            command=script.command,
            environment=environment,
            directory=str(self._source),
        )
        ended = await self._until_ended(program)
        if isinstance(ended, str):
            return ended
        if ended.code:  # a command replaced the shell, or killed it
            self._failure = self._failure or _failure(self._command, str(ended.code))
            self._leave("FAILED", code="COMMAND_EXECUTION_ERROR", message=self._failure)
        failed = [phase for phase in self.build["phases"] if phase.get("phaseStatus") == "FAILED"]
        for phase in failed:
            how = spec.phases.get(phase["phaseType"].lower(), buildspec.Phase())
            if how.retries and re.search(how.retried, phase["contexts"][0]["message"]):
                self.retries = how.retries
        return "FAILED" if failed else "SUCCEEDED"

    async def _until_ended(self, program: Program) -> Ended | str:
        """How the commands ended; a status where they were ended."""
        build_id = self.build["id"]
        running = asyncio.ensure_future(self._processes.run(build_id, program, self._log))
        stop = asyncio.ensure_future(self._stopping.wait())
        limit = self.build["timeoutInMinutes"] * _MINUTE
        try:
            await asyncio.wait({running, stop}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                return await running
            status = "STOPPED" if self._stopping.is_set() else "TIMED_OUT"
            self._processes.signal(build_id, signal.SIGTERM)
            await asyncio.wait({running}, timeout=_GRACE_SECONDS)
            if not running.done():
                self._processes.signal(build_id, signal.SIGKILL)
            await running
            self._leave(status, message="Build timed out" if status == "TIMED_OUT" else "")
            return status
        finally:
            for task in (stop, running):
                task.cancel()
            await asyncio.gather(running, return_exceptions=True)

    def _said(self, words: list[str]) -> None:
        """What the script says of itself: a phase begins or ends, a command runs, a variable is exported."""
        what, rest = words[0], words[1:]
        if what == "begin" and rest[0] != self.build["currentPhase"]:
            self._enter(rest[0])
        elif what == "run":
            self._command = self._commands[int(rest[0])]
            self._say(f"Running command {' '.join(self._command.split())}")
        elif what == "failed":
            self._failure = self._failure or _failure(self._command, rest[0])
        elif what == "left":
            self._leave("FAILED", code="COMMAND_EXECUTION_ERROR", message=self._failure)
            self._failure = ""
        elif what in ("export", "name"):
            value = base64.b64decode(rest[1]).decode(errors="replace") if rest[1:] else ""
            if what == "name":
                self._names[rest[0]] = value
            elif rest[0] not in self._unexported and not rest[0].startswith("AWS_"):
                exported = self.build.setdefault("exportedEnvironmentVariables", [])
                exported.append({"name": rest[0], "value": value})

    def _say(self, text: str) -> None:
        stamp = datetime.now(UTC).strftime("%Y/%m/%d %H:%M:%S")
        self._log.write(f"[Container] {stamp} {text}")

    async def _reports(self, spec: Buildspec) -> None:
        for name, files in spec.reports.items():
            found = await asyncio.to_thread(build_files.collect, files, self._source)
            report = await asyncio.to_thread(
                build_reports.read, self._runtime, self.build, name, files.file_format, found
            )
            if report is not None:
                await self._authorize_report(report["reportGroupArn"])
                build_reports.keep(self._runtime, report)
                self.build.setdefault("reportArns", []).append(report["arn"])

    async def _authorize_report(self, group: str) -> None:
        """A report is made by the service role, and its group too where this is the first of it."""
        is_new = self._runtime.store.get(build_reports.REPORT_GROUP, group) is None
        actions = [
            *(["CreateReportGroup"] if is_new else []),
            "CreateReport",
            "UpdateReport",
            "BatchPutTestCases",
        ]
        try:
            for action in actions:
                await self._runtime.authorize(f"codebuild:{action}", group)
        except AWSError as error:
            raise PhaseFailed("CLIENT_ERROR", error.message) from error

    async def _artifacts(self, spec: Buildspec) -> None:
        targets = {"": self.build["artifacts"]} | {
            target["artifactIdentifier"]: target for target in self.build.get("secondaryArtifacts", [])
        }
        for identifier, files in self._named_artifacts(spec).items():
            target = targets.get(identifier.removeprefix("="))
            if target is None or target.get("type", "NO_ARTIFACTS") != "S3":
                continue
            await self._upload(target, files, self._names.get(identifier))

    def _named_artifacts(self, spec: Buildspec) -> dict[str, Files]:
        """By their identifiers, with "=" before them, the primary ones by that alone."""
        secondary = {f"={name}": files for name, files in spec.secondary_artifacts.items()}
        return {**({"=": spec.artifacts} if spec.artifacts else {}), **secondary}

    async def _upload(self, target: Document, files: Files, name: str | None) -> None:
        found = await asyncio.to_thread(build_files.collect, files, self._source)
        if not found:
            raise PhaseFailed("CLIENT_ERROR", "no matching artifact paths found")
        if (target.get("overrideArtifactName") and name) or files.s3_prefix:
            named = name if target.get("overrideArtifactName") and name else target["_name"]
            bucket = target["_bucket"]
            key = build_files.place(target, name=named, build_id=self.build["id"], prefix=files.s3_prefix)
            target |= {"location": f"arn:aws:s3:::{bucket}/{key}", "_uri": f"s3://{bucket}/{key}"}
        try:
            target |= await build_files.upload(
                self._runtime.aws, target, found, links=files.enable_symlinks, arn=self.build["arn"]
            )
        except AWSError as error:
            reason = f"Failed to upload {target['_uri']}: {error.code}: {error.message}"
            raise PhaseFailed("CLIENT_ERROR", reason) from error

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


def _failure(command: str, code: str) -> str:
    return f"Error while executing command: {command}. Reason: exit status {code}"
