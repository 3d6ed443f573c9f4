from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stagegate.local.sagemaker.experiments import Experiments
from stagegate.local.sagemaker.job_run import announce
from stagegate.local.sagemaker.lineage import Lineage
from stagegate.local.sagemaker.processing import PROCESSING
from stagegate.local.sagemaker.registry import Registry
from stagegate.local.sagemaker.resources import ENDPOINT, MODEL
from stagegate.local.sagemaker.training import TRAINING
from stagegate.local.service import Announcement, AWSError, Runtime
from stagegate.local.store import Store

ARN = "arn:aws:sagemaker:us-east-1:111111111111"
RAW, PREPARED, MADE = "s3://data/raw/", "s3://data/prepared/", "s3://data/out/train-1/output/model.tar.gz"


async def no_aws(service: str, operation: str, parameters: Any = None) -> dict[str, Any]:
    raise AssertionError(f"{service} {operation} was called")


class SageMaker:
    """The graph, and what writes into it."""

    def __init__(self, data: Path) -> None:
        self.store = Store(data / "stagegate.db")
        self.runtime = Runtime(store=self.store, aws=no_aws, data=data, endpoint_url="http://127.0.0.1:1")
        self.registry = Registry(self.runtime)
        self.lineage = Lineage(self.runtime)
        self.experiments = Experiments(self.runtime)

    def prepared(self, status: str) -> None:
        job = {
            "ProcessingJobName": "prepare-1",
            "ProcessingJobArn": f"{ARN}:processing-job/prepare-1",
            "ProcessingJobStatus": status,
            "AppSpecification": {"ImageUri": "pytorch:2"},
            "ProcessingInputs": [{"InputName": "raw", "S3Input": {"S3Uri": RAW}}],
            "ProcessingOutputConfig": {
                "Outputs": [{"OutputName": "prepared", "S3Output": {"S3Uri": PREPARED}}]
            },
            "ProcessingResources": {"ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large"}},
        }
        announce(self.runtime, PROCESSING, job)

    def trained(self, status: str) -> None:
        job = {
            "TrainingJobName": "train-1",
            "TrainingJobArn": f"{ARN}:training-job/train-1",
            "TrainingJobStatus": status,
            "AlgorithmSpecification": {"TrainingImage": "pytorch:2"},
            "HyperParameters": {"epochs": "3"},
            "InputDataConfig": [
                {"ChannelName": "train", "DataSource": {"S3DataSource": {"S3Uri": PREPARED}}}
            ],
            "ResourceConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 5},
            "ModelArtifacts": {"S3ModelArtifacts": MADE},
            "TrainingStartTime": datetime(2026, 11, 1, tzinfo=UTC),
            "TrainingEndTime": datetime(2026, 11, 2, tzinfo=UTC),
        }
        announce(self.runtime, TRAINING, job)

    def registered(self) -> str:
        self.registry.create_model_package_group(ModelPackageGroupName="digits")
        answer = self.registry.create_model_package(
            ModelPackageGroupName="digits",
            InferenceSpecification={"Containers": [{"Image": "serve:2", "ModelDataUrl": MADE}]},
            MetadataProperties={"CommitId": "c0ffee"},
        )
        return str(answer["ModelPackageArn"])

    def deployed(self, package: str, *, config: str = "one") -> None:
        self.store.put(MODEL, "digits-1", {"PrimaryContainer": {"ModelPackageName": package}})
        endpoint = {
            "EndpointName": "production",
            "EndpointArn": f"{ARN}:endpoint/production",
            "CreationTime": datetime(2026, 11, 3, tzinfo=UTC),
            "Fleet": {"EndpointConfigName": config, "Variants": [{"Variant": {"ModelName": "digits-1"}}]},
        }
        self.store.put(ENDPOINT, "production", endpoint)
        detail = {"EndpointName": "production", "EndpointStatus": "IN_SERVICE"}
        kind = "SageMaker Endpoint State Change"
        self.runtime.announce(Announcement(source="aws.sagemaker", detail_type=kind, detail=detail))

    def arn_of(self, uri: str) -> str:
        (artifact,) = self.lineage.list_artifacts(SourceUri=uri)["ArtifactSummaries"]
        return str(artifact["ArtifactArn"])

    def reached(self, start: str, direction: str, *, depth: int = 10, **filters: Any) -> list[str]:
        """The types of the entities that are reached, as text."""
        answer = self.lineage.query_lineage(
            StartArns=[start], Direction=direction, MaxDepth=depth, Filters=filters
        )
        return [f"{vertex['LineageType']} {vertex['Type']}" for vertex in answer["Vertices"]]


@pytest.fixture
def sagemaker(tmp_path: Path) -> Iterator[SageMaker]:
    sagemaker = SageMaker(tmp_path)
    yield sagemaker
    sagemaker.store.close()


