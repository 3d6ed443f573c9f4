"""The channels of a training job and the inputs of a processing job: which objects, for whom, in which form.

After CreateTrainingJob's `Channel`, `S3DataSource` and `ShuffleConfig`, and the SageMaker Developer Guide,
"Augmented Manifest File Format for Pipe Mode Training". `pipes.py` is the way of Pipe mode to a host.
"""

import asyncio
import gzip
import json
import random
import struct
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stagegate.local import s3
from stagegate.local.processes import MOUNT_AT
from stagegate.local.sagemaker.container import holds, input_mode
from stagegate.local.sagemaker.hosts import Host
from stagegate.local.sagemaker.job_run import JobFailed
from stagegate.local.sagemaker.resources import invalid, refuse
from stagegate.local.service import Aws, AWSError

RECORD_IO = 0xCED7230A  # what every record of MXNet's RecordIO begins with

Document = dict[str, Any]
Part = bytes | tuple[str, str]
"""What stands in a manifest itself; or an object, by its URI and its name below the prefix."""
Record = tuple[Part, ...]
"""What stays together when a channel is shuffled or spread over hosts."""


@dataclass(frozen=True, kw_only=True)
class Channel:
    name: str
    source: Document
    """An S3DataSource, or an S3Input."""
    mode: str = "File"
    is_compressed: bool = False
    is_wrapped: bool = False
    """Whether each part is to become a record of RecordIO."""
    seed: int | None = None

    async def records(self, aws: Aws) -> list[Record]:
        """What the channel has, in S3's or the manifest's order."""
        uri = self.source["S3Uri"]
        if self.source["S3DataType"] == "S3Prefix":
            return [(entry,) for entry in await s3.objects(aws, uri)]
        text = (await s3.read(aws, uri)).decode(errors="replace")
        try:
            if self.source["S3DataType"] == "ManifestFile":
                return [(entry,) for entry in _manifest(text)]
            return list(_augmented_manifest(text, self.source["AttributeNames"]))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise JobFailed(
                f"ClientError: Data download failed: {self.source['S3DataType']} {uri} is invalid: {error}"
            ) from error

    def epoch(self, records: Sequence[Record], host: Host, number: int) -> list[Record]:
        """What of the records comes to a host in an epoch: shuffled anew in each, then spread."""
        ordered = list(records)
        if self.seed is not None:
            random.Random(f"{self.seed}/{number}").shuffle(ordered)
        return host.share(ordered, self.source)

    async def download(self, aws: Aws, records: Sequence[Record], host: Host, folder: Path) -> None:
        """A host's objects as files, as File mode has them."""
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        parts = [part for record in self.epoch(records, host, 0) for part in record]
        await s3.fetch(aws, [part for part in parts if not isinstance(part, bytes)], folder)

    async def stream(self, aws: Aws, records: Sequence[Record]) -> AsyncIterator[bytes]:
        """Records as Pipe mode has them: one after the other, with nothing between them but RecordIO's."""
        for record in records:
            for part in record:
                content = part if isinstance(part, bytes) else await self.content(aws, part[0])
                yield _wrapped(content) if self.is_wrapped else content

    async def content(self, aws: Aws, uri: str) -> bytes:
        """An object, unpacked where the channel is compressed. Raises JobFailed."""
        try:
            content = await s3.read(aws, uri)
            return await asyncio.to_thread(gzip.decompress, content) if self.is_compressed else content
        except (OSError, EOFError, zlib.error) as error:
            raise JobFailed(f"ClientError: Data download failed: {uri} is not in gzip: {error}") from error
        except AWSError as error:
            raise JobFailed(f"ClientError: Data download failed: {uri}: {error.message}") from error


def training_channels(job: Document) -> list[Channel]:
    return [
        Channel(
            name=channel["ChannelName"],
            source=channel["DataSource"]["S3DataSource"],
            mode=input_mode(channel, job["AlgorithmSpecification"]),
            is_compressed=channel.get("CompressionType", "None") == "Gzip",
            is_wrapped=channel.get("RecordWrapperType", "None") == "RecordIO",
            seed=channel.get("ShuffleConfig", {}).get("Seed"),
        )
        for channel in job.get("InputDataConfig", [])
    ]


def processing_inputs(job: Document) -> list[Channel]:
    """But for those that the application gets by itself."""
    return [
        Channel(name=entry["InputName"], source=entry["S3Input"])
        for entry in job.get("ProcessingInputs", [])
        if not entry.get("AppManaged")
    ]


def processing_outputs(job: Document) -> list[Document]:
    """The S3Output of each output, but for those that the application writes by itself."""
    outputs = job.get("ProcessingOutputConfig", {}).get("Outputs", [])
    return [output["S3Output"] for output in outputs if not output.get("AppManaged")]


async def check_channels(
    aws: Aws, channels: list[Document], algorithm: Document, resources: Document
) -> None:
    """Refuse channels that SageMaker would refuse, those without data, and those that we cannot provide."""
    groups = _group_names(resources)
    for name, count in Counter(channel["ChannelName"] for channel in channels).items():
        if count > 1:
            raise invalid(f"The channel name {name} is given {count} times: it must be unique")
    for channel in channels:
        source = channel["DataSource"].get("S3DataSource")
        if source is None:
            raise invalid(
                f"Channel {channel['ChannelName']}: only S3DataSource is supported by the local runtime"
            )
        _check_channel(channel, source, input_mode(channel, algorithm))
        if unknown := sorted(set(source.get("InstanceGroupNames", ())) - groups):
            raise invalid(
                f"Channel {channel['ChannelName']}: no instance group is named {', '.join(unknown)}"
            )
        await check_exists(aws, source["S3Uri"])


