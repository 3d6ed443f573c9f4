"""The SageMaker jobs of model-build: each a `.sync` task, and what follows when it does not complete.

A job's name holds the attempt and the number of redrives, since SageMaker never takes a name twice.
"""

import functools

import boto3
from sagemaker import Session
from sagemaker.estimator import Estimator
from sagemaker.inputs import TrainingInput
from sagemaker.processing import ProcessingInput, ProcessingOutput, Processor
from stepfunctions.steps import Chain, ChoiceRule, Fail, Pass, ProcessingStep, Retry, TrainingStep
from stepfunctions.steps.states import State

from workflows.config import (
    PREPROCESS,
    PROCESSING_SECONDS,
    SPOT_WAIT_SECONDS,
    TRAINING_SECONDS,
    Config,
    metric_definitions,
)
from workflows.language import Expression, caught, chosen, concatenated, failed, is_any, with_fields

CODE = "/opt/ml/processing/input/code"
DATA = "/opt/ml/processing/input/data"
MODEL = "/opt/ml/processing/input/model"
OUTPUT = "/opt/ml/processing/output"
NAMED = ("$.Run.RunId", "$.Attempt.Number", "$$.Execution.RedriveCount", "$$.State.RetryCount")
INTERNAL_ERRORS = 3
"""Of a run, until an error inside SageMaker, or a lack of machines, that ends a job ends the run too."""


def preprocess(config: Config) -> Chain:
    """The dataset's zip becomes a training, a validation and a test set, and a manifest."""
    options = ", ".join(f"'--{option}', $.Preprocess['{option}']" for option in PREPROCESS)
    step = ProcessingStep(
        "Preprocess",
        processor=_processor(config),
        job_name=concatenated("{}-preprocess-{}-{}-{}", *NAMED),
        inputs=[
            _code(),
            _input("data", Expression("$.Run.DatasetUri"), DATA),
        ],
        outputs=[
            _output(name, f"{OUTPUT}/{name}", f"preprocessed/{name}")
            for name in ("train", "validation", "test", "manifest")
        ],
        container_entrypoint=["python3", "-m", "training.preprocess"],
        container_arguments=Expression(
            f"States.Array('--input', '{DATA}', '--output', '{OUTPUT}', {options})"
        ),
        result_path="$.Preprocessing",
    )
    return _with_failures(step, job="Preprocessing", result="$.Preprocessing", status="ProcessingJobStatus")


def train(config: Config) -> Chain:
    """Train on spot capacity, going on from the checkpoint where a machine was taken away."""
    step = TrainingStep(
        "Train",
        estimator=Estimator(
            image_uri=config.training_image,
            role=config.job_role,
            instance_count=1,
            instance_type="ml.m5.xlarge",  # the SDK wants one that it knows; it is replaced below
            output_path=f"s3://{config.data_bucket}",  # and this, or it asks AWS for a default
            max_run=TRAINING_SECONDS,
            max_wait=SPOT_WAIT_SECONDS,
            use_spot_instances=True,
            debugger_hook_config=False,
            disable_profiler=True,
            metric_definitions=metric_definitions(),
            sagemaker_session=_session(),
        ),
        job_name=concatenated("{}-train-{}-{}-{}", *NAMED),
        data={
            channel: TrainingInput(
                concatenated(f"{{}}/{channel}", "$.Preprocessing.Folder"), input_mode="File"
            )
            for channel in ("train", "validation")
        },
        hyperparameters=Expression("States.JsonMerge($.Run.HyperParameters, $.Script, false)"),
        output_data_config_path=concatenated("{}/training", "$.Folder"),
        result_path="$.Training",
        parameters={
            "ResourceConfig": {"InstanceType": config.training_instance},
            # The checkpoints belong to the run and not to the job, so that the next attempt finds them.
            "CheckpointConfig": {
                "LocalPath": "/opt/ml/checkpoints",
                "S3Uri": concatenated("{}/checkpoints", "$.Folder"),
            },
        },
    )
    return _with_failures(step, job="Training", result="$.Training", status="TrainingJobStatus")


def evaluate(config: Config) -> Chain:
    """Judge the very model that would be deployed, on the test set."""
    step = ProcessingStep(
        "Evaluate",
        processor=_processor(config),
        job_name=concatenated("{}-evaluate-{}-{}-{}", *NAMED),
        inputs=[
            _code(),
            _input("model", Expression("$.Training.ModelArtifacts.S3ModelArtifacts"), MODEL),
            _input("test", concatenated("{}/test", "$.Preprocessing.Folder"), f"{DATA}/test"),
            _input("manifest", concatenated("{}/manifest", "$.Preprocessing.Folder"), f"{DATA}/manifest"),
        ],
        outputs=[_output("evaluation", f"{OUTPUT}/evaluation", "evaluation")],
        container_entrypoint=["python3", "-m", "evaluation.evaluate"],
        container_arguments=[
            *("--model", MODEL),
            *("--test", f"{DATA}/test"),
            *("--manifest", f"{DATA}/manifest/manifest.json"),
            *("--output", f"{OUTPUT}/evaluation"),
        ],
        result_path="$.EvaluationJob",
    )
    return _with_failures(step, job="Evaluation", result="$.EvaluationJob", status="ProcessingJobStatus")


