"""Data capture: a sample of an endpoint's requests and answers as JSON lines in S3, in batches."""

import asyncio
import base64
import json
import logging
import random
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from stagegate.local import s3
from stagegate.local.sagemaker.resources import SESSION
from stagegate.local.service import AWSError, Runtime

log = logging.getLogger(__name__)

_BATCH_SECONDS = 1.0
_MODES = {"Input": ("Input",), "Output": ("Output",), "InputAndOutput": ("Input", "Output")}

Spawn = Callable[..., asyncio.Task[Any]]


class DataCapture:
    """What has been captured and is not in S3 yet; `spawn` runs the upload."""

    def __init__(self, runtime: Runtime, *, spawn: Spawn) -> None:
        self._runtime = runtime
        self._spawn = spawn
        self._lines: defaultdict[tuple[str, str | None], list[str]] = defaultdict(list)
        """By the folder, and by the role that writes there."""
        self._is_waiting = False

    def record(
        self,
        config: Mapping[str, Any],
        *,
        endpoint: str,
        variant: str,
        input_type: str,
        input_body: bytes,
        output_type: str,
        output_body: bytes,
        inference_id: str | None,
        custom_attributes: str | None,
    ) -> None:
        """Keep one invocation, if the config says so and the dice too."""
        if not config.get("EnableCapture", True):
            return
        if random.random() * 100 >= config["InitialSamplingPercentage"]:
            return
        modes = {mode for option in config["CaptureOptions"] for mode in _MODES[option["CaptureMode"]]}
        headers = config.get("CaptureContentTypeHeader", {})
        captured = {}
        if "Input" in modes:
            captured["endpointInput"] = _side("INPUT", input_type, input_body, headers)
        if "Output" in modes:
            captured["endpointOutput"] = _side("OUTPUT", output_type, output_body, headers)
        now = datetime.now(UTC)
        metadata: dict[str, Any] = {"eventId": str(uuid.uuid4())}
        if custom_attributes:
            metadata["customAttributes"] = [custom_attributes]
        if inference_id:
            metadata["inferenceId"] = inference_id
        metadata["inferenceTime"] = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        event = {"captureData": captured, "eventMetadata": metadata, "eventVersion": "0"}
        folder = f"{config['DestinationS3Uri'].rstrip('/')}/{endpoint}/{variant}/{now:%Y/%m/%d/%H}"
        self._lines[folder, config.get("RoleArn")].append(json.dumps(event, separators=(",", ":")))
        if not self._is_waiting:
            self._is_waiting = True
            self._spawn(self._flush_soon(), name="upload captured data")

    async def flush(self) -> None:
        lines, self._lines = self._lines, defaultdict(list)
        for (folder, role), events in lines.items():
            now = datetime.now(UTC)
            name = f"{now:%M-%S}-{now.microsecond // 1000:03d}-{uuid.uuid4()}.jsonl"
            aws = self._runtime.as_role(role, session=SESSION).aws
            try:
                await s3.write(aws, f"{folder}/{name}", ("\n".join(events) + "\n").encode())
            except AWSError as error:  # nobody waits for it who could be told
                log.warning("%d captured requests are lost: %s", len(events), error)

    async def _flush_soon(self) -> None:
        await asyncio.sleep(_BATCH_SECONDS)
        self._is_waiting = False
        await self.flush()


def _side(mode: str, content_type: str, body: bytes, headers: Mapping[str, Any]) -> dict[str, str]:
    """One of the two, in the encoding that the config's content types ask for; base64 where they do not."""
    kind = content_type.partition(";")[0].strip().lower()
    side = {"observedContentType": content_type, "mode": mode}
    for encoding, member in (("CSV", "CsvContentTypes"), ("JSON", "JsonContentTypes")):
        if kind in (name.lower() for name in headers.get(member, ())):
            return {**side, "data": body.decode(errors="replace"), "encoding": encoding}
    return {**side, "data": base64.b64encode(body).decode(), "encoding": "BASE64"}