async def check_input(aws: Aws, entry: Document) -> None:
    """The same of a processing job's input."""
    if entry.get("AppManaged"):
        return
    refuse([("DatasetDefinition", entry.get("DatasetDefinition"))], operation="CreateProcessingJob")
    given = entry.get("S3Input", {})
    if "LocalPath" not in given:
        raise invalid(f"Input {entry['InputName']}: S3Input.LocalPath is required when AppManaged is False")
    if given.get("S3InputMode", "File") != "File":
        raise invalid(f"S3Input.S3InputMode {given['S3InputMode']} is not supported by the local runtime")
    if given.get("S3CompressionType", "None") != "None":
        raise invalid("S3Input.S3CompressionType Gzip can only be used if S3InputMode is Pipe")
    check_local_path(given["LocalPath"], "S3Input.LocalPath")
    await check_exists(aws, given["S3Uri"])


def check_output(entry: Document) -> None:
    """The same of a processing job's output."""
    if entry.get("AppManaged"):
        return
    refuse([("FeatureStoreOutput", entry.get("FeatureStoreOutput"))], operation="CreateProcessingJob")
    given = entry.get("S3Output", {})
    if "LocalPath" not in given:
        raise invalid(
            f"Output {entry['OutputName']}: S3Output.LocalPath is required when AppManaged is False"
        )
    check_local_path(given["LocalPath"], "S3Output.LocalPath")
    s3.split_uri(given["S3Uri"])


async def check_exists(aws: Aws, uri: str) -> None:
    """SageMaker looks before it starts anything."""
    try:
        found = await s3.keys(aws, uri)
    except AWSError as error:
        if error.code != "NoSuchBucket":
            raise
        found = []
    if not found:
        raise invalid(
            f'No S3 objects found under S3 URL "{uri}" given in input data source. Please ensure that '
            "the bucket exists in the selected region, that objects exist under that S3 prefix, and that "
            "the role has s3:ListBucket permissions."
        )


def check_local_path(path: str, member: str) -> None:
    if not holds(path):
        raise invalid(f"{member} '{path}' should lie below {MOUNT_AT}/")


def _check_channel(channel: Document, source: Document, mode: str) -> None:
    where, kind = f"Channel {channel['ChannelName']}", source["S3DataType"]
    if kind not in ("S3Prefix", "ManifestFile", "AugmentedManifestFile"):
        raise invalid(f"{where}: S3DataType {kind} is not supported by the local runtime")
    refuse([("HubAccessConfig", source.get("HubAccessConfig"))], operation="CreateTrainingJob")
    only_in_pipe_mode = (
        ("S3DataType AugmentedManifestFile", kind == "AugmentedManifestFile"),
        ("CompressionType Gzip", channel.get("CompressionType", "None") != "None"),
        ("RecordWrapperType RecordIO", channel.get("RecordWrapperType", "None") != "None"),
    )
    for member, is_given in only_in_pipe_mode:
        if is_given and mode != "Pipe":
            raise invalid(f"{where}: {member} can only be used if the channel's input mode is Pipe")
    if (kind == "AugmentedManifestFile") != bool(source.get("AttributeNames")):
        raise invalid(
            f"{where}: AttributeNames must be given with S3DataType AugmentedManifestFile, and only"
        )


def _group_names(resources: Document) -> set[str]:
    groups = resources.get("InstanceGroups", [])
    if groups and ("InstanceType" in resources or "InstanceCount" in resources):
        raise invalid("InstanceGroups cannot be given together with InstanceType or InstanceCount")
    names = {group["InstanceGroupName"] for group in groups}
    if len(names) < len(groups):
        raise invalid("The names of InstanceGroups must be unique")
    return names


def _manifest(text: str) -> list[tuple[str, str]]:
    """`[{"prefix": "s3://bucket/data/"}, "a", "b/c"]`."""
    first, *names = json.loads(text)
    prefix = first["prefix"]
    s3.split_uri(prefix)
    return [(prefix + name, name.lstrip("/")) for name in names]


def _augmented_manifest(text: str, attributes: Sequence[str]) -> list[Record]:
    """A JSON object in each line; of its attributes those that were asked for, in that order."""
    records = []
    for line in filter(None, map(str.strip, text.splitlines())):
        values = json.loads(line)
        records.append(tuple(_attribute(name, values[name]) for name in attributes))
    return records


def _attribute(name: str, value: Any) -> Part:
    """An attribute that ends in "-ref" means the object that it names."""
    if name.endswith("-ref"):
        s3.split_uri(value)
        return value, value.rsplit("/", 1)[-1]
    return (value if isinstance(value, str) else json.dumps(value)).encode()


def _wrapped(content: bytes) -> bytes:
    padding = b"\0" * (-len(content) % 4)
    return struct.pack("<II", RECORD_IO, len(content)) + content + padding
