"""A transform job under way: a model server for each instance is asked about every record of the input.

After "Use Your Own Inference Code with Batch Transform":
https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-batch-code.html
"""

import asyncio
import contextlib
import json
import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from stagegate.local import s3
from stagegate.local.log_stream import LogStream
from stagegate.local.sagemaker import model_data
from stagegate.local.sagemaker.channels import Channel
from stagegate.local.sagemaker.connections import ConnectionLost
from stagegate.local.sagemaker.fleets import server_environment
from stagegate.local.sagemaker.hosts import Host
from stagegate.local.sagemaker.images import authorize_pull
from stagegate.local.sagemaker.job_run import HostRun, JobFailed, JobLog, JobRun, Kind
from stagegate.local.sagemaker.model_process import ModelProcess, Unhealthy
from stagegate.local.sagemaker.requirements import NotInstalled, install_beside
from stagegate.local.sagemaker.resources import Document
from stagegate.local.sagemaker.transform_records import (
    CSV,
    DataProcessing,
    Unusable,
    batches,
    filter_of,
    split,
)
from stagegate.local.sagemaker.usage import Usage

TRANSFORM = Kind(title="Transform", resource="transform-job", log_group="/aws/sagemaker/TransformJobs")
_STARTUP_SECONDS = 480
_INVOCATION_SECONDS, _RETRIES = 600, 3
_PAYLOAD = 6  # MB, where neither the job nor the algorithm says
_MEGABYTE = 2**20
_REASON = 1024
_STRATEGIES = {"SingleRecord": "SINGLE_RECORD", "MultiRecord": "MULTI_RECORD"}

Item = TypeVar("Item")
Made = TypeVar("Made")


class _Refused(Exception):
    """An object that could not be transformed: whose fault that is, what to log of it."""

    def __init__(self, fault: str, *lines: str) -> None:
        super().__init__(fault)
        self.fault, self.lines = fault, lines


class ServerHost(HostRun):
    """A host with its model server."""

    server: ModelProcess | None = None
    data_log: LogStream

    @property
    def pid(self) -> int | None:
        return self.server.pid if self.server else None


@dataclass(frozen=True, kw_only=True)
class _Parameters:
    """By what the job says, else the algorithm by /execution-parameters."""

    at_once: int
    payload: int
    """Megabytes; 0 for any number."""
    strategy: str

    def __str__(self) -> str:
        return (
            f"MaxConcurrentTransforms={self.at_once}, MaxPayloadInMB={self.payload}, "
            f"BatchStrategy={self.strategy}"
        )


