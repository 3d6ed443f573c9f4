"""What SageMaker writes into the lineage graph by itself, as jobs run, packages are made, endpoints change.

After "Amazon SageMaker AI-Created Tracking Entities" in the Developer Guide; the names of types and of
entities are those that its Python SDK and its samples show:

    DataSet, Image -> TrainingJob -> Model -> Approval -> Model (the package) -> ModelDeployment -> Endpoint
                                                          Model (the package) -> ModelGroup
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from stagegate.local.sagemaker.lineage_graph import ACTION, ARTIFACT, CONTEXT, TRIAL_COMPONENT, Graph
from stagegate.local.sagemaker.model_data import uri_of
from stagegate.local.sagemaker.resources import ENDPOINT, MODEL, Document, pick
from stagegate.local.service import Announcement, Runtime

_ENDED = ("Completed", "Failed", "Stopped")


class Records:
    """Hears the announcements of SageMaker, and writes what they say into the graph."""

    def __init__(self, runtime: Runtime, graph: Graph) -> None:
        self._runtime = runtime
        self._graph = graph

    def hear(self, announcement: Announcement) -> None:
        detail = announcement.detail
        match announcement.detail_type:
            case "SageMaker Training Job State Change":
                self._job("Training", detail, _training_inputs(detail), _training_outputs(detail))
            case "SageMaker Processing Job State Change":
                self._job("Processing", detail, _processing_inputs(detail), _processing_outputs(detail))
            case "SageMaker Transform Job State Change":
                self._job("Transform", detail, _transform_inputs(detail), _transform_outputs(detail))
            case "SageMaker Model Package State Change":
                self._package(detail)
            case "SageMaker Endpoint State Change" if detail["EndpointStatus"] == "IN_SERVICE":
                self._endpoint(detail["EndpointName"])

    def _job(
        self, title: str, job: Any, inputs: list[tuple[str, str, str]], outputs: list[tuple[str, str, str]]
    ) -> None:
        """The trial component of a job; what it was given when it begins, what it made when it has it.

        Inputs and outputs are a name, an artifact's type and its URI each.
        """
        name = f"{job[f'{title}JobName']}-aws-{title.lower()}-job"
        arn, status = self._graph.arn(TRIAL_COMPONENT, name), job[f"{title}JobStatus"]
        before = self._graph.find(arn)
        if before is not None and before["Status"]["PrimaryStatus"] == status:
            return
        made = outputs if status in ("Completed", "Stopped") else []
        self._graph.put(
            {
                **(before or {}),
                "Arn": arn,
                "LineageType": TRIAL_COMPONENT,
                "Type": f"{title}Job",
                "Name": name,
                "Source": {"SourceArn": job[f"{title}JobArn"], "SourceType": f"SageMaker{title}Job"},
                "CreationTime": before["CreationTime"] if before else datetime.now(UTC),
                "Status": {"PrimaryStatus": status, **_message(job.get("FailureReason"))},
                "StartTime": _time(job.get(f"{title}StartTime")),
                "EndTime": _time(job.get(f"{title}EndTime")) if status in _ENDED else None,
                "Parameters": _parameters(job),
                "InputArtifacts": {key: {"Value": uri} for key, _, uri in inputs},
                "OutputArtifacts": {key: {"Value": uri} for key, _, uri in made},
            }
        )
        for _, kind, uri in inputs:
            self._graph.associate(self._artifact(kind, uri), arn, "ContributedTo")
        for _, kind, uri in made:
            self._graph.associate(arn, self._artifact(kind, uri), "Produced")

    def _package(self, package: Any) -> None:
        """The package, the model and image in it, its group, and each decision about it."""
        arn = package["ModelPackageArn"]
        metadata = package.get("MetadataProperties")
        made = self._artifact("Model", arn, name=None, MetadataProperties=metadata)
        containers = package.get("InferenceSpecification", {}).get("Containers", ())
        parts = [part for container in containers for part in self._parts(container)]
        for part in parts:
            self._graph.associate(part, made, "ContributedTo")
        if "ModelPackageVersion" not in package:
            return
        group_arn = self._runtime.arn("sagemaker", f"model-package-group/{package['ModelPackageGroupName']}")
        group = self._context("ModelGroup", group_arn, suffix="model-group")
        self._graph.associate(made, group, "AssociatedWith")
        status = package["ModelApprovalStatus"]
        known = self._graph.get(made)
        if known.get("ApprovalStatus") == status:
            return
        self._graph.put({**known, "ApprovalStatus": status})
        action = self._action(
            "Approval",
            f"{package['ModelPackageVersion']}-{status}",
            suffix="model-package",
            source=arn,
            Description=package.get("ApprovalDescription"),
            Properties={"ModelApprovalStatus": status},
            MetadataProperties=metadata,
        )
        for part in parts:
            self._graph.associate(part, action, "ContributedTo")
        self._graph.associate(action, made, "ContributedTo")

    def _endpoint(self, name: str) -> None:
        """The endpoint, and each deployment of models to it."""
        endpoint = self._runtime.store.get(ENDPOINT, name)
        if endpoint is None:
            return
        planned = endpoint["Fleet"]
        context = self._context("Endpoint", endpoint["EndpointArn"], suffix="endpoint")
        known = self._graph.get(context)
        deployed = f"{planned['EndpointConfigName']} {endpoint['CreationTime'].isoformat()}"
        if known.get("Deployed") == deployed:
            return  # it was rolled back, or its weights have changed
        self._graph.put({**known, "Deployed": deployed})
        action = self._action(
            "ModelDeployment",
            name,
            suffix="model-deployment",
            source=endpoint["EndpointArn"],
            Properties={"EndpointConfigName": planned["EndpointConfigName"]},
        )
        for entry in planned["Variants"]:
            for part in self._models(entry["Variant"].get("ModelName", "")):
                self._graph.associate(part, action, "ContributedTo")
        self._graph.associate(action, context, "AssociatedWith")

    def _models(self, name: str) -> Iterable[str]:
        """The packages of a model, and the data and images of what is in none."""
        model = self._runtime.store.get(MODEL, name) or {}
        for container in model.get("Containers") or [model.get("PrimaryContainer") or {}]:
            if package := container.get("ModelPackageName"):
                if not package.startswith("arn:"):
                    package = self._runtime.arn("sagemaker", f"model-package/{package}")
                yield self._artifact("Model", package)
            else:
                yield from self._parts(container)

    def _parts(self, container: Document) -> Iterable[str]:
        if image := container.get("Image"):
            yield self._artifact("Image", image)
        if uri := uri_of(container):
            yield self._artifact("Model", uri)

    def _artifact(self, kind: str, uri: str, **members: Any) -> str:
        arn = self._graph.artifact_arn({"SourceUri": uri})
        if self._graph.find(arn) is None:
            name = members.pop("name", None)
            self._graph.create(ARTIFACT, arn, name=name, type=kind, source={"SourceUri": uri}, **members)
        return arn

    def _context(self, kind: str, source: str, *, suffix: str) -> str:
        name = f"{source.rpartition('/')[2]}-aws-{suffix}"
        arn = self._graph.arn(CONTEXT, name)
        if self._graph.find(arn) is None:
            self._graph.create(CONTEXT, arn, name=name, type=kind, source={"SourceUri": source})
        return arn

    def _action(self, kind: str, name: str, *, suffix: str, source: str, **members: Any) -> str:
        now = datetime.now(UTC)
        name = f"{name}-{int(now.timestamp() * 1000)}-aws-{suffix}"
        return self._graph.create(
            ACTION,
            self._graph.arn(ACTION, name),
            name=name,
            type=kind,
            source={"SourceUri": source},
            Status="Completed",
            **members,
        )


def _training_inputs(job: Any) -> list[tuple[str, str, str]]:
    image = job.get("AlgorithmSpecification", {}).get("TrainingImage")
    channels = [
        (channel["ChannelName"], "DataSet", source["S3Uri"])
        for channel in job.get("InputDataConfig", ())
        if (source := channel["DataSource"].get("S3DataSource"))
    ]
    return [*([("SageMaker.ImageUri", "Image", image)] if image else []), *channels]


def _training_outputs(job: Any) -> list[tuple[str, str, str]]:
    model = job.get("ModelArtifacts", {}).get("S3ModelArtifacts")
    checkpoints = job.get("CheckpointConfig", {}).get("S3Uri")
    return [
        *([("SageMaker.ModelArtifact", "Model", model)] if model else []),
        *([("SageMaker.CheckpointArtifact", "Checkpoint", checkpoints)] if checkpoints else []),
    ]


def _processing_inputs(job: Any) -> list[tuple[str, str, str]]:
    sources = [
        (entry["InputName"], "DataSet", entry["S3Input"]["S3Uri"])
        for entry in job.get("ProcessingInputs", ())
        if "S3Input" in entry
    ]
    return [("SageMaker.ImageUri", "Image", job["AppSpecification"]["ImageUri"]), *sources]


def _processing_outputs(job: Any) -> list[tuple[str, str, str]]:
    return [
        (entry["OutputName"], "DataSet", entry["S3Output"]["S3Uri"])
        for entry in job.get("ProcessingOutputConfig", {}).get("Outputs", ())
        if "S3Output" in entry
    ]


def _transform_inputs(job: Any) -> list[tuple[str, str, str]]:
    return [
        ("SageMaker.TransformInput", "DataSet", job["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"])
    ]


def _transform_outputs(job: Any) -> list[tuple[str, str, str]]:
    return [("SageMaker.TransformOutput", "DataSet", job["TransformOutput"]["S3OutputPath"])]


def _parameters(job: Any) -> Document:
    texts = {**job.get("HyperParameters", {}), **job.get("Environment", {})}
    resources = job.get("ResourceConfig") or job.get("ProcessingResources", {}).get("ClusterConfig", {})
    numbers = pick(resources, ("InstanceCount", "VolumeSizeInGB"))
    if "InstanceType" in resources:
        texts["SageMaker.InstanceType"] = resources["InstanceType"]
    return {
        **{name: {"StringValue": str(value)} for name, value in texts.items()},
        **{f"SageMaker.{name}": {"NumberValue": float(value)} for name, value in numbers.items()},
    }


def _message(reason: str | None) -> Document:
    return {"Message": reason[:1024]} if reason else {}


def _time(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)
