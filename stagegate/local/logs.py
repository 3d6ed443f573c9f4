"""CloudWatch Logs, where moto's answer is not AWS's: it takes no notice of a prefix of stream names."""

from typing import Any

from stagegate.local.service import AWSError, Service

_STREAMS = 100  # FilterLogEvents searches no more: the limit of logStreamNames


class Logs(Service):
    async def filter_log_events(
        self, *, logStreamNamePrefix: str | None = None, logStreamNames: list[str] | None = None, **rest: Any
    ) -> dict[str, Any]:
        """With a prefix, the events of the streams whose names begin with it."""
        beneath = self.runtime.beneath
        if logStreamNamePrefix is None:
            return await beneath("logs", "FilterLogEvents", {**rest, "logStreamNames": logStreamNames})
        if logStreamNames:
            raise AWSError(
                "InvalidParameterException", "logStreamNames and logStreamNamePrefix exclude each other"
            )
        group = {name: rest[name] for name in ("logGroupName", "logGroupIdentifier") if rest.get(name)}
        request = {**group, "logStreamNamePrefix": logStreamNamePrefix, "limit": 50}
        names: list[str] = []
        while len(names) < _STREAMS:
            page = await beneath("logs", "DescribeLogStreams", request)
            names += [stream["logStreamName"] for stream in page["logStreams"]]
            if "nextToken" not in page:
                break
            request["nextToken"] = page["nextToken"]
        if not names:
            return {"events": [], "searchedLogStreams": []}
        return await beneath("logs", "FilterLogEvents", {**rest, "logStreamNames": names[:_STREAMS]})