class TransformRun(JobRun[ServerHost]):
    kind = TRANSFORM

    def host(self, host: Host, *, home: Path, log: JobLog, usage: Usage) -> ServerHost:
        one = ServerHost(host, home=home, log=log, usage=usage)
        one.data_log = LogStream(self.aws, group=self.kind.log_group, stream=f"{log.stream}/data-log")
        return one

    def resources(self) -> Document:
        given: Document = self.document["TransformResources"]
        return given

    async def work(self) -> None:
        async with self.turn():
            self.hosts = self.new_hosts()
            try:
                await self.or_stop(self._start())
                self.save(TransformStartTime=datetime.now(UTC))
                await self.or_stop(self._transform())
            finally:
                await self._stop_servers()
        self.end("Completed")

    def end(self, status: str, reason: str = "") -> None:
        if reason:
            self.document["FailureReason"] = reason[:_REASON]
        self.save(TransformJobStatus=status, TransformEndTime=datetime.now(UTC))

    async def _start(self) -> None:
        await asyncio.gather(*(self._start_server(one) for one in self.hosts))

    async def _start_server(self, one: ServerHost) -> None:
        """The model's files, and its server on them."""
        folder, container = one.home / "model", self.document["_Container"]
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        await authorize_pull(self.runtime, container.get("Image"))
        try:
            await model_data.fetch(self.aws, container, folder)
        except model_data.Unavailable as error:
            one.log.write(f"No model data: {error}")
            await one.log.flush()
            raise JobFailed(f'ClientError: Failed to download model data from URL "{error.uri}".') from error
        one.server = ModelProcess(
            name=f"{self.name}/{one.host.name}",
            model_dir=folder,
            environment=server_environment(self.runtime, container, folder) | self._environment(),
            log=one.log,
        )
        try:
            await install_beside(folder, self.runtime.data, one.log)
            await one.server.start(seconds=_STARTUP_SECONDS)
        except (NotInstalled, Unhealthy) as error:
            one.data_log.write(_logged(f"The model server is not healthy: {error}"))
            await one.data_log.flush()
            raise _failed("AlgorithmError") from error

    def _environment(self) -> dict[str, str]:
        """What a container finds in a transform job; what the job does not say is not there."""
        strategy = self.document.get("BatchStrategy")
        given = {
            "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": self.document.get("MaxConcurrentTransforms"),
            "SAGEMAKER_MAX_PAYLOAD_IN_MB": self.document.get("MaxPayloadInMB"),
            "SAGEMAKER_BATCH_STRATEGY": strategy and _STRATEGIES[strategy],
        }
        said = {name: str(value) for name, value in given.items() if value is not None}
        return {"SAGEMAKER_BATCH": "true", **said, **self.document.get("Environment", {})}

    async def _stop_servers(self) -> None:
        for one in self.hosts:
            if one.pid is not None:  # a short job has no other sample
                await asyncio.to_thread(one.usage.sample, one.pid, folder=one.home)
        await asyncio.gather(*(one.server.stop() for one in self.hosts if one.server))
        await asyncio.to_thread(shutil.rmtree, self.home, ignore_errors=True)
        await self.send_metrics()

    async def _transform(self) -> None:
        """Every object; those that can be transformed are, even where others cannot."""
        watching = asyncio.ensure_future(self.watch())
        working = asyncio.ensure_future(self._transform_all())
        try:
            await asyncio.wait((watching, working), return_when=asyncio.FIRST_COMPLETED)
            await (working if working.done() else watching)
        finally:
            for task in (watching, working):
                task.cancel()
            await asyncio.gather(watching, working, return_exceptions=True)

    async def _transform_all(self) -> None:
        given = self.document["TransformInput"]
        source = given["DataSource"]["S3DataSource"]
        channel = Channel(
            name="input",
            source={**source, "S3DataDistributionType": "ShardedByS3Key"},
            is_compressed=given.get("CompressionType", "None") == "Gzip",
        )
        records = await channel.records(self.aws)
        if not records:
            raise JobFailed(f'ClientError: No S3 objects found under S3 URL "{source["S3Uri"]}".')
        faults = await asyncio.gather(
            *(self._transform_share(one, channel, channel.epoch(records, one.host, 0)) for one in self.hosts)
        )
        found = {fault for some in faults for fault in some if fault}
        if found:
            raise _failed("AlgorithmError" if "AlgorithmError" in found else "ClientError")

    async def _transform_share(
        self, one: ServerHost, channel: Channel, records: Sequence[Any]
    ) -> list[str | None]:
        """A host's objects: in turn where each has several mini-batches, else beside each other."""
        parameters = await self._parameters(one)
        one.data_log.write(_logged(str(parameters)))
        await one.data_log.flush()
        is_whole = self.document["TransformInput"].get("SplitType", "None") == "None"

        async def transform(record: Any) -> str | None:
            [(uri, name)] = record
            try:
                content = await self._output(one, await channel.content(self.aws, uri), parameters)
            except (_Refused, Unusable) as error:
                refused = (
                    error if isinstance(error, _Refused) else _Refused("ClientError", f"ClientError: {error}")
                )
                for line in refused.lines:
                    one.data_log.write(_logged(f"{uri.removeprefix('s3://')}: {line}"))
                await one.data_log.flush()
                return refused.fault
            out = self.document["TransformOutput"]["S3OutputPath"].rstrip("/")
            await s3.write(self.aws, f"{out}/{name}.out", content)
            return None

        return await _in_parallel(parameters.at_once if is_whole else 1, records, transform)

    async def _parameters(self, one: ServerHost) -> _Parameters:
        said: Document = {}
        assert one.server is not None
        with contextlib.suppress(ConnectionLost, ValueError):
            reply = await one.server.request("GET", "/execution-parameters", headers=[])
            if reply.status == 200:
                said = dict(json.loads(reply.body))
        strategy = self.document.get("BatchStrategy")
        at_once = self.document.get("MaxConcurrentTransforms") or said.get("MaxConcurrentTransforms")
        return _Parameters(
            at_once=int(at_once) if at_once else 1,
            payload=self.document.get("MaxPayloadInMB", int(said.get("MaxPayloadInMB") or _PAYLOAD)),
            strategy=_STRATEGIES[strategy] if strategy else str(said.get("BatchStrategy", "MULTI_RECORD")),
        )

    async def _output(self, one: ServerHost, content: bytes, parameters: _Parameters) -> bytes:
        """What is kept of the answers to an object. Raises `_Refused` and `Unusable`."""
        given, processing = self.document["TransformInput"], self._processing()
        records = await asyncio.to_thread(split, content, given.get("SplitType", "None"))
        several = parameters.strategy == "MULTI_RECORD"
        mini_batches = list(batches(records, several=several, limit=parameters.payload * _MEGABYTE))

        async def answer(batch: list[bytes]) -> bytes:
            if processing is None:
                return await self._ask(one, b"".join(batch))
            sent = [processing.sent(record) for record in batch]
            return processing.kept(batch, await self._ask(one, b"".join(sent)))

        answers = await _in_parallel(parameters.at_once, mini_batches, answer)
        if self.document["TransformOutput"].get("AssembleWith", "None") == "Line":
            answers = [answer if answer.endswith(b"\n") else answer + b"\n" for answer in answers]
        return b"".join(answers)

    def _processing(self) -> DataProcessing | None:
        given = self.document.get("DataProcessing")
        return processing_of(self.document) if given else None

    async def _ask(self, one: ServerHost, body: bytes) -> bytes:
        """The model's answer. What is the server's fault is tried again, what is the record's is not."""
        client = self.document.get("ModelClientConfig", {})
        seconds = client.get("InvocationsTimeoutInSeconds", _INVOCATION_SECONDS)
        headers = [("content-type", self.document["TransformInput"].get("ContentType") or CSV)]
        if accept := self.document["TransformOutput"].get("Accept"):
            headers.append(("accept", accept))
        assert one.server is not None
        refused = _Refused("AlgorithmError")
        for _ in range(1 + client.get("InvocationsMaxRetries", _RETRIES)):
            try:
                async with asyncio.timeout(seconds):
                    reply = await one.server.request("POST", "/invocations", headers=headers, body=body)
            except TimeoutError:
                why = f"Unable to get response from algorithm: no answer after {seconds} s"
                refused = _Refused("AlgorithmError", why)
            except ConnectionLost as error:
                refused = _Refused("AlgorithmError", f"Unable to get response from algorithm: {error}")
            else:
                if reply.status < 300:
                    return reply.body
                message = ("", "Message:", *reply.body.decode(errors="replace").splitlines())
                if reply.status < 500:
                    raise _Refused("ClientError", f"ClientError: {reply.status}", *message)
                status = f"Bad HTTP status received from algorithm: {reply.status}"
                refused = _Refused("AlgorithmError", status, *message)
        raise refused


