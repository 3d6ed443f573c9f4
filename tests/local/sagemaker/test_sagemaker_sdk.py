"""SageMaker's own Python SDK, version 2, as its users have it: only the endpoint is ours."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.filterwarnings("ignore")  # the SDK warns of its own end, and of pandas

BUCKET = "sdk"
ROLE = "arn:aws:iam::111111111111:role/sdk"
ON = {"instance_count": 1, "instance_type": "ml.m5.large"}
CONFIG = f"""\
SchemaVersion: '1.0'
SageMaker:
  PythonSDK:
    Modules:
      TelemetryOptOut: true
      Session:
        DefaultS3Bucket: {BUCKET}
"""
TRAIN = """\
import argparse, json, os
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--slope", type=float)
parser.add_argument("--steps", type=int, default=1)
parser.add_argument("--fails", default="")
options = parser.parse_args()
lines = Path(os.environ["SM_CHANNEL_TRAIN"], "data.csv").read_text().splitlines()
print(f"{len(lines)} lines, {os.environ['GREETING']}")
if options.fails:
    raise ValueError(options.fails)
for step in range(options.steps):
    print(f"loss={abs(options.slope - 3) / (step + 1):.4f};")
Path("/opt/ml/checkpoints/last").write_text(str(options.steps))
Path(os.environ["SM_MODEL_DIR"], "model.json").write_text(json.dumps({"slope": options.slope}))
"""
INFERENCE = """\
import json
from pathlib import Path
import numpy as np

def model_fn(model_dir):
    return json.loads(Path(model_dir, "model.json").read_text())["slope"]

def predict_fn(data, model):
    return np.asarray(data) * model
"""
PROCESS = """\
import sys
from pathlib import Path
from helper import shout

