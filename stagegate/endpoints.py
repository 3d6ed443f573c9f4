"""What an endpoint of a stage does now: its variants while it is deployed, its last hour, its alarms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from stagegate.aws import Services
from stagegate.metrics import Query, read_metrics
from stagegate.models import STAGES, endpoint_name, find_endpoint

_HOUR = timedelta(hours=1)
PERCENTILES = ("p50", "p95", "p99")
_REQUESTS, _INSTANCES = "AWS/SageMaker", "/aws/sagemaker/Endpoints"
_MEASURED = (
    (_REQUESTS, "Invocations", "Sum"),
    (_REQUESTS, "Invocation4XXErrors", "Sum"),
    (_REQUESTS, "Invocation5XXErrors", "Sum"),
    (_INSTANCES, "CPUUtilization", "Average"),
    (_INSTANCES, "MemoryUtilization", "Average"),
    *((_REQUESTS, "ModelLatency", percentile) for percentile in PERCENTILES),
)
_LATENCIES = _MEASURED[-len(PERCENTILES) :]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A production variant, and how much of the traffic it has."""

    name: str
    model_package_arn: str
    weight: float
    desired_weight: float
    instances: int
    is_coming: bool
    """Whether it belongs to what is being deployed, and not to what has served until now."""
    status: str


@dataclass(frozen=True, kw_only=True)
class Alarm:
    name: str
    state: str
    reason: str
    description: str
    since: datetime


@dataclass(frozen=True, kw_only=True)
class Serving:
    """An endpoint, all of it."""

    stage: str
    name: str
    status: str
    failure_reason: str
    config: str
    coming_config: str
    """That to which it is moving; empty where it stays as it is."""
    created: datetime
    updated: datetime
    variants: tuple[Variant, ...]

    @property
    def is_moving(self) -> bool:
        return self.status.endswith("ing") or bool(self.coming_config)


@dataclass(frozen=True, kw_only=True)
class LastHour:
    """By the minute: seconds since 1970, and a count, milliseconds or percent."""

    start: float
    end: float
    requests: list[tuple[float, float]]
    client_errors: list[tuple[float, float]]
    server_errors: list[tuple[float, float]]
    processor: list[tuple[float, float]]
    """100 for each core."""
    memory: list[tuple[float, float]]
    latency: dict[str, list[tuple[float, float]]]
    """By percentile."""
    latency_of_all: dict[str, float]
    """By percentile, of all requests of the hour; empty where there was none."""

    @property
    def total(self) -> int:
        return int(sum(value for _, value in self.requests))

    @property
    def errors(self) -> int:
        return int(sum(value for _, value in (*self.client_errors, *self.server_errors)))


def list_serving(services: Services) -> list[Serving]:
    """The endpoints of the stages that have one, staging first."""
    found = (_serving(services, stage) for stage in STAGES)
    return [endpoint for endpoint in found if endpoint]


def list_alarms(services: Services, endpoint: Serving) -> list[Alarm]:
    """Those that deploy/endpoint.yaml names after the endpoint."""
    describe = services("cloudwatch").get_paginator("describe_alarms")
    pages = describe.paginate(AlarmNamePrefix=f"{endpoint.name}-")
    return [
        Alarm(
            name=alarm["AlarmName"],
            state=alarm["StateValue"],
            reason=alarm.get("StateReason", ""),
            description=alarm.get("AlarmDescription", ""),
            since=alarm["StateUpdatedTimestamp"],
        )
        for page in pages
        for alarm in page["MetricAlarms"]
    ]