@pytest.fixture
def release(sagemaker: SageMaker) -> SageMaker:
    """Prepared, trained, registered, approved and deployed."""
    for status in ("InProgress", "Completed"):
        sagemaker.prepared(status)
        sagemaker.trained(status)
    package = sagemaker.registered()
    sagemaker.registry.update_model_package(
        ModelPackageArn=package, ModelApprovalStatus="Approved", ApprovalDescription="Good"
    )
    sagemaker.deployed(package)
    return sagemaker


def test_an_endpoint_leads_back_to_the_data_it_was_trained_with(release: SageMaker) -> None:
    (endpoint,) = release.lineage.list_contexts(ContextType="Endpoint")["ContextSummaries"]

    assert release.reached(endpoint["ContextArn"], "Ascendants", depth=2) == [
        "Action ModelDeployment",
        "Artifact Model",
    ]
    assert sorted(release.reached(endpoint["ContextArn"], "Ascendants")) == [
        "Action Approval",
        "Action Approval",
        "Action ModelDeployment",
        "Artifact DataSet",
        "Artifact DataSet",
        "Artifact Image",
        "Artifact Image",
        "Artifact Model",
        "Artifact Model",
        "TrialComponent ProcessingJob",
        "TrialComponent TrainingJob",
    ]
    data = release.lineage.query_lineage(
        StartArns=[endpoint["ContextArn"]], Direction="Ascendants", Filters={"Types": ["DataSet"]}
    )
    uris = [
        release.lineage.describe_artifact(ArtifactArn=vertex["Arn"])["Source"]["SourceUri"]
        for vertex in data["Vertices"]
    ]
    assert uris == [PREPARED, RAW]


def test_data_leads_to_the_endpoints_that_serve_what_came_of_it(release: SageMaker) -> None:
    raw = release.arn_of(RAW)

    assert release.reached(raw, "Descendants", Types=["Endpoint"]) == ["Context Endpoint"]
    assert release.reached(raw, "Ascendants") == []
    edges = release.lineage.query_lineage(StartArns=[raw], Direction="Descendants", MaxDepth=2)["Edges"]
    job = f"{ARN}:experiment-trial-component/prepare-1-aws-processing-job"
    assert edges == [
        {"SourceArn": raw, "DestinationArn": job, "AssociationType": "ContributedTo"},
        {"SourceArn": job, "DestinationArn": release.arn_of(PREPARED), "AssociationType": "Produced"},
    ]
    assert not release.lineage.query_lineage(StartArns=[raw], IncludeEdges=False)["Edges"]


def test_a_job_that_failed_made_nothing(sagemaker: SageMaker) -> None:
    for status in ("InProgress", "Failed"):
        sagemaker.trained(status)

    assert sagemaker.reached(sagemaker.arn_of(PREPARED), "Descendants") == ["TrialComponent TrainingJob"]
    assert sagemaker.lineage.list_artifacts(ArtifactType="Model")["ArtifactSummaries"] == []


def test_a_job_is_described_as_a_trial_component(release: SageMaker) -> None:
    described = release.experiments.describe_trial_component(TrialComponentName="train-1-aws-training-job")

    assert described["Source"] == {
        "SourceArn": f"{ARN}:training-job/train-1",
        "SourceType": "SageMakerTrainingJob",
    }
    assert described["Status"] == {"PrimaryStatus": "Completed"}
    assert described["EndTime"] == datetime(2026, 11, 2, tzinfo=UTC)
    assert described["Parameters"] == {
        "epochs": {"StringValue": "3"},
        "SageMaker.InstanceType": {"StringValue": "ml.m5.large"},
        "SageMaker.InstanceCount": {"NumberValue": 1.0},
        "SageMaker.VolumeSizeInGB": {"NumberValue": 5.0},
    }
    assert described["InputArtifacts"]["train"] == {"Value": PREPARED}
    assert described["OutputArtifacts"] == {"SageMaker.ModelArtifact": {"Value": MADE}}


def test_each_decision_about_a_package_is_an_action(release: SageMaker) -> None:
    actions = release.lineage.list_actions(ActionType="Approval", SortOrder="Ascending")["ActionSummaries"]

    names = [action["ActionName"] for action in actions]
    assert [name.rpartition("-aws-")[0].rpartition("-")[0] for name in names] == [
        "1-PendingManualApproval",
        "1-Approved",
    ]
    approved = release.lineage.describe_action(ActionName=names[1])
    assert approved["Source"] == {"SourceUri": f"{ARN}:model-package/digits/1"}
    assert (approved["Status"], approved["Description"]) == ("Completed", "Good")
    assert approved["MetadataProperties"] == {"CommitId": "c0ffee"}
    assert release.reached(approved["ActionArn"], "Descendants", Types=["Endpoint"]) == ["Context Endpoint"]
    assert release.reached(approved["ActionArn"], "Ascendants", Types=["DataSet"]) == ["Artifact DataSet"] * 2