text = Path("/opt/ml/processing/input/raw/data.csv").read_text()
Path("/opt/ml/processing/output/shouted.txt").write_text(shout(text) + " ".join(sys.argv[1:]))
print("processed")
"""


@pytest.fixture(scope="module")
def sdk(shared_local, tmp_path_factory):
    """A session of the SDK, as a shell with these variables has it. It looks only every 5 to 30 seconds
    whether a job or an endpoint is ready; here it looks sooner. It holds its configuration against a schema
    for each value that it looks up, 0.2 s each; here only when it reads it."""
    folder = tmp_path_factory.mktemp("sdk")
    (folder / "config.yaml").write_text(CONFIG)
    sleep = time.sleep
    with pytest.MonkeyPatch.context() as patch:
        for name, value in shared_local.environment.items():
            patch.setenv(name, value)
        patch.setenv("SAGEMAKER_USER_CONFIG_OVERRIDE", str(folder / "config.yaml"))
        patch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.2)))
        import sagemaker

        patch.setattr("sagemaker.utils.validate_sagemaker_config", lambda config: None)
        yield sagemaker.Session()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    (folder / "train.py").write_text(TRAIN)
    (folder / "inference.py").write_text(INFERENCE)
    (folder / "process.py").write_text(PROCESS)
    (folder / "helper.py").write_text("def shout(text):\n    return text.upper()\n")
    return folder


@pytest.fixture(scope="module")
def data(sdk, tmp_path_factory):
    file = tmp_path_factory.mktemp("data") / "data.csv"
    file.write_text("a,1\nb,2\n")
    return sdk.upload_data(str(file), key_prefix="data")


def estimator(sdk, source, **members):
    from sagemaker.pytorch import PyTorch

    given = {
        "hyperparameters": {"slope": 2.5, "steps": 2},
        "metric_definitions": [{"Name": "loss", "Regex": r"loss=([0-9.]+);"}],
        "environment": {"GREETING": "good morning"},
        "checkpoint_s3_uri": f"s3://{BUCKET}/checkpoints",
        **members,
    }
    return PyTorch(
        entry_point="train.py",
        source_dir=str(source),
        role=ROLE,
        framework_version="2.3",
        py_version="py311",
        sagemaker_session=sdk,
        **ON,
        **given,
    )


@pytest.fixture(scope="module")
def trained(sdk, source, data):
    """An estimator whose job has completed."""
    fitted = estimator(sdk, source)
    fitted.fit({"train": data}, logs=False)
    return fitted


def test_the_session_knows_its_bucket(sdk, data):
    assert sdk.default_bucket() == BUCKET
    assert data == f"s3://{BUCKET}/data/data.csv"
    assert sdk.read_s3_file(BUCKET, "data/data.csv") == "a,1\nb,2\n"


def test_an_estimator_fits_and_shows_its_log(sdk, source, data, capsys):
    fitted = estimator(sdk, source, use_spot_instances=True, max_run=300, max_wait=600)

    fitted.fit({"train": data}, logs=False)
    fitted.logs()

    shown = capsys.readouterr().out
    assert "2 lines, good morning" in shown
    assert "loss=0.2500;" in shown
    assert "Training seconds: " in shown
    assert "Managed Spot Training savings: " in shown
    assert fitted.model_data == f"s3://{BUCKET}/{fitted.latest_training_job.name}/output/model.tar.gz"
    assert sdk.read_s3_file(BUCKET, "checkpoints/last") == "2"
    metrics = fitted.training_job_analytics.dataframe()
    assert list(metrics["metric_name"]) == ["loss"]
    assert metrics["value"][0] == pytest.approx(0.375)


def test_a_script_that_fails_raises_with_its_reason(sdk, source, data):
    from sagemaker.exceptions import UnexpectedStatusException

    failing = estimator(sdk, source, hyperparameters={"slope": 1, "fails": "no labels in the data"})

    with pytest.raises(UnexpectedStatusException) as error:
        failing.fit({"train": data}, logs=False)

    assert error.value.actual_status == "Failed"
    assert "ValueError: no labels in the data" in str(error.value)
    assert "/miniconda3/bin/python" not in str(error.value)


def test_a_trained_model_is_deployed_and_answers_in_each_form(sdk, source, trained, tmp_path):
    import numpy as np
    from sagemaker.deserializers import CSVDeserializer, JSONDeserializer, NumpyDeserializer
    from sagemaker.model_monitor import DataCaptureConfig
    from sagemaker.s3 import S3Downloader
    from sagemaker.serializers import CSVSerializer, JSONSerializer, NumpySerializer

    captured = f"s3://{BUCKET}/captured"
    predictor = trained.deploy(
        initial_instance_count=1,
        instance_type="ml.m5.large",
        entry_point="inference.py",
        source_dir=str(source),
        serializer=NumpySerializer(),
        deserializer=NumpyDeserializer(),
        data_capture_config=DataCaptureConfig(
            enable_capture=True, sampling_percentage=100, destination_s3_uri=captured, sagemaker_session=sdk
        ),
    )
    answer = predictor.predict(np.array([[1.0, 2.0]]))
    predictor.serializer, predictor.deserializer = JSONSerializer(), JSONDeserializer()
    as_json = predictor.predict([[1, 2]])
    predictor.serializer, predictor.deserializer = CSVSerializer(), CSVDeserializer()
    as_csv = predictor.predict([[1, 2]])

    assert answer.tolist() == [[2.5, 5.0]]
    assert as_json == [[2.5, 5.0]]
    assert as_csv == [["2.5"], ["5.0"]]  # the toolkit reads one line of CSV as a vector
    deadline = time.monotonic() + 30
    while not (files := S3Downloader.list(captured, sagemaker_session=sdk)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    records = [json.loads(line) for line in sdk_read(sdk, files[0]).splitlines()]
    assert {record["captureData"]["endpointInput"]["observedContentType"] for record in records} <= {
        *("application/x-npy", "application/json", "text/csv")
    }
    predictor.delete_model()
    predictor.delete_endpoint()
    sdk.boto_session.client("sagemaker").get_waiter("endpoint_deleted").wait(
        EndpointName=predictor.endpoint_name, WaiterConfig={"Delay": 0.2, "MaxAttempts": 100}
    )


def sdk_read(sdk, uri):
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return sdk.read_s3_file(bucket, key)


def test_a_processor_runs_a_folder_of_source(sdk, source, data, capsys):
    from sagemaker.processing import ProcessingInput, ProcessingOutput
    from sagemaker.pytorch import PyTorchProcessor

    processor = PyTorchProcessor(
        framework_version="2.3", py_version="py311", role=ROLE, sagemaker_session=sdk, **ON
    )
    raw = ProcessingInput(source=data, destination="/opt/ml/processing/input/raw")
    out = ProcessingOutput(
        output_name="out", source="/opt/ml/processing/output", destination=f"s3://{BUCKET}/processed"
    )
    processor.run(
        code="process.py",
        source_dir=str(source),
        inputs=[raw],
        outputs=[out],
        arguments=["--loud", "yes"],
        logs=False,
    )
    processor.latest_job.wait(logs=True)

    assert sdk.read_s3_file(BUCKET, "processed/shouted.txt") == "A,1\nB,2\n--loud yes"
    assert "processed" in capsys.readouterr().out


def test_a_script_processor_runs_one_script(sdk, tmp_path, data):
    from sagemaker.processing import ProcessingOutput
    from sagemaker.sklearn import SKLearnProcessor

    script = tmp_path / "script.py"
    script.write_text("open('/opt/ml/processing/output/made', 'w').write('by a script')")
    processor = SKLearnProcessor(framework_version="1.2-1", role=ROLE, sagemaker_session=sdk, **ON)
    out = ProcessingOutput(source="/opt/ml/processing/output", destination=f"s3://{BUCKET}/made")

    processor.run(code=str(script), outputs=[out], logs=False)

    assert sdk.read_s3_file(BUCKET, "made/made") == "by a script"


def test_a_model_is_registered_approved_and_deployed_as_a_package(sdk, trained, source):
    from sagemaker import ModelPackage
    from sagemaker.deserializers import JSONDeserializer
    from sagemaker.model_metrics import MetricsSource, ModelMetrics
    from sagemaker.predictor import Predictor
    from sagemaker.pytorch import PyTorchModel
    from sagemaker.serializers import JSONSerializer

    model = PyTorchModel(
        model_data=trained.model_data,
        role=ROLE,
        entry_point="inference.py",
        source_dir=str(source),
        framework_version="2.3",
        py_version="py311",
        sagemaker_session=sdk,
    )
    statistics = MetricsSource(content_type="application/json", s3_uri=f"s3://{BUCKET}/evaluation.json")
    package = model.register(
        content_types=["application/json"],
        response_types=["application/json"],
        inference_instances=["ml.m5.large"],
        model_package_group_name="slopes",
        approval_status="PendingManualApproval",
        model_metrics=ModelMetrics(model_statistics=statistics),
        customer_metadata_properties={"commit": "c0ffee"},
        description="A slope",
    )
    package.update_approval_status("Approved")
    registered = sdk.sagemaker_client.describe_model_package(ModelPackageName=package.model_package_arn)
    ModelPackage(role=ROLE, model_package_arn=package.model_package_arn, sagemaker_session=sdk).deploy(
        1, "ml.m5.large", endpoint_name="slope"
    )
    predictor = Predictor("slope", sdk, JSONSerializer(), JSONDeserializer())

    assert predictor.predict([2, 4]) == [5.0, 10.0]
    model.create(instance_type="ml.m5.large")
    predictor.update_endpoint(model_name=model.name, initial_instance_count=1, instance_type="ml.m5.large")
    serving = sdk.sagemaker_client.describe_endpoint(EndpointName="slope")["EndpointConfigName"]
    config = sdk.sagemaker_client.describe_endpoint_config(EndpointConfigName=serving)
    assert [entry["ModelName"] for entry in config["ProductionVariants"]] == [model.name]
    assert predictor.predict([2, 4]) == [5.0, 10.0]
    assert (registered["ModelApprovalStatus"], registered["ModelPackageVersion"]) == ("Approved", 1)
    assert registered["ModelMetrics"]["ModelQuality"]["Statistics"]["S3Uri"].endswith("evaluation.json")
    assert registered["CustomerMetadataProperties"] == {"commit": "c0ffee"}


def test_an_attached_estimator_registers_its_model(sdk, source, trained):
    from sagemaker.pytorch import PyTorch

    attached = PyTorch.attach(trained.latest_training_job.name, sagemaker_session=sdk)
    package = attached.register(
        content_types=["application/json"],
        response_types=["application/json"],
        inference_instances=["ml.m5.large"],
        transform_instances=["ml.m5.large"],
        model_package_group_name="attached",
        entry_point="inference.py",
        source_dir=str(source),
    )

    assert attached.hyperparameters()["slope"] == "2.5"
    assert package.model_package_arn.endswith(":model-package/attached/1")
    assert sdk.wait_for_model_package(package.model_package_arn)["ModelPackageStatus"] == "Completed"


def test_what_runs_inside_an_experiments_run_is_found_there(sdk, source, data):
    from sagemaker.analytics import ExperimentAnalytics
    from sagemaker.experiments.run import Run, load_run

    with Run(experiment_name="slopes", run_name="first", sagemaker_session=sdk) as run:
        run.log_parameter("rate", 0.5)
        run.log_metric("error", 2.0, step=0)
        run.log_metric("error", 1.0, step=1)
        fitted = estimator(sdk, source)
        fitted.fit({"train": data}, logs=False)
    with load_run(experiment_name="slopes", run_name="first", sagemaker_session=sdk) as loaded:
        loaded.log_parameter("more", "later")
    table = ExperimentAnalytics(experiment_name="slopes", sagemaker_session=sdk).dataframe()
    rows = table.set_index("TrialComponentName")

    assert sorted(rows.index) == [f"{fitted.latest_training_job.name}-aws-training-job", "slopes-first"]
    logged = rows.loc["slopes-first"]
    assert (logged["rate"], logged["more"], logged["error - Min"], logged["error - Last"]) == (
        *(0.5, "later", 1.0, 1.0),
    )


def test_the_lineage_of_a_model_is_asked_for(sdk, trained, data):
    from sagemaker.lineage.artifact import ModelArtifact
    from sagemaker.lineage.visualizer import LineageTableVisualizer

    (summary,) = ModelArtifact.list(source_uri=trained.model_data, sagemaker_session=sdk)
    model = ModelArtifact.load(summary.artifact_arn, sagemaker_session=sdk)
    sources = [artifact.source.source_uri for artifact in model.dataset_artifacts()]
    table = LineageTableVisualizer(sdk).show(training_job_name=trained.latest_training_job.name)

    assert sources == [data]
    assert list(table["Type"]) == ["DataSet", "Image", "Checkpoint", "Model"]


@pytest.mark.slow
def test_the_log_of_a_job_is_followed_while_it_runs(sdk, source, data, capsys):
    fitted = estimator(sdk, source, hyperparameters={"slope": 2, "steps": 1})

    fitted.fit({"train": data})  # with the log, the SDK looks every 30 s whether the job has ended
    sdk.logs_for_job(fitted.latest_training_job.name, wait=True)

    assert capsys.readouterr().out.count("2 lines, good morning") == 2


def test_boto3s_waiters_end(sdk, trained):
    client = sdk.sagemaker_client
    quick = {"Delay": 0.2, "MaxAttempts": 100}
    client.get_waiter("training_job_completed_or_stopped").wait(
        TrainingJobName=trained.latest_training_job.name, WaiterConfig=quick
    )
    job = client.list_processing_jobs(MaxResults=1)["ProcessingJobSummaries"]
    for summary in job:
        client.get_waiter("processing_job_completed_or_stopped").wait(
            ProcessingJobName=summary["ProcessingJobName"], WaiterConfig=quick
        )


def test_the_aws_cli_shows_jobs_and_their_logs(sdk, shared_local, trained):
    aws = Path(sys.executable).parent / "aws"

    def run(*arguments):
        done = subprocess.run(
            [str(aws), *arguments], env=shared_local.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    name = trained.latest_training_job.name
    run("sagemaker", "wait", "training-job-completed-or-stopped", "--training-job-name", name)
    described = json.loads(
        run("sagemaker", "describe-training-job", "--training-job-name", name, "--output", "json")
    )
    shown = run(
        *("logs", "filter-log-events", "--log-group-name", "/aws/sagemaker/TrainingJobs"),
        *("--log-stream-name-prefix", name, "--output", "text"),
    )

    assert described["TrainingJobStatus"] == "Completed"
    assert "2 lines, good morning" in shown


def test_a_tuner_fits_and_its_best_estimator_is_the_best(sdk, source, data):
    from sagemaker.tuner import CategoricalParameter, ContinuousParameter, HyperparameterTuner

    tuner = HyperparameterTuner(
        estimator(sdk, source, hyperparameters={"slope": 2.5}),
        objective_metric_name="loss",
        objective_type="Minimize",
        metric_definitions=[{"Name": "loss", "Regex": r"loss=([0-9.]+);"}],
        hyperparameter_ranges={"slope": ContinuousParameter(0, 6), "steps": CategoricalParameter([1, 2])},
        strategy="Random",
        max_jobs=3,
        max_parallel_jobs=3,
        random_seed=1,
    )
    tuner.fit({"train": data}, job_name="tuned-by-the-sdk")

    found = tuner.analytics().dataframe()
    best = found.sort_values("FinalObjectiveValue").iloc[0]
    assert set(found["TrainingJobStatus"]) == {"Completed"}
    assert tuner.best_training_job() == best["TrainingJobName"]
    assert float(tuner.best_estimator().hyperparameters()["slope"].strip('"')) == pytest.approx(best["slope"])
