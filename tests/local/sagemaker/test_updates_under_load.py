"""Clients that never stop asking while an endpoint is changed in every way there is: each gets its answer."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from tests.local.sagemaker.fakes import ECHO, archive, variant

CLIENTS = 5
ANSWERS = 40  # that the clients get between two things that happen, at least
ALL_AT_ONCE = {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}
CANARY = {
    "Type": "CANARY",
    "WaitIntervalInSeconds": 1,
    "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 50},
}
LINEAR = {
    "Type": "LINEAR",
    "WaitIntervalInSeconds": 1,
    "LinearStepSize": {"Type": "CAPACITY_PERCENT", "Value": 50},
}


class Load:
    """Clients over HTTP, which keep what they were answered."""

    def __init__(self, local: Any) -> None:
        self._local = local
        self._is_over = threading.Event()
        self._news = threading.Condition()
        self._answers: list[str] = []

    @contextmanager
    def running(self) -> Iterator["Load"]:
        """Raises what any client got that was not an answer."""
        with ThreadPoolExecutor(CLIENTS) as pool:
            clients = [pool.submit(self._ask) for _ in range(CLIENTS)]
            try:
                yield self
            finally:
                self._is_over.set()
        for client in clients:
            client.result()

    def answers(self) -> list[str]:
        """The models of the next `ANSWERS`, past those that were under way when this was called."""
        with self._news:
            start = len(self._answers) + CLIENTS
            assert self._news.wait_for(lambda: len(self._answers) >= start + ANSWERS, timeout=30)
            return self._answers[start:]

    def answer_of(self, model: str) -> None:
        """Return when this model has answered."""
        with self._news:
            start = len(self._answers)
            assert self._news.wait_for(lambda: model in self._answers[start:], timeout=30)

    def _ask(self) -> None:
        runtime = self._local.client("sagemaker-runtime")
        while not self._is_over.is_set():
            answer = runtime.invoke_endpoint(
                EndpointName="scenes", Body=b'"?"', ContentType="application/json", Accept="application/json"
            )
            with self._news:
                self._answers.append(json.loads(answer["Body"].read())["model"])
                self._news.notify_all()


class Endpoint:
    """The endpoint that is changed under them."""

    def __init__(self, local: Any) -> None:
        self._sagemaker = local.client("sagemaker")
        self._s3 = local.client("s3")
        self._s3.create_bucket(Bucket="data")
        for name in ("one", "two", "broken"):
            self._config(name)
        self._sagemaker.create_endpoint(EndpointName="scenes", EndpointConfigName="one")
        self.settled()

    def _config(self, name: str) -> None:
        code = "raise RuntimeError" if name == "broken" else ECHO.format(version=name)
        self._s3.put_object(Bucket="data", Key=name, Body=archive({"code/inference.py": code}))
        self._sagemaker.create_model(
            ModelName=name, PrimaryContainer={"Image": "pytorch:2", "ModelDataUrl": f"s3://data/{name}"}
        )
        self._sagemaker.create_endpoint_config(
            EndpointConfigName=name, ProductionVariants=[variant(name, "AllTraffic")]
        )

    def update(self, config: str, routing: dict[str, Any], *alarms: str, bake: int = 0) -> None:
        rollback = {"Alarms": [{"AlarmName": name} for name in alarms]}
        self._sagemaker.update_endpoint(
            EndpointName="scenes",
            EndpointConfigName=config,
            DeploymentConfig={
                "BlueGreenUpdatePolicy": {
                    "TrafficRoutingConfiguration": routing,
                    "TerminationWaitInSeconds": bake,
                },
                **({"AutoRollbackConfiguration": rollback} if alarms else {}),
            },
        )

    def weigh(self, weight: float) -> None:
        self._sagemaker.update_endpoint_weights_and_capacities(
            EndpointName="scenes",
            DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredWeight": weight}],
        )

    def settled(self) -> tuple[str, str | None]:
        """Its config and why it failed, once no change is under way."""
        waiter = self._sagemaker.get_waiter("endpoint_in_service")
        waiter.wait(EndpointName="scenes", WaiterConfig={"Delay": 0.1, "MaxAttempts": 600})
        described = self._sagemaker.describe_endpoint(EndpointName="scenes")
        return described["EndpointConfigName"], described.get("FailureReason")


@pytest.fixture
def endpoint(local: Any) -> Endpoint:
    return Endpoint(local)


def test_no_change_of_an_endpoint_costs_a_request(local: Any, endpoint: Endpoint) -> None:
    cloudwatch = local.client("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName="errors",
        ComparisonOperator="GreaterThanThreshold",
        EvaluationPeriods=1,
        MetricName="Invocation5XXErrors",
        Namespace="AWS/SageMaker",
        Period=60,
        Statistic="Sum",
        Threshold=0,
    )

    with Load(local).running() as load:
        assert set(load.answers()) == {"one"}

        endpoint.update("two", ALL_AT_ONCE)
        assert endpoint.settled() == ("two", None)
        assert set(load.answers()) == {"two"}

        endpoint.update("one", CANARY)
        load.answer_of("one")
        load.answer_of("two")
        assert endpoint.settled() == ("one", None)
        assert set(load.answers()) == {"one"}

        endpoint.update("broken", LINEAR)
        config, reason = endpoint.settled()
        assert (config, reason) == (
            "one",
            "The primary container for production variant AllTraffic did not pass the ping health check. "
            "Please check CloudWatch logs for this endpoint.",
        )

        endpoint.update("two", ALL_AT_ONCE, "errors", bake=60)
        load.answer_of("two")
        cloudwatch.set_alarm_state(AlarmName="errors", StateValue="ALARM", StateReason="a test")
        config, reason = endpoint.settled()
        assert config == "one"
        assert reason == "One or more alarms are in ALARM state: errors. The update was rolled back."
        assert set(load.answers()) == {"one"}

        endpoint.update("two", LINEAR)
        load.answer_of("two")
        load.answer_of("one")
        assert endpoint.settled() == ("two", None)
        assert set(load.answers()) == {"two"}

        for weight in (3.0, 0.0, 1.0):
            endpoint.weigh(weight)
            load.answers()
            assert endpoint.settled() == ("two", None)