def test_a_deployment_is_written_down_once_and_a_new_one_beside_it(release: SageMaker) -> None:
    package = f"{ARN}:model-package/digits/1"
    release.deployed(package)  # its weights have changed
    assert len(release.lineage.list_actions(ActionType="ModelDeployment")["ActionSummaries"]) == 1

    release.deployed(package, config="two")

    assert len(release.lineage.list_actions(ActionType="ModelDeployment")["ActionSummaries"]) == 2
    (endpoint,) = release.lineage.list_contexts(ContextType="Endpoint")["ContextSummaries"]
    summaries = release.lineage.list_associations(DestinationArn=endpoint["ContextArn"])[
        "AssociationSummaries"
    ]
    assert [(summary["SourceType"], summary["AssociationType"]) for summary in summaries] == [
        ("ModelDeployment", "AssociatedWith")
    ] * 2


def test_the_graph_is_there_after_a_restart_and_is_not_written_twice(
    release: SageMaker, tmp_path: Path
) -> None:
    before = release.lineage.list_associations(MaxResults=100)["AssociationSummaries"]
    release.store.commit()

    again = SageMaker(tmp_path)
    again.trained("Completed")
    again.deployed(f"{ARN}:model-package/digits/1")

    assert again.lineage.list_associations(MaxResults=100)["AssociationSummaries"] == before
    again.store.close()


def test_one_adds_entities_of_ones_own(release: SageMaker) -> None:
    source = {"SourceUri": "https://git.example.com/labels", "SourceTypes": []}
    artifact = release.lineage.create_artifact(
        ArtifactName="labels", ArtifactType="Labels", Source=source, Properties={"by": "Ada", "round": "2"}
    )["ArtifactArn"]
    release.lineage.add_association(
        SourceArn=artifact, DestinationArn=release.arn_of(RAW), AssociationType="DerivedFrom"
    )
    release.lineage.update_artifact(ArtifactArn=artifact, PropertiesToRemove=["round"])

    found = release.lineage.query_lineage(
        StartArns=[release.arn_of(MADE)], Direction="Ascendants", Filters={"Properties": {"by": "Ada"}}
    )
    assert found["Vertices"] == [{"Arn": artifact, "Type": "Labels", "LineageType": "Artifact"}]
    described = release.lineage.describe_artifact(ArtifactArn=artifact)
    assert (described["ArtifactName"], described["Properties"]) == ("labels", {"by": "Ada"})


def test_there_is_one_artifact_for_each_source(sagemaker: SageMaker) -> None:
    sagemaker.trained("InProgress")

    with pytest.raises(AWSError) as error:
        sagemaker.lineage.create_artifact(ArtifactType="DataSet", Source={"SourceUri": PREPARED})

    assert error.value.code == "ValidationException"
    assert error.value.message == f"Artifact already exists: {sagemaker.arn_of(PREPARED)}"


def test_what_is_associated_is_not_deleted(release: SageMaker) -> None:
    context = release.lineage.create_context(
        ContextName="project", ContextType="Project", Source={"SourceUri": "https://example.com"}
    )["ContextArn"]
    raw = release.arn_of(RAW)
    release.lineage.add_association(SourceArn=raw, DestinationArn=context)

    with pytest.raises(AWSError) as error:
        release.lineage.delete_context(ContextName="project")
    assert error.value.code == "ValidationException"

    release.lineage.delete_association(SourceArn=raw, DestinationArn=context)
    release.lineage.delete_context(ContextName="project")
    with pytest.raises(AWSError) as error:
        release.lineage.describe_context(ContextName="project")
    assert (error.value.code, error.value.message) == (
        "ResourceNotFound",
        f"Resource '{context}' does not exist.",
    )


def test_an_association_needs_both_its_ends(sagemaker: SageMaker) -> None:
    with pytest.raises(AWSError) as error:
        sagemaker.lineage.add_association(
            SourceArn=f"{ARN}:artifact/none", DestinationArn=f"{ARN}:context/none"
        )

    assert error.value.code == "ResourceNotFound"


def test_a_query_comes_in_pages(release: SageMaker) -> None:
    (endpoint,) = release.lineage.list_contexts(ContextType="Endpoint")["ContextSummaries"]
    start = [endpoint["ContextArn"]]
    whole = release.lineage.query_lineage(StartArns=start, Direction="Ascendants")

    paged, token = [], None
    while True:
        answer = release.lineage.query_lineage(
            StartArns=start, Direction="Ascendants", MaxResults=4, NextToken=token
        )
        paged += answer["Vertices"]
        if (token := answer.get("NextToken")) is None:
            break

    assert paged == whole["Vertices"]
