"""Experiments, trials and trial components, what runs in them measure, and Search over all of it."""

from datetime import UTC, datetime

import pytest
from botocore.exceptions import ClientError

from tests.local.sagemaker.test_jobs import ROLE, Sagemaker


@pytest.fixture(scope="module")
def sagemaker(shared_local):
    return Sagemaker(shared_local)


@pytest.fixture
def client(sagemaker):
    return sagemaker.client


def refused(call, **members):
    with pytest.raises(ClientError) as caught:
        call(**members)
    return caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"]


def experiment(client, name, *trials):
    client.create_experiment(ExperimentName=name, Description="of slopes")
    for trial in trials:
        client.create_trial(TrialName=trial, ExperimentName=name)
    return name


def found(client, resource, *filters, **members):
    expression = {
        "Filters": [dict(zip(("Name", "Operator", "Value"), entry, strict=False)) for entry in filters]
    }
    results = client.search(Resource=resource, SearchExpression=expression, **members)["Results"]
    return [next(iter(record.values())) for record in results]


def test_a_job_comes_into_the_trial_of_its_experiment(sagemaker, client):
    experiment(client, "slopes", "steep", "flat")

    sagemaker.train(
        "steep-one",
        "print('x')",
        ExperimentConfig={
            "ExperimentName": "slopes",
            "TrialName": "steep",
            "TrialComponentDisplayName": "Training",
        },
    )
    sagemaker.trained("steep-one")

    (component,) = client.list_trial_components(TrialName="steep")["TrialComponentSummaries"]
    assert component["TrialComponentName"] == "steep-one-aws-training-job"
    assert component["DisplayName"] == "Training"
    assert component["Status"]["PrimaryStatus"] == "Completed"
    assert component["TrialComponentSource"]["SourceType"] == "SageMakerTrainingJob"
    assert client.list_trial_components(TrialName="flat")["TrialComponentSummaries"] == []
    (trial,) = client.list_trials(TrialComponentName="steep-one-aws-training-job")["TrialSummaries"]
    assert trial["TrialName"] == "steep"
    (known,) = found(client, "ExperimentTrialComponent", ("Parents.ExperimentName", "Equals", "slopes"))
    assert known["Parents"] == [{"ExperimentName": "slopes", "TrialName": "steep"}]


def test_a_job_of_a_trial_that_is_not_there_is_refused(sagemaker):
    code, message = refused(
        sagemaker.train, name="nowhere", text="", ExperimentConfig={"TrialName": "missing"}
    )

    assert (code, message) == ("ResourceNotFound", "Trial 'missing' does not exist.")


def test_what_a_run_measures_is_summarised(sagemaker, client):
    metrics = sagemaker.runtime.client("sagemaker-metrics")
    client.create_trial_component(TrialComponentName="run", Parameters={"lr": {"NumberValue": 0.5}})
    now = datetime.now(UTC)

    for step, value in enumerate((2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0)):
        metrics.batch_put_metrics(
            TrialComponentName="run",
            MetricData=[{"MetricName": "loss", "Timestamp": now, "Step": step, "Value": value}],
        )
    unknown = metrics.batch_put_metrics(
        TrialComponentName="none",
        MetricData=[{"MetricName": "loss", "Timestamp": now, "Value": 1.0}],
    )

    (summary,) = client.describe_trial_component(TrialComponentName="run")["Metrics"]
    assert {name: summary[name] for name in ("Min", "Max", "Last", "Count")} == {
        "Min": 2.0,
        "Max": 9.0,
        "Last": 9.0,
        "Count": 8,
    }
    assert (summary["Avg"], summary["StdDev"]) == (pytest.approx(5.0), pytest.approx(2.0))
    assert unknown["Errors"] == [{"Code": "VALIDATION_ERROR", "MetricIndex": 0}]
    assert [
        entry["TrialComponentName"]
        for entry in found(client, "ExperimentTrialComponent", ("Metrics.loss.Max", "GreaterThan", "8"))
    ] == ["run"]


def test_a_trial_components_parameters_are_added_to_and_removed(client):
    client.create_trial_component(
        TrialComponentName="changed",
        Parameters={"lr": {"NumberValue": 0.5}, "seed": {"NumberValue": 1}},
        InputArtifacts={"data": {"Value": "s3://data/a"}},
    )

    client.update_trial_component(
        TrialComponentName="changed",
        Parameters={"lr": {"NumberValue": 0.25}, "name": {"StringValue": "b"}},
        ParametersToRemove=["seed"],
        Status={"PrimaryStatus": "Completed"},
    )

    described = client.describe_trial_component(TrialComponentName="changed")
    assert described["Parameters"] == {"lr": {"NumberValue": 0.25}, "name": {"StringValue": "b"}}
    assert described["InputArtifacts"] == {"data": {"Value": "s3://data/a"}}
    assert described["Status"] == {"PrimaryStatus": "Completed"}


