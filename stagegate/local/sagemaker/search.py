"""Search: jobs, experiments and what is registered, found by any of their properties.

After the API reference's "Search", "SearchExpression", "Filter" and "NestedFilters".
"""

import operator
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from stagegate.local import apis
from stagegate.local.sagemaker.experiments import EXPERIMENT, TRIAL, described_component, trials_of
from stagegate.local.sagemaker.lineage_graph import TRIAL_COMPONENT, Graph
from stagegate.local.sagemaker.registry import GROUP, PACKAGE
from stagegate.local.sagemaker.resources import TAGS, Document, invalid, order, page, pick, refuse
from stagegate.local.sagemaker.training import TRAINING
from stagegate.local.service import Service

_COMPARED: Mapping[str, Callable[[Any, Any], Any]] = {
    "GreaterThan": operator.gt,
    "GreaterThanOrEqualTo": operator.ge,
    "LessThan": operator.lt,
    "LessThanOrEqualTo": operator.le,
}
_KEPT = {  # the member of a SearchRecord, the kind of document in the store
    "TrainingJob": ("TrainingJob", TRAINING.store),
    "Experiment": ("Experiment", EXPERIMENT),
    "ExperimentTrial": ("Trial", TRIAL),
    "ModelPackage": ("ModelPackage", PACKAGE),
    "ModelPackageGroup": ("ModelPackageGroup", GROUP),
}


class Search(Service):
    """The one operation that looks through resources of any kind."""

    def search(
        self,
        *,
        Resource: str,
        SearchExpression: Document | None = None,
        SortBy: str = "LastModifiedTime",
        SortOrder: str = "Descending",
        NextToken: str | None = None,
        MaxResults: int | None = None,
        **others: Any,
    ) -> Document:
        refuse(others.items(), operation="Search")
        member, documents = self._all(Resource)
        expression = SearchExpression or {}
        found = [document for document in documents if _matches(document, expression)]
        sortable = [document for document in found if _first(document, SortBy) is not None]
        rest = [document for document in found if _first(document, SortBy) is None]
        keyed = [{"Document": document, "By": _first(document, SortBy)} for document in sortable]
        ordered = order(keyed, by="By", default="By", descending=SortOrder == "Descending")
        records = [{member: document} for document in [*(entry["Document"] for entry in ordered), *rest]]
        hits = {"TotalHits": {"Value": len(found), "Relation": "EqualTo"}}
        return {**page(records, member="Results", token=NextToken, size=MaxResults), **hits}

    def _all(self, resource: str) -> tuple[str, list[Document]]:
        if resource == "ExperimentTrialComponent":
            return TRIAL_COMPONENT, list(self._components())
        if resource not in _KEPT:
            raise invalid(f"Search: the resource {resource} is not supported by the local runtime")
        member, kind = _KEPT[resource]
        members = apis.model("sagemaker").shape_for(member).members
        return member, [
            self._tagged(pick(document, members), document.get(f"{member}Arn"))
            for document in self.runtime.store.list(kind)
        ]

    def _components(self) -> Iterator[Document]:
        for entity in Graph(self.runtime).entities(TRIAL_COMPONENT):
            trials = trials_of(self.runtime, entity["Name"])
            parents = [pick(trial, ("ExperimentName", "TrialName")) for trial in trials]
            yield self._tagged({**described_component(entity), "Parents": parents}, entity["Arn"])

    def _tagged(self, document: Document, arn: str | None) -> Document:
        tags = self.runtime.store.get(TAGS, arn) if arn else None
        return {**document, **(tags or {"Tags": []})}


def _matches(document: Document, expression: Document) -> bool:
    outcomes = [
        *(_holds(document, condition) for condition in expression.get("Filters", ())),
        *(_nested(document, condition) for condition in expression.get("NestedFilters", ())),
        *(_matches(document, inner) for inner in expression.get("SubExpressions", ())),
    ]
    if expression.get("Operator") == "Or":
        return any(outcomes)
    return all(outcomes)


def _nested(document: Document, nested: Document) -> bool:
    """Whether one object of a list satisfies all filters."""
    name = nested["NestedPropertyName"]
    return any(
        all(
            _holds(entry, {**condition, "Name": condition["Name"].removeprefix(f"{name}.")})
            for condition in nested["Filters"]
        )
        for entry in _values(document, name.split("."))
        if isinstance(entry, Mapping)
    )


def _holds(document: Mapping[str, Any], condition: Document) -> bool:
    values = list(_values(document, condition["Name"].split(".")))
    kind, wanted = condition.get("Operator", "Equals"), condition.get("Value")
    if kind in ("Exists", "NotExists"):
        if wanted is not None:
            raise invalid(f"The operator {kind} takes no Value")
        return bool(values) if kind == "Exists" else not values
    if wanted is None:
        raise invalid(f"The filter for {condition['Name']} has no Value")
    match kind:
        case "Equals":
            return any(_equal(value, wanted) for value in values)
        case "NotEquals":
            return not any(_equal(value, wanted) for value in values)
        case "Contains":
            return any(isinstance(value, str) and str(wanted) in value for value in values)
        case "In":
            return any(_equal(value, entry) for value in values for entry in wanted.split(","))
    return any(_compares(value, kind, wanted) for value in values)


def _equal(value: Any, wanted: str) -> bool:
    if isinstance(value, bool):
        return str(value).lower() == wanted.lower()
    if isinstance(value, int | float | datetime):
        return bool(value == _like(value, wanted))
    return bool(value == wanted)


def _compares(value: Any, kind: str, wanted: str) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float | datetime):
        return False  # "supported for numeric and date properties only"
    return bool(_COMPARED[kind](value, _like(value, wanted)))


def _like(value: float | datetime, wanted: str) -> Any:
    """The text as a value of the same kind; dates are ISO 8601, as the API wants them."""
    try:
        if not isinstance(value, datetime):
            return float(wanted)
        parsed = datetime.fromisoformat(wanted)
        return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    except ValueError as error:
        raise invalid(f"'{wanted}' cannot be compared with the value {value}") from error


def _values(document: Any, path: list[str]) -> Iterator[Any]:
    """What is at `A.B.C`: in each entry of a list, by `Tags.key` and `Metrics.name` as in the console."""
    if isinstance(document, list):
        for entry in document:
            yield from _values(entry, path)
    elif not path:
        yield document
    elif isinstance(document, Mapping):
        head, *rest = path
        if head == "Tags" and rest:
            name = ".".join(rest)
            yield from (tag["Value"] for tag in document.get("Tags", ()) if tag["Key"] == name)
        elif head == "Metrics" and "FinalMetricDataList" in document:
            name = ".".join(rest)
            metrics = document["FinalMetricDataList"]
            yield from (metric["Value"] for metric in metrics if metric["MetricName"] == name)
        elif head == "Metrics" and rest:
            yield from _of_summaries(document.get("Metrics", ()), rest)
        elif head in document:
            yield from _values(document[head], rest)
        elif (joined := ".".join(path)) in document:  # a hyperparameter with a dot in its name
            yield document[joined]


def _of_summaries(summaries: Any, path: list[str]) -> Iterator[Any]:
    """A trial component's `Metrics.loss.Min`; `Metrics.loss` is its last value."""
    statistic = path[-1] if path[-1] in ("Max", "Min", "Last", "Count", "Avg", "StdDev") else None
    name = ".".join(path[:-1] if statistic else path)
    yield from (entry[statistic or "Last"] for entry in summaries if entry["MetricName"] == name)


def _first(document: Document, name: str) -> Any:
    return next(_values(document, name.split(".")), None)