def _with_failures(step: State, *, job: str, result: str, status: str) -> Chain:
    """The job, the check that it completed, and an end for each way in which it did not.

    A stopped job (by a person, a time limit, a lack of spot capacity) may come as a result or as an error:
    it is neither, and ends the run as what it is.
    """
    for retry in _api_retries():
        step.add_retry(retry)
    again = Pass(
        f"{job}Again",
        parameters={"Number": Expression("States.MathAdd($.Attempt.Number, 1)")},
        result_path="$.Attempt",
    )
    again.next(step)
    kind = status.removesuffix("Status")
    stopped = failed(
        f"{job}Stopped",
        error=f"{job}Stopped",
        cause=f"{job} job {{}} ended as {{}} before it was done.",
        paths=(f"$.Failure.Job.{kind}Name", f"$.Failure.Job.{status}"),
    )
    step.add_catch(caught(_failure(job, status, stopped, again)))
    incomplete = Pass(f"{job}Incomplete", parameters={"Job": Expression(result)}, result_path="$.Failure")
    incomplete.next(stopped)
    is_incomplete = ChoiceRule.Not(ChoiceRule.StringEquals(f"{result}.{status}", "Completed"))
    return Chain([step, chosen(f"{job}Completed", [(is_incomplete, incomplete)])])


def _failure(job: str, status: str, stopped: Fail, again: State) -> State:
    """What an error of the task was: the job's end, with its description, or that it never began."""
    kind = status.removesuffix("Status")
    job_failed = failed(
        f"{job}Failed",
        error=f"{job}Failed",
        cause=f"{job} job {{}} failed: {{}}",
        paths=(f"$.Failure.Job.{kind}Name", "$.Failure.Job.FailureReason"),
    )
    ended = chosen(
        f"{job}Ended",
        [(ChoiceRule.StringEquals(f"$.Failure.Job.{status}", "Stopped"), stopped)],
        default=job_failed,
    )
    read = Pass(
        f"Read{job}Failure",
        parameters={"Job": Expression("States.StringToJson($.Failure.Cause)")},
        result_path="$.Failure",
    )
    read.next(ended)
    not_started = failed(
        f"{job}NotStarted",
        error=f"{job}NotStarted",
        cause=f"The {job.lower()} job could not be run: {{}}: {{}}",
        paths=("$.Failure.Error", "$.Failure.Cause"),
    )
    not_ours = is_any("$.Failure.Cause", ("*InternalServerError*", "*CapacityError*"))
    left = ChoiceRule.NumericLessThan("$.Attempt.Number", INTERNAL_ERRORS - 1)
    has_ended = ChoiceRule.StringMatches("$.Failure.Cause", f'*"{status}":"*')
    return chosen(
        f"{job}Failure",
        [(ChoiceRule.And([not_ours, left]), again), (has_ended, read)],
        default=not_started,
    )


def _api_retries() -> list[Retry]:
    """Ask again, soon where SageMaker was asked too often or was not there, for hours where others have the
    machines that the account may have.

    An answer that got lost leaves a job that nobody waits for: it makes what its successor makes.
    """
    limit = Retry(
        error_equals=["SageMaker.ResourceLimitExceededException"],
        interval_seconds=30,
        max_attempts=20,
        backoff_rate=1.5,
    )
    throttling = Retry(
        error_equals=[
            "SageMaker.AmazonSageMakerException",
            "SageMaker.ThrottlingException",
            "SageMaker.SdkClientException",
        ],
        interval_seconds=3,
        max_attempts=4,
        backoff_rate=2.0,
    )
    return [
        with_fields(limit, max_delay_seconds=600, jitter_strategy="FULL"),
        with_fields(throttling, max_delay_seconds=60, jitter_strategy="FULL"),
    ]


def _processor(config: Config) -> Processor:
    return Processor(
        role=config.job_role,
        image_uri=config.processing_image,
        instance_count=1,
        instance_type=config.processing_instance,
        max_runtime_in_seconds=PROCESSING_SECONDS,
        env={"PYTHONPATH": CODE},
        sagemaker_session=_session(),
    )


def _code() -> ProcessingInput:
    return _input("code", concatenated("{}/source/", "$.Run.CodeUri"), CODE)


def _input(name: str, source: Expression, destination: str) -> ProcessingInput:
    return ProcessingInput(input_name=name, source=source, destination=destination)


def _output(name: str, source: str, folder: str) -> ProcessingOutput:
    return ProcessingOutput(
        output_name=name, source=source, destination=concatenated(f"{{}}/{folder}", "$.Folder")
    )


@functools.cache
def _session() -> Session:
    """A session that never speaks to AWS: the SDK's classes want one before they render anything."""
    session = Session(
        boto_session=boto3.Session(
            aws_access_key_id="none",
            aws_secret_access_key="none",  # noqa: S106
            region_name="us-east-1",
        ),
        sagemaker_config={"SchemaVersion": "1.0"},  # given, so that nobody's own defaults are read
    )
    session.sagemaker_config = {}  # and empty, so that it isn't validated at each of its 30 lookups
    return session