def test_what_still_holds_something_is_not_deleted(client):
    experiment(client, "full", "held")
    client.create_trial_component(TrialComponentName="within")
    client.associate_trial_component(TrialComponentName="within", TrialName="held")

    kept = [
        refused(client.delete_experiment, ExperimentName="full")[0],
        refused(client.delete_trial, TrialName="held")[0],
        refused(client.delete_trial_component, TrialComponentName="within")[0],
    ]
    client.disassociate_trial_component(TrialComponentName="within", TrialName="held")
    client.delete_trial_component(TrialComponentName="within")
    client.delete_trial(TrialName="held")
    client.delete_experiment(ExperimentName="full")

    assert kept == ["ValidationException"] * 3
    assert refused(client.describe_experiment, ExperimentName="full") == (
        "ResourceNotFound",
        "Experiment 'full' does not exist.",
    )


def test_a_name_is_given_once(client):
    experiment(client, "once", "first")

    again = refused(client.create_experiment, ExperimentName="once")
    trial = refused(client.create_trial, TrialName="first", ExperimentName="once")

    assert again[0] == trial[0] == "ValidationException"
    assert "already exists" in again[1]  # by these words the Python SDK knows it
    assert "already exists" in trial[1]


def test_training_jobs_are_searched_by_what_they_are(sagemaker, client):
    for name, epochs in (("sought-a", "1"), ("sought-b", "2")):
        sagemaker.train(
            name,
            "print('loss=0.5;')",
            hyperparameters={"epochs": epochs},
            algorithm={"MetricDefinitions": [{"Name": "loss", "Regex": "loss=([0-9.]+);"}]},
            Tags=[{"Key": "team", "Value": "sea"}],
        )
        sagemaker.trained(name)

    def names(*filters, **members):
        by_name = ("TrainingJobName", "Contains", "sought-")
        return [job["TrainingJobName"] for job in found(client, "TrainingJob", by_name, *filters, **members)]

    assert names(("HyperParameters.epochs", "Equals", "2")) == ["sought-b"]
    assert names(("HyperParameters.epochs", "NotEquals", "2")) == ["sought-a"]
    assert names(("TrainingJobName", "In", "sought-a,other")) == ["sought-a"]
    assert names(("Tags.team", "Equals", "sea"), SortBy="TrainingJobName") == ["sought-b", "sought-a"]
    assert names(("Metrics.loss", "LessThan", "0.5")) == []
    assert names(("Metrics.loss", "LessThanOrEqualTo", "0.5"), MaxResults=1) == ["sought-b"]
    assert names(("FailureReason", "Exists")) == []
    assert names(("CreationTime", "GreaterThan", "2020-01-01T00:00:00Z"), SortOrder="Ascending") == [
        "sought-a",
        "sought-b",
    ]
    model = client.describe_training_job(TrainingJobName="sought-a")["ModelArtifacts"]["S3ModelArtifacts"]
    (job,) = found(client, "TrainingJob", ("ModelArtifacts.S3ModelArtifacts", "Equals", model))
    assert (job["RoleArn"], job["Tags"]) == (ROLE, [{"Key": "team", "Value": "sea"}])


def test_expressions_are_nested_and_combined(sagemaker, client):
    for name in ("Alpha", "Beta", "Gamma"):
        client.create_model_package_group(ModelPackageGroupName=name)

    def condition(name):
        return {"Name": "ModelPackageGroupName", "Operator": "Equals", "Value": name}

    answer = client.search(
        Resource="ModelPackageGroup",
        SearchExpression={
            "SubExpressions": [{"Filters": [condition("Alpha"), condition("Beta")], "Operator": "Or"}],
            "Filters": [{"Name": "ModelPackageGroupName", "Operator": "NotEquals", "Value": "Beta"}],
        },
    )

    assert [entry["ModelPackageGroup"]["ModelPackageGroupName"] for entry in answer["Results"]] == ["Alpha"]
    assert answer["TotalHits"] == {"Value": 1, "Relation": "EqualTo"}


def test_a_resource_that_is_not_searched_is_refused_by_name(client):
    assert refused(client.search, Resource="FeatureGroup") == (
        "ValidationException",
        "Search: the resource FeatureGroup is not supported by the local runtime",
    )
