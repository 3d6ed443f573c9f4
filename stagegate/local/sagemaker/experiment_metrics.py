"""SageMaker Metrics: what a run of an experiment measures, kept as its trial component's summaries."""

import math
from collections.abc import Mapping
from typing import Any

from stagegate.local.sagemaker.lineage_graph import TRIAL_COMPONENT, Graph
from stagegate.local.sagemaker.resources import Document
from stagegate.local.service import Runtime, Service


class Metrics(Service):
    """The SageMaker Metrics service."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._graph = Graph(runtime)

    def batch_put_metrics(self, *, TrialComponentName: str, MetricData: list[Document]) -> Document:
        entity = self._graph.find(self._graph.arn(TRIAL_COMPONENT, TrialComponentName))
        if entity is None:
            unknown = [{"Code": "VALIDATION_ERROR", "MetricIndex": index} for index in range(len(MetricData))]
            return {"Errors": unknown}
        summaries = {summary["MetricName"]: summary for summary in entity.get("Metrics", ())}
        for metric in MetricData:
            name = metric["MetricName"]
            summaries[name] = summarised(summaries.get(name), metric, source=entity["Arn"])
        self._graph.put({**entity, "Metrics": list(summaries.values())})
        return {}


def summarised(before: Document | None, metric: Mapping[str, Any], *, source: str) -> Document:
    """A metric's summary with one value more; Welford's way to the standard deviation."""
    value, earlier = metric["Value"], before or {"Count": 0, "Avg": 0.0, "StdDev": 0.0}
    count = earlier["Count"] + 1
    mean = earlier["Avg"] + (value - earlier["Avg"]) / count
    squares = earlier["StdDev"] ** 2 * earlier["Count"] + (value - earlier["Avg"]) * (value - mean)
    return {
        "MetricName": metric["MetricName"],
        "SourceArn": source,
        "TimeStamp": metric["Timestamp"],
        "Max": max(value, earlier.get("Max", value)),
        "Min": min(value, earlier.get("Min", value)),
        "Last": value,
        "Count": count,
        "Avg": mean,
        "StdDev": math.sqrt(max(squares, 0.0) / count),
    }
