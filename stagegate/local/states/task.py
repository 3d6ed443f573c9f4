"""The Task state: a call, and with `.sync` and `.waitForTaskToken` the wait for what it started.

Nothing is polled: the end of a job is announced, a token is answered. A call is on record before it is
made; after a restart a job is found again by its name and not started twice.
"""

import asyncio
import hashlib
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from stagegate.local import apis
from stagegate.local.service import AWSError, Json
from stagegate.local.states.conversion import (
    as_state_failed,
    body_size,
    check_parameters,
    function_result,
    to_json,
    to_request,
    with_metadata,
)
from stagegate.local.states.definition import Task
from stagegate.local.states.errors import (
    DATA_LIMIT_EXCEEDED,
    QUERY_EVALUATION_ERROR,
    TASK_FAILED,
    TIMEOUT,
    EvaluationFailed,
    StateFailed,
)
from stagegate.local.states.integrations import SYNC_2
from stagegate.local.states.jsontext import from_text, to_text
from stagegate.local.states.strand import MAXIMUM_DATA, Outcome, Visit, too_large
from stagegate.local.states.templates import Setting
from stagegate.local.states.tokens import issue_token
from stagegate.local.states.versions import machine_arn

_KIND = re.compile(r"([A-Z])")


async def perform_task(visit: Visit, state: Task, attempt_class: "type[Attempt] | None" = None) -> Outcome:
    execution = visit.strand.execution
    data = visit.effective_input()
    if state.resource.has_token:
        visit.token = visit.strand.scope.fact(lambda: issue_token(execution.arn))
    timeout = _seconds(visit, state.timeout_seconds, data)
    heartbeat = _seconds(visit, state.heartbeat_seconds, data)
    attempt = (attempt_class or Attempt)(visit, state, timeout=timeout, heartbeat=heartbeat)
    result = await attempt.run(
        parameters=visit.arguments(state.parameters, data),
        credentials=state.credentials(visit.values(data)) if state.credentials else None,
    )
    visit.inspect("result", result)
    return visit.outcome_of_work(result, result_path=state.result_path, selector=state.result_selector)


def _seconds(visit: Visit, setting: Setting | None, data: Json) -> int | None:
    if setting is None:
        return None
    value = setting.evaluate(visit.values(data))
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    if visit.state.is_jsonata:
        raise EvaluationFailed(
            f"The {setting.field} field must be a positive integer, but is {to_text(value)}",
            error=QUERY_EVALUATION_ERROR,
            location=setting.field,
        )
    raise EvaluationFailed(
        f"The path '{setting.written}' must refer to a positive integer, but refers to {to_text(value)}"
    )


class OutOfTime(Exception):
    """The task took longer than its TimeoutSeconds."""


class HeartbeatMissed(OutOfTime):
    """The worker of a task token was silent for too long."""


