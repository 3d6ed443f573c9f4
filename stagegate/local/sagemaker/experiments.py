"""SageMaker Experiments: experiments, their trials, and the trial components in them.

A job's trial component is written by `lineage_records.py`; here it comes into the trial that the job's
`ExperimentConfig` names. Trial components are entities of the lineage graph, as on AWS.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from stagegate.local.sagemaker.lineage_graph import TRIAL_COMPONENT, Graph
from stagegate.local.sagemaker.resources import (
    Document,
    check_name,
    invalid,
    order,
    page,
    pick,
    put_tags,
    select,
)
from stagegate.local.service import Announcement, Aws, AWSError, Runtime, Service

EXPERIMENT = "sagemaker/experiment"
TRIAL = "sagemaker/trial"
_IN_TRIAL = "sagemaker/trial-association"
_NAME = r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,119}"
_JOBS = ("Training", "Processing", "Transform")
_COMPONENT = (
    *("Source", "Status", "StartTime", "EndTime", "CreationTime", "LastModifiedTime"),
    *("Parameters", "InputArtifacts", "OutputArtifacts", "MetadataProperties", "Metrics"),
)
_REMOVABLE = ("Parameters", "InputArtifacts", "OutputArtifacts")
_NOBODY: Document = {}  # there is no Studio user here


class Experiments(Service):
    """Experiments, trials and trial components."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._store = runtime.store
        self._graph = Graph(runtime)
        runtime.listeners.append(self._hear)

    def create_experiment(
        self,
        *,
        ExperimentName: str,
        DisplayName: str | None = None,
        Description: str | None = None,
        Tags: list[dict[str, str]] | None = None,
    ) -> Document:
        arn = self.runtime.arn("sagemaker", f"experiment/{ExperimentName}")
        self._new("Experiment", ExperimentName, self._store.get(EXPERIMENT, ExperimentName))
        document = {
            "ExperimentName": ExperimentName,
            "ExperimentArn": arn,
            "DisplayName": DisplayName or ExperimentName,
            "Description": Description,
        }
        self._put(EXPERIMENT, ExperimentName, {**document, "CreationTime": datetime.now(UTC)})
        put_tags(self._store, arn, Tags)
        return {"ExperimentArn": arn}

    def describe_experiment(self, *, ExperimentName: str) -> Document:
        return {**self._experiment(ExperimentName), "CreatedBy": _NOBODY}

    def update_experiment(self, *, ExperimentName: str, **changes: Any) -> Document:
        experiment = self._experiment(ExperimentName)
        self._put(EXPERIMENT, ExperimentName, {**experiment, **changes})
        return pick(experiment, ("ExperimentArn",))

    def delete_experiment(self, *, ExperimentName: str) -> Document:
        experiment = self._experiment(ExperimentName)
        if any(trial["ExperimentName"] == ExperimentName for trial in self._store.list(TRIAL)):
            raise invalid(
                f"Experiment '{ExperimentName}' cannot be deleted: its trials must be deleted first."
            )
        self._store.delete(EXPERIMENT, ExperimentName)
        put_tags(self._store, experiment["ExperimentArn"], None)
        return pick(experiment, ("ExperimentArn",))

    def list_experiments(self, **filters: Any) -> Document:
        members = ("ExperimentArn", "ExperimentName", "DisplayName", "CreationTime", "LastModifiedTime")
        summaries = [pick(experiment, members) for experiment in self._store.list(EXPERIMENT)]
        return _listed(summaries, "Experiment", **filters)

    def create_trial(
        self,
        *,
        TrialName: str,
        ExperimentName: str,
        DisplayName: str | None = None,
        MetadataProperties: Document | None = None,
        Tags: list[dict[str, str]] | None = None,
    ) -> Document:
        arn = self.runtime.arn("sagemaker", f"experiment-trial/{TrialName}")
        self._new("Trial", TrialName, self._store.get(TRIAL, TrialName))
        self._experiment(ExperimentName)
        document = {
            "TrialName": TrialName,
            "TrialArn": arn,
            "DisplayName": DisplayName or TrialName,
            "ExperimentName": ExperimentName,
            "MetadataProperties": MetadataProperties,
        }
        self._put(TRIAL, TrialName, {**document, "CreationTime": datetime.now(UTC)})
        put_tags(self._store, arn, Tags)
        return {"TrialArn": arn}

    def describe_trial(self, *, TrialName: str) -> Document:
        return {**self._trial(TrialName), "CreatedBy": _NOBODY}

    def update_trial(self, *, TrialName: str, **changes: Any) -> Document:
        trial = self._trial(TrialName)
        self._put(TRIAL, TrialName, {**trial, **changes})
        return pick(trial, ("TrialArn",))

    def delete_trial(self, *, TrialName: str) -> Document:
        trial = self._trial(TrialName)
        if any(entry["TrialName"] == TrialName for entry in self._store.list(_IN_TRIAL)):
            raise invalid(
                f"Trial '{TrialName}' cannot be deleted: its trial components must be disassociated first."
            )
        self._store.delete(TRIAL, TrialName)
        put_tags(self._store, trial["TrialArn"], None)
        return pick(trial, ("TrialArn",))

    def list_trials(
        self, *, ExperimentName: str | None = None, TrialComponentName: str | None = None, **filters: Any
    ) -> Document:
        if ExperimentName is not None:
            self._experiment(ExperimentName)
        if TrialComponentName is not None:
            self._component(TrialComponentName)
        having = {
            entry["TrialName"]
            for entry in self._store.list(_IN_TRIAL)
            if entry["TrialComponentName"] == TrialComponentName
        }
        members = ("TrialArn", "TrialName", "DisplayName", "CreationTime", "LastModifiedTime")
        summaries = [
            pick(trial, members)
            for trial in self._store.list(TRIAL)
            if ExperimentName in (None, trial["ExperimentName"])
            and (TrialComponentName is None or trial["TrialName"] in having)
        ]
        return _listed(summaries, "Trial", **filters)

    def create_trial_component(
        self,
        *,
        TrialComponentName: str,
        DisplayName: str | None = None,
        Tags: list[dict[str, str]] | None = None,
        **members: Any,
    ) -> Document:
        arn = self._graph.arn(TRIAL_COMPONENT, TrialComponentName)
        self._new("TrialComponent", TrialComponentName, self._graph.find(arn))
        entity = {
            "Arn": arn,
            "LineageType": TRIAL_COMPONENT,
            "Type": TRIAL_COMPONENT,
            "Name": TrialComponentName,
            "DisplayName": DisplayName,
            "CreationTime": datetime.now(UTC),
        }
        self._graph.put({**entity, **members})
        put_tags(self._store, arn, Tags)
        return {"TrialComponentArn": arn}

    def describe_trial_component(self, *, TrialComponentName: str) -> Document:
        return described_component(self._component(TrialComponentName))

    def update_trial_component(
        self,
        *,
        TrialComponentName: str,
        ParametersToRemove: list[str] | None = None,
        InputArtifactsToRemove: list[str] | None = None,
        OutputArtifactsToRemove: list[str] | None = None,
        **changes: Any,
    ) -> Document:
        """What is given for a map is added to it, or takes the place of what has the same key."""
        entity = self._component(TrialComponentName)
        removed = (ParametersToRemove, InputArtifactsToRemove, OutputArtifactsToRemove)
        for member, keys in zip(_REMOVABLE, removed, strict=True):
            together = {**entity.get(member, {}), **changes.pop(member, {})}
            entity[member] = {key: value for key, value in together.items() if key not in (keys or ())}
        self._graph.put({**entity, **changes})
        return {"TrialComponentArn": entity["Arn"]}

    def delete_trial_component(self, *, TrialComponentName: str) -> Document:
        entity = self._component(TrialComponentName)
        if trials_of(self.runtime, entity["Name"]):
            raise invalid(
                f"Trial component '{entity['Name']}' cannot be deleted: it must be disassociated from its "
                "trials first."
            )
        self._graph.delete(entity["Arn"])
        put_tags(self._store, entity["Arn"], None)
        return {"TrialComponentArn": entity["Arn"]}

    def list_trial_components(
        self,
        *,
        ExperimentName: str | None = None,
        TrialName: str | None = None,
        SourceArn: str | None = None,
        **filters: Any,
    ) -> Document:
        if sum(given is not None for given in (ExperimentName, TrialName, SourceArn)) > 1:
            raise invalid("Only one of ExperimentName, TrialName and SourceArn can be given")
        if ExperimentName is not None:
            self._experiment(ExperimentName)
        if TrialName is not None:
            self._trial(TrialName)
        summaries = []
        for entity in self._graph.entities(TRIAL_COMPONENT):
            trials = trials_of(self.runtime, entity["Name"])
            if (
                SourceArn in (None, entity.get("Source", {}).get("SourceArn"))
                and (TrialName is None or TrialName in [trial["TrialName"] for trial in trials])
                and (
                    ExperimentName is None or ExperimentName in [trial["ExperimentName"] for trial in trials]
                )
            ):
                described = described_component(entity)
                source = {"TrialComponentSource": described["Source"]} if "Source" in described else {}
                members = ("TrialComponentName", "TrialComponentArn", "DisplayName", *_COMPONENT[1:6])
                summaries.append({**pick(described, members), **source})
        return _listed(summaries, "TrialComponent", **filters)

    def associate_trial_component(self, *, TrialComponentName: str, TrialName: str) -> Document:
        entity, trial = self._component(TrialComponentName), self._trial(TrialName)
        self._associate(TrialName, entity["Name"])
        return {"TrialComponentArn": entity["Arn"], "TrialArn": trial["TrialArn"]}

    def disassociate_trial_component(self, *, TrialComponentName: str, TrialName: str) -> Document:
        entity, trial = self._component(TrialComponentName), self._trial(TrialName)
        self._store.delete(_IN_TRIAL, f"{TrialName}|{entity['Name']}")
        return {"TrialComponentArn": entity["Arn"], "TrialArn": trial["TrialArn"]}

    def _hear(self, announcement: Announcement) -> None:
        """A job's trial component comes into the trial of its ExperimentConfig."""
        detail = announcement.detail
        for title in _JOBS:
            config = detail.get("ExperimentConfig")
            if announcement.detail_type != f"SageMaker {title} Job State Change" or not config:
                continue
            arn = self._graph.arn(TRIAL_COMPONENT, f"{detail[f'{title}JobName']}-aws-{title.lower()}-job")
            if (entity := self._graph.find(arn)) is None:
                continue
            if "TrialName" in config:
                self._associate(config["TrialName"], entity["Name"])
            if shown := config.get("TrialComponentDisplayName"):
                self._graph.put({**entity, "DisplayName": shown})

    def _associate(self, trial: str, component: str) -> None:
        association = {"TrialName": trial, "TrialComponentName": component}
        self._store.put(_IN_TRIAL, f"{trial}|{component}", association)

    def _new(self, kind: str, name: str, existing: Document | None) -> None:
        check_name(name, member=f"{kind[0].lower()}{kind[1:]}Name", pattern=_NAME)
        if existing is not None:
            raise invalid(
                f"{kind} names must be unique within an AWS account and region. {kind} with name ({name}) "
                "already exists."
            )

    def _put(self, kind: str, name: str, document: Document) -> None:
        known = {member: value for member, value in document.items() if value is not None}
        self._store.put(kind, name, {**known, "LastModifiedTime": datetime.now(UTC)})

    def _experiment(self, name: str) -> Document:
        return _there(self._store.get(EXPERIMENT, name), "Experiment", name)

    def _trial(self, name: str) -> Document:
        return _there(self._store.get(TRIAL, name), "Trial", name)

    def _component(self, name: str) -> Document:
        arn = name if name.startswith("arn:") else self._graph.arn(TRIAL_COMPONENT, name)
        return _there(self._graph.find(arn), "TrialComponent", name)