def processing_of(job: Document) -> DataProcessing:
    """A job's `DataProcessing`. Raises ValueError where one of its filters is no path."""
    given = job.get("DataProcessing", {})
    content_type = _kind(job["TransformInput"].get("ContentType"))
    return DataProcessing(
        input_filter=filter_of(given.get("InputFilter", "$")),
        output_filter=filter_of(given.get("OutputFilter", "$")),
        joins=given.get("JoinSource", "None") == "Input",
        input_type=content_type,
        output_type=_kind(job["TransformOutput"].get("Accept")) or content_type,
    )


def _kind(content_type: str | None) -> str:
    return (content_type or "").partition(";")[0].strip().lower()


def _failed(fault: str) -> JobFailed:
    return JobFailed(f"{fault}: See job logs for more information")


def _logged(line: str) -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + f":[sagemaker logs]: {line}"


async def _in_parallel(
    at_once: int, items: Sequence[Item], work: Callable[[Item], Awaitable[Made]]
) -> list[Made]:
    """What `work` gives for each, in their order, `at_once` under way. The first that fails ends all."""
    made: dict[int, Made] = {}
    waiting = iter(enumerate(items))

    async def some() -> None:
        for number, item in waiting:
            made[number] = await work(item)

    workers = [asyncio.ensure_future(some()) for _ in range(min(at_once, len(items)))]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return [made[number] for number in range(len(items))]