class Attempt:
    """One attempt of a task: scheduled, started, submitted, and then succeeded, failed or timed out."""

    def __init__(self, visit: Visit, state: Task, *, timeout: int | None, heartbeat: int | None) -> None:
        self.visit = visit
        self.state = state
        self.resource = state.resource
        self.strand = visit.strand
        self.scope = visit.strand.scope
        self.execution = visit.strand.execution
        self.engine = visit.strand.execution.engine
        self.timeout = timeout
        self.heartbeat = heartbeat
        self.prefix = "LambdaFunction" if self.resource.is_function else "Task"
        self.common = {} if self.resource.is_function else self.resource.event_type
        self.deadline: float | None = None
        self.job_identity: dict[str, Any] | None = None
        self.runtime = self.execution.as_role()
        """By whom the task calls: its state machine's role, or that of its Credentials."""
        self.credentials: Json = None
        self.is_in_doubt = False

    async def run(self, *, parameters: Json, credentials: Json) -> Json:
        """The task's result. Raises `StateFailed`."""
        check_parameters(self.resource, parameters)
        started_at = self._schedule(parameters, credentials)
        self.deadline = None if self.timeout is None else started_at + self.timeout
        self.credentials = credentials
        if self.visit.token:
            self.engine.tokens.open(self.visit.token, heartbeat=self.heartbeat)
        self.strand.cancel_work = self._give_up
        try:
            result = await self._work(parameters)
        except asyncio.CancelledError:
            if not self.execution.is_stopping:  # when the server stops, what runs is left to its next start
                self._give_up()
            raise
        except Exception:
            self._forget()
            raise
        self._forget()
        return result

    async def _work(self, parameters: Json) -> Json:
        if not self.resource.has_token:
            return await self._step("Succeeded", lambda: self._call(parameters))
        submitted = await self._step("Submitted", lambda: self._call(parameters))
        end = self._job_end if self.resource.is_sync else self._token_answer
        return await self._step("Succeeded", lambda: end(parameters, submitted))

    async def _assume(self) -> None:
        """Take on the role of the task's Credentials, if the state machine's role may assume it."""
        if self.credentials is None:
            return
        session, role_arn = self.execution.session, self.credentials["RoleArn"]
        try:
            await self.runtime.aws("sts", "AssumeRole", self._session_of(role_arn, session))
        except AWSError as error:
            raise StateFailed(
                TASK_FAILED,
                f"The role {self.execution.document['roleArn']} is not authorized to assume the task state's "
                f"role, {role_arn}.",
                from_task=True,
            ) from error
        self.credentials = None
        self.runtime = self.runtime.as_role(role_arn, session=session)

    def _session_of(self, role_arn: str, session: str) -> dict[str, str]:
        """The external id is the state machine's ARN: by it a role's trust policy may name the machine.

        https://docs.aws.amazon.com/step-functions/latest/dg/concepts-access-cross-acct-resources.html
        """
        asked = {"RoleArn": role_arn, "RoleSessionName": session}
        machine = self.execution.document.get("stateMachineArn")  # a state that is tried out has none
        return {**asked, "ExternalId": machine} if machine else asked

    def _schedule(self, parameters: Json, credentials: Json) -> float:
        limits = self.limits()
        if self.resource.is_function:
            details = {"input": to_text(parameters), "resource": self.resource.arn, **limits}
        else:
            region = self.engine.runtime.region
            details = {**self.common, "parameters": to_text(parameters), "region": region, **limits}
        if credentials is not None:
            details["taskCredentials"] = {"roleArn": credentials["RoleArn"]}
        self.scope.event(f"{self.prefix}Scheduled", details)
        was_replaying = self.scope.is_replaying
        started = self.scope.event(f"{self.prefix}Started", self.common or None)
        self.is_in_doubt = was_replaying and not self.scope.is_replaying
        return started.timestamp

    def limits(self) -> dict[str, Json]:
        """The limits in seconds, as the events have them."""
        limits = {"timeoutInSeconds": self.timeout, "heartbeatInSeconds": self.heartbeat}
        return {name: seconds for name, seconds in limits.items() if seconds is not None}

    async def _step(self, event: str, work: Callable[[], Awaitable[Json]]) -> Json:
        """Do `work` and record what it comes to; after a restart find what it came to."""
        if self.scope.is_replaying:
            return self._replayed()
        try:
            output = await self._in_time(work)
            text = to_text(output)
            if len(text.encode()) > MAXIMUM_DATA:
                raise StateFailed(DATA_LIMIT_EXCEEDED, too_large(self.resource.arn), from_task=True)
        except OutOfTime as late:
            self.scope.event(f"{self.prefix}TimedOut", {**self.common, "error": TIMEOUT})
            self._give_up()
            raise StateFailed(TIMEOUT, from_task=True, heartbeat=isinstance(late, HeartbeatMissed)) from late
        except StateFailed as failed:
            details = {"error": failed.error, "cause": failed.cause}
            present = {name: text for name, text in details.items() if text is not None}
            failing = "SubmitFailed" if event == "Submitted" else "Failed"
            self.scope.event(f"{self.prefix}{failing}", {**self.common, **present})
            raise
        self.scope.event(f"{self.prefix}{event}", {**self.common, "output": text})
        return output

    async def _in_time(self, work: Callable[[], Awaitable[Json]]) -> Json:
        try:
            async with asyncio.timeout(
                None if self.deadline is None else self.deadline - time.time()
            ) as limit:
                return await work()
        except TimeoutError as late:
            if limit.expired():
                raise OutOfTime from late
            raise

    def _replayed(self) -> Json:
        event_type = self.scope.next_type() or ""
        event = self.scope.event(event_type)
        details = event.details or {}
        if event_type in (f"{self.prefix}Failed", f"{self.prefix}SubmitFailed"):
            raise StateFailed(details.get("error"), details.get("cause"), from_task=True)
        if event_type == f"{self.prefix}TimedOut":
            is_early = self.deadline is None or event.timestamp < self.deadline
            raise StateFailed(TIMEOUT, from_task=True, heartbeat=is_early)
        return from_text(details["output"])

    async def _call(self, parameters: Json) -> Json:
        """Call the service, and convert what it answers."""
        await self.scope.journal.committed()
        try:
            response = await self._response(parameters)
        except AWSError as error:
            raise as_state_failed(self.resource, error) from error
        if self.resource.service == "lambda" and not self.resource.is_sdk:
            return self._function_output(response)
        output = to_json(self.resource, self.resource.operation, response)
        if self.resource.is_sdk:
            return output
        if output.get("FailedEntryCount"):
            raise StateFailed("EventBridge.FailedEntry", to_text(output), from_task=True)
        return with_metadata(self.resource, output, body_size(self.resource, output, response))

    async def _response(self, parameters: Json) -> dict[str, Any]:
        request = self._request(parameters)
        await self._assume()
        aws, resource = self.runtime.aws, self.resource
        if self.is_in_doubt and (identity := self._identity_before(request)) is not None:
            assert resource.starts is not None
            try:
                description = await aws(resource.botocore, resource.starts.describe, identity)
            except AWSError:
                pass  # it was not started: start it now
            else:
                return resource.starts.response(resource.starts.described(description))
        if resource.is_sync and resource.botocore == "sagemaker":
            await self._authorize_tags(request)
        call = self.runtime.by("stepfunctions")
        return await call(resource.botocore, resource.operation, request)

    async def _authorize_tags(self, request: dict[str, Any]) -> None:
        """Step Functions marks the jobs of SageMaker that it waits for with a tag."""
        assert self.resource.job is not None
        [(member, name)] = self.resource.job.identify(request, {}).items()
        kind = _KIND.sub(r"-\1", member.removesuffix("Name")).lower().lstrip("-")
        await self.runtime.authorize("sagemaker:AddTags", self.runtime.arn("sagemaker", f"{kind}/{name}"))

    def _identity_before(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """What describes the job that this request starts, without its response; None where nothing can."""
        if (job := self.resource.starts) is None or self.resource.botocore == "codebuild":
            return None  # a build is found by its idempotency token
        response: dict[str, Any] = {}
        if self.resource.botocore == "stepfunctions":
            if "name" not in request:
                return None
            arn = machine_arn(request["stateMachineArn"]).replace(":stateMachine:", ":execution:")
            response = {"executionArn": f"{arn}:{request['name']}"}
        return job.identify(request, response)

    def _request(self, parameters: Json) -> dict[str, Any]:
        if self.resource.is_function:
            return {"FunctionName": self.resource.arn, "Payload": to_text(parameters).encode()}
        request = to_request(self.resource, parameters)
        if self.resource.service == "states":
            request.setdefault("name", str(uuid.UUID(self._idempotency_token())))
        if self.resource.service == "events" and not self.resource.is_sdk:
            own = [self.execution.arn, self.execution.document["stateMachineArn"]]
            for entry in request.get("Entries", ()):  # who sends it is part of every event
                entry["Resources"] = [*entry.get("Resources", ()), *own]
        model = apis.operation_model(self.resource.botocore, self.resource.operation)
        if model.input_shape is not None:
            for member in model.idempotent_members:
                request.setdefault(member, self._idempotency_token())
            if self.resource.operation == "StartBuild":  # the model doesn't mark its token as one
                request.setdefault("idempotencyToken", self._idempotency_token())
        return request

    def _idempotency_token(self) -> str:
        """The same for this attempt also after a restart, so that the service does it once."""
        redrives = self.execution.document["redriveCount"]
        visit = f"{self.scope.path} {self.visit.entered.id} {self.visit.retry_count}"
        attempt = f"{self.execution.arn} {redrives} {visit}"
        return hashlib.sha256(attempt.encode()).hexdigest()[:32]

    def _function_output(self, response: dict[str, Any]) -> Json:
        if self.resource.is_function:
            return function_result(response, compact=False)
        payload = function_result(response, compact=True)
        output = {
            "ExecutedVersion": response.get("ExecutedVersion", "$LATEST"),
            "Payload": payload,
            "StatusCode": response.get("StatusCode", 200),
        }
        return with_metadata(self.resource, output, len(response.get("Payload") or b""))

    async def _job_end(self, parameters: Json, submitted: Json) -> Json:
        """Wait for the announcement of the job's end; ask the service first, it may have ended already."""
        job = self.resource.job
        assert job is not None
        await self._assume()
        identity = self.job_identity = job.identify(self._request(parameters), _as_response(submitted))
        with self.engine.job_ends.waiting(job.detail_type, job.name(identity)) as ended:
            self.engine.tokens.wake(self.visit.token, ended)
            while True:
                if (answer := self.engine.tokens.answer(self.visit.token)) is not None:
                    return _answered(answer)
                ended.clear()
                try:
                    response = await self.runtime.aws(self.resource.botocore, job.describe, identity)
                except AWSError as error:
                    raise as_state_failed(self.resource, error) from error
                description = job.described(response)
                if description[job.status] in job.ended:
                    return self._job_result(response, is_success=description[job.status] in job.succeeded)
                await ended.wait()

    def _job_result(self, response: dict[str, Any], *, is_success: bool) -> Json:
        job = self.resource.job
        assert job is not None
        output = to_json(self.resource, job.describe, response)
        if job.wrapped_as:
            output = {job.wrapped_as: output[f"{job.wrapped_as}s"][0]}
        if self.resource.pattern == SYNC_2:
            for name in ("Input", "Output"):
                if isinstance(text := output.get(name), str):
                    output[name] = from_text(text)
        if not is_success:
            raise StateFailed(TASK_FAILED, to_text(output), from_task=True)
        return output

    async def _token_answer(self, parameters: Json, submitted: Json) -> Json:
        """Wait for SendTaskSuccess or SendTaskFailure, as long as heartbeats come."""
        tokens, answered = self.engine.tokens, asyncio.Event()
        tokens.wake(self.visit.token, answered)
        while (answer := tokens.answer(self.visit.token)) is None:
            answered.clear()
            silence_ends = tokens.silence_ends(self.visit.token)
            try:
                async with asyncio.timeout(None if silence_ends is None else silence_ends - time.time()):
                    await answered.wait()
            except TimeoutError:
                raise HeartbeatMissed from None
        await self.scope.journal.committed()  # who answered hears so before the execution goes on
        return _answered(answer)

    def _forget(self) -> None:
        self.strand.cancel_work = None
        if self.visit.token:
            self.engine.tokens.close(self.visit.token)

    def _give_up(self) -> None:
        """Close the token and stop the job, as Step Functions does when it gives up a task."""
        self._forget()
        if (job := self.resource.job) is not None and self.job_identity is not None:
            stop = job.stop_by(self.job_identity)
            self.engine.stop_job(self.runtime.aws, self.resource.botocore, job.stop, stop)
            self.job_identity = None


def _as_response(submitted: Json) -> dict[str, Any]:
    """The members of a response as the API names them, from what was recorded of it."""
    return {
        name[:1].lower() + name[1:]: _as_response(value) if isinstance(value, dict) else value
        for name, value in submitted.items()
    }


def _answered(answer: dict[str, Json]) -> Json:
    if "output" in answer:
        return from_text(answer["output"])
    raise StateFailed(answer.get("error"), answer.get("cause"), from_task=True)