async def check_experiment(aws: Aws, config: Document | None) -> None:
    """Raises ResourceNotFound where a job's ExperimentConfig names what is not there."""
    for kind in ("Experiment", "Trial"):
        if name := (config or {}).get(f"{kind}Name"):
            await aws("sagemaker", f"Describe{kind}", {f"{kind}Name": name})


def trials_of(runtime: Runtime, component: str) -> list[Document]:
    """The trials that a trial component is in."""
    associated = [
        runtime.store.get(TRIAL, entry["TrialName"])
        for entry in runtime.store.list(_IN_TRIAL)
        if entry["TrialComponentName"] == component
    ]
    return [trial for trial in associated if trial is not None]


def described_component(entity: Document) -> Document:
    """As DescribeTrialComponent gives it."""
    return {
        "TrialComponentName": entity["Name"],
        "TrialComponentArn": entity["Arn"],
        "DisplayName": entity.get("DisplayName", entity["Name"]),
        **pick(entity, _COMPONENT),
        "CreatedBy": _NOBODY,
    }


def _there(document: Document | None, kind: str, name: str) -> Document:
    if document is None:
        raise AWSError("ResourceNotFound", f"{kind} '{name}' does not exist.")
    return document


def _listed(
    summaries: Iterable[Document],
    kind: str,
    *,
    CreatedAfter: datetime | None = None,
    CreatedBefore: datetime | None = None,
    SortBy: str = "CreationTime",
    SortOrder: str = "Descending",
    NextToken: str | None = None,
    MaxResults: int | None = None,
) -> Document:
    found = select(summaries, name=f"{kind}Name", created_after=CreatedAfter, created_before=CreatedBefore)
    by = f"{kind}Name" if SortBy == "Name" else SortBy
    ordered = order(found, by=by, descending=SortOrder == "Descending")
    return page(ordered, member=f"{kind}Summaries", token=NextToken, size=MaxResults)
