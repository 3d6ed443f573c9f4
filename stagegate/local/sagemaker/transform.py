"""SageMaker's batch transform jobs, as operations; `transform_run.py` runs them.

https://docs.aws.amazon.com/sagemaker/latest/dg/batch-transform.html
"""

from datetime import UTC, datetime
from typing import Any

from stagegate.local import s3
from stagegate.local.sagemaker.channels import check_exists
from stagegate.local.sagemaker.experiments import check_experiment
from stagegate.local.sagemaker.job_run import Kind
from stagegate.local.sagemaker.job_service import JobService
from stagegate.local.sagemaker.multi_model import is_multi_model
from stagegate.local.sagemaker.pipeline import containers_of
from stagegate.local.sagemaker.resources import MODEL, Document, check_name, invalid, refuse
from stagegate.local.sagemaker.transform_records import CSV, JSON, JSON_LINES
from stagegate.local.sagemaker.transform_run import TRANSFORM, TransformRun, processing_of

_SUMMARY = (
    *("TransformJobName", "TransformJobArn", "CreationTime", "TransformEndTime", "LastModifiedTime"),
    *("TransformJobStatus", "FailureReason"),
)
_MOST_MEGABYTES = 100


class TransformJobs(JobService):
    """Batch transform jobs."""

    kinds = (TRANSFORM,)

    def new_run(self, kind: Kind, name: str) -> TransformRun:
        return TransformRun(self.runtime, name, turns=self.turns)

    async def create_transform_job(
        self,
        *,
        TransformJobName: str,
        ModelName: str,
        TransformInput: Document,
        TransformOutput: Document,
        TransformResources: Document,
        DataCaptureConfig: Document | None = None,
        Tags: list[dict[str, str]] | None = None,
        **given: Any,
    ) -> Document:
        check_name(TransformJobName, member="transformJobName")
        refuse([("DataCaptureConfig", DataCaptureConfig)], operation="CreateTransformJob")
        model = self.runtime.store.get(MODEL, ModelName)
        if model is None:
            arn = self.runtime.arn("sagemaker", f"model/{ModelName}")
            raise invalid(f'Could not find model "{arn}".')
        refuse(
            [
                ("a model with Mode MultiModel", is_multi_model(model["Resolved"])),
                ("a model of several containers", containers_of(model["Resolved"])),
            ],
            operation="CreateTransformJob",
        )
        now = datetime.now(UTC)
        document: Document = {
            "TransformJobName": TransformJobName,
            "TransformJobArn": self.runtime.arn("sagemaker", f"transform-job/{TransformJobName}"),
            "TransformJobStatus": "InProgress",
            "ModelName": ModelName,
            "TransformInput": {"CompressionType": "None", "SplitType": "None", **TransformInput},
            "TransformOutput": {"AssembleWith": "None", "KmsKeyId": "", **TransformOutput},
            "TransformResources": TransformResources,
            **given,
            "CreationTime": now,
            "LastModifiedTime": now,
            "_Container": model["Resolved"],
            "_RoleArn": model.get("ExecutionRoleArn"),
        }
        _check_payload(document)
        _check_processing(document)
        source = TransformInput["DataSource"]["S3DataSource"]
        if source["S3DataType"] not in ("S3Prefix", "ManifestFile"):
            raise invalid(
                f"CreateTransformJob: S3DataType {source['S3DataType']} is not supported by the local runtime"
            )
        s3.split_uri(TransformOutput["S3OutputPath"])
        await check_exists(self.runtime.aws, source["S3Uri"])
        await check_experiment(self.runtime.aws, given.get("ExperimentConfig"))
        return self.created(TRANSFORM, document, Tags)

    def describe_transform_job(self, *, TransformJobName: str) -> Document:
        document = self.described(TRANSFORM, TransformJobName)
        return {member: value for member, value in document.items() if member[0] != "_"}

    def list_transform_jobs(self, **filters: Any) -> Document:
        return self.listed(TRANSFORM, _SUMMARY, **filters)

    def stop_transform_job(self, *, TransformJobName: str) -> Document:
        return self.stopped(TRANSFORM, TransformJobName)


def _check_payload(job: Document) -> None:
    megabytes, at_once = job.get("MaxPayloadInMB"), job.get("MaxConcurrentTransforms")
    if megabytes is None:
        return
    if megabytes > _MOST_MEGABYTES:
        raise invalid(f"MaxPayloadInMB cannot be greater than {_MOST_MEGABYTES}: {megabytes}")
    if megabytes * (at_once or 1) > _MOST_MEGABYTES:
        raise invalid(
            f"MaxConcurrentTransforms * MaxPayloadInMB cannot exceed {_MOST_MEGABYTES}: "
            f"{at_once} * {megabytes}"
        )


def _check_processing(job: Document) -> None:
    """Filters and joins need formats that can be taken apart, and split as AWS's table has it."""
    if not job.get("DataProcessing"):
        return
    try:
        processing = processing_of(job)
    except ValueError as error:
        raise invalid(f"The filters of DataProcessing must be JSONPaths: {error}") from error
    for member, kind in (("ContentType", processing.input_type), ("Accept", processing.output_type)):
        if kind not in (CSV, JSON, JSON_LINES):
            raise invalid(f"DataProcessing needs a {member} of {CSV}, {JSON} or {JSON_LINES}, not '{kind}'")
    split = job["TransformInput"]["SplitType"]
    if split != ("None" if processing.input_type == JSON else "Line"):
        raise invalid(f"DataProcessing does not go with SplitType {split} for {processing.input_type}")
    if processing.joins and (processing.input_type == CSV) != (processing.output_type == CSV):
        raise invalid(f"JoinSource Input cannot join {processing.input_type} with {processing.output_type}")