def last_hour(services: Services, endpoint: Serving) -> LastHour:
    """Its requests, its errors, the model's latency, and what its instances take.

    Of all its variants together: of latencies and of what is taken, the most that one of them has.
    """
    end = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
    start = end - _HOUR
    names = list(dict.fromkeys(variant.name for variant in endpoint.variants))

    def read(measured: Sequence[tuple[str, str, str]], period: int) -> list[list[tuple[float, float]]]:
        queries = [
            Query(
                namespace=namespace,
                name=metric,
                dimensions=(("EndpointName", endpoint.name), ("VariantName", name)),
                statistic=statistic,
            )
            for namespace, metric, statistic in measured
            for name in names
        ]
        found = iter(read_metrics(services, queries, start=start, end=end, period=period))
        return [[point for _ in names for point in next(found)] for _ in measured]

    requests, client_errors, server_errors, processor, memory, *latencies = read(_MEASURED, 60)
    of_all = read(_LATENCIES, int(_HOUR.total_seconds()))
    minutes = [start.timestamp() + 60 * number for number in range(60)]
    return LastHour(
        start=start.timestamp(),
        end=end.timestamp(),
        requests=_summed(requests, minutes),
        client_errors=_summed(client_errors, minutes),
        server_errors=_summed(server_errors, minutes),
        processor=_most(processor),
        memory=_most(memory),
        latency={
            name: _milliseconds(_most(points)) for name, points in zip(PERCENTILES, latencies, strict=True)
        },
        latency_of_all={
            name: max(value for _, value in _milliseconds(points))
            for name, points in zip(PERCENTILES, of_all, strict=True)
            if points
        },
    )


def _summed(points: list[tuple[float, float]], minutes: list[float]) -> list[tuple[float, float]]:
    """What comes together in a minute is added; where nothing came, it is 0."""
    values = dict.fromkeys(minutes, 0.0)
    for at, value in points:
        values[at] = values.get(at, 0.0) + value
    return sorted(values.items())


def _most(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of several variants the one that has most."""
    values: dict[float, float] = {}
    for at, value in points:
        values[at] = max(values.get(at, 0.0), value)
    return sorted(values.items())


def _milliseconds(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """CloudWatch counts in microseconds."""
    return [(at, value / 1000) for at, value in points]


def _serving(services: Services, stage: str) -> Serving | None:
    name = endpoint_name(services, stage)
    endpoint = find_endpoint(services, name)
    if endpoint is None:
        return None
    coming = endpoint.get("PendingDeploymentSummary", {})
    variants = [
        *_variants(services, endpoint["EndpointConfigName"], endpoint, is_coming=False),
        *_variants(services, coming.get("EndpointConfigName", ""), coming, is_coming=True),
    ]
    return Serving(
        stage=stage,
        name=name,
        status=endpoint["EndpointStatus"],
        failure_reason=endpoint.get("FailureReason", ""),
        config=endpoint["EndpointConfigName"],
        coming_config=coming.get("EndpointConfigName", ""),
        created=endpoint["CreationTime"],
        updated=endpoint["LastModifiedTime"],
        variants=tuple(variants),
    )


def _variants(
    services: Services, config_name: str, described: Mapping[str, Any], *, is_coming: bool
) -> list[Variant]:
    """Those of a configuration, each with what `described` says of it."""
    if not config_name:
        return []
    config = services("sagemaker").describe_endpoint_config(EndpointConfigName=config_name)
    now = {variant["VariantName"]: variant for variant in described.get("ProductionVariants", ())}
    return [
        _variant(services, given, now.get(given["VariantName"], {}), is_coming=is_coming)
        for given in config["ProductionVariants"]
    ]


def _variant(
    services: Services, given: Mapping[str, Any], now: Mapping[str, Any], *, is_coming: bool
) -> Variant:
    model = services("sagemaker").describe_model(ModelName=given["ModelName"])
    containers = [model["PrimaryContainer"]] if "PrimaryContainer" in model else model.get("Containers", [{}])
    statuses = now.get("VariantStatus", ())
    return Variant(
        name=given["VariantName"],
        model_package_arn=containers[0].get("ModelPackageName", ""),
        weight=now.get("CurrentWeight", 0.0),
        desired_weight=now.get("DesiredWeight", given.get("InitialVariantWeight", 1.0)),
        instances=now.get("CurrentInstanceCount", 0),
        is_coming=is_coming,
        status=statuses[0].get("StatusMessage") or statuses[0]["Status"] if statuses else "",
    )
