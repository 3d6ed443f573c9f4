"""What a release leaves in AWS, put there directly: the pages are shown it without any job that runs."""

import base64
import io
import json
import tarfile
from datetime import timedelta
from typing import Any

import numpy as np
from PIL import Image

from stagegate.aws import Services
from stagegate.deployment import Platform

HOSTILE = "<script>alert(1)</script>"
CLASSES = ("buildings", "forest", "glacier", "mountain", "sea", "street")
HARDER = (0, -3, -6, 1, -1, -9)
"""By class, by how many of a hundred images it differs from the others in what the model tells right."""


def evaluation(*, right: int = 90, classes: tuple[str, ...] = CLASSES) -> dict[str, Any]:
    """Of 100 images of each class about so many are told right; others are taken for the next two classes."""
    matrix: dict[str, dict[str, int]] = {}
    for place, actual in enumerate(classes):
        wrong = 100 - right - HARDER[place]
        following = [classes[(place + step) % len(classes)] for step in (1, 2)]
        row = {actual: 100 - wrong, following[0]: wrong - wrong // 3, following[1]: wrong // 3}
        matrix[actual] = {predicted: row.get(predicted, 0) for predicted in classes}
    share = sum(row[name] for name, row in matrix.items()) / (100 * len(classes))
    return {
        "multiclass_classification_metrics": {
            "confusion_matrix": matrix,
            "accuracy": {"value": share, "standard_deviation": 0.01},
            "weighted_f1": {"value": share, "standard_deviation": 0.01},
        },
        "per_class": {
            name: {"precision": share, "recall": row[name] / 100, "f1": share, "support": 100}
            for name, row in matrix.items()
        },
        "classes": list(classes),
        "dataset": {"sha256": "ab" * 32, "source": "scenes.zip", "item_count": 100 * len(classes)},
        "model": {"arch": "resnet18", "epochs": 8},
    }


def predictions() -> bytes:
    """Twenty images of each sureness from 45 to 95 %, of which it was right a twentieth less often."""
    sureness = np.repeat(np.arange(0.45, 1.0, 0.1), 20)
    is_right = np.tile(np.arange(20), 6) < np.round((sureness - 0.05) * 20)
    others = (1 - sureness) / (len(CLASSES) - 1)
    probabilities = np.stack([sureness, *[others] * (len(CLASSES) - 1)], axis=1)
    content = io.BytesIO()
    np.savez_compressed(
        content,
        probabilities=probabilities.astype(np.float32),
        labels=np.where(is_right, 0, 1).astype(np.int64),
        predicted=np.zeros(120, dtype=np.int64),
        classes=np.array(CLASSES),
    )
    return content.getvalue()


def picture(colour: str = "#3b7d4f") -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (48, 48), colour).save(content, "JPEG")
    return content.getvalue()


def report() -> bytes:
    """As evaluation writes it, and as somebody who can write to the bucket would have it."""
    figures = [
        f'<figure><img src="data:image/jpeg;base64,{base64.b64encode(picture(colour)).decode()}" '
        f'alt="{actual}" title="{actual}/12.jpg"><figcaption>{actual}<br><span>→</span>'
        f'<span class="wrong">{said}</span> <span class="quiet">97%</span></figcaption></figure>'
        for actual, said, colour in (
            *(
                ("forest", "glacier", "#3b7d4f"),
                ("glacier", "sea", "#9fc5d8"),
                ("street", "buildings", "#8a8478"),
            ),
            *(("mountain", "glacier", "#7d7a92"), ("sea", "glacier", "#2f6f9f")),
        )
    ]
    return f"""<!doctype html><title>Report</title><style>h1 {{ color: rgb(1, 2, 3) }}</style>
<h1>Report</h1><script>document.title = "owned"</script><img src=x onerror="document.title = 'owned'">
{"".join(figures)}
<figure><img src="https://evil.example.com/x.png" alt="sea"><figcaption>sea → street</figcaption></figure>
<figure><img src="data:image/svg+xml;base64,AAAA" alt="sea"><figcaption>sea → street</figcaption></figure>
""".encode()


def put_evaluation(services: Services, platform: Platform, prefix: str, content: dict[str, Any]) -> None:
    files = {
        "evaluation.json": json.dumps(content).encode(),
        "predictions.npz": predictions(),
        "report.html": report(),
    }
    for name, body in files.items():
        services("s3").put_object(Bucket=platform.data_bucket, Key=f"{prefix}/{name}", Body=body)


def register(
    services: Services,
    platform: Platform,
    prefix: str,
    *,
    group: str | None = None,
    status: str = "PendingManualApproval",
    **properties: str,
) -> str:
    """A version of the group, as model-build registers it; gives its ARN."""
    package: str = services("sagemaker").create_model_package(
        ModelPackageGroupName=group or platform.model_package_group,
        ModelApprovalStatus=status,
        InferenceSpecification={
            "Containers": [
                {"Image": "x", "ModelDataUrl": f"s3://{platform.data_bucket}/{prefix}/training/model.tar.gz"}
            ],
            "SupportedContentTypes": ["image/jpeg"],
            "SupportedResponseMIMETypes": ["application/json"],
        },
        CustomerMetadataProperties={"EvaluationPrefix": prefix} | properties,
    )["ModelPackageArn"]
    return package


INFERENCE = b"""
import json

def model_fn(folder):
    return None

def input_fn(body, content_type):
    return body

def predict_fn(body, model):
    other = "<i>forest</i>" if body.startswith(b"hostile") else "glacier"
    return {"predictions": [{"class": "sea", "probabilities": {"sea": 0.9, other: 0.1}}]}

def output_fn(prediction, accept):
    return json.dumps(prediction)
"""
"""Handlers that say of every picture that it is the sea."""


def serve(services: Services, platform: Platform, stage: str, package: str) -> str:
    """An endpoint of the package, as the stage's stack makes it; gives its name, while it is created."""
    name = f"stagegate-{stage}"
    sagemaker = services("sagemaker")
    role = f"arn:aws:iam::{services.account()}:role/stagegate-endpoints"
    sagemaker.create_model(
        ModelName=name, PrimaryContainer={"ModelPackageName": package}, ExecutionRoleArn=role
    )
    variant = {"VariantName": "AllTraffic", "ModelName": name, "InstanceType": "ml.m5.large"}
    sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[variant | {"InitialInstanceCount": 1, "InitialVariantWeight": 1}],
    )
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    return name


def move(services: Services, stage: str, *, watched_by: str) -> None:
    """Start a deployment of which the second half waits for ten minutes, or until an alarm takes it back."""
    services("cloudwatch").put_metric_alarm(
        AlarmName=watched_by,
        Namespace="Test",
        MetricName=stage,
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
        TreatMissingData="notBreaching",
    )
    sagemaker, name = services("sagemaker"), f"stagegate-{stage}"
    variants = sagemaker.describe_endpoint_config(EndpointConfigName=name)["ProductionVariants"]
    sagemaker.create_endpoint_config(EndpointConfigName=f"{name}-next", ProductionVariants=variants)
    half = {"Type": "CAPACITY_PERCENT", "Value": 50}
    routing = {"Type": "CANARY", "CanarySize": half, "WaitIntervalInSeconds": 600}
    sagemaker.update_endpoint(
        EndpointName=name,
        EndpointConfigName=f"{name}-next",
        DeploymentConfig={
            "BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing},
            "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": watched_by}]},
        },
    )


def put_model(services: Services, platform: Platform, prefix: str) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        member = tarfile.TarInfo("code/inference.py")
        member.size = len(INFERENCE)
        tar.addfile(member, io.BytesIO(INFERENCE))
    services("s3").put_object(
        Bucket=platform.data_bucket, Key=f"{prefix}/training/model.tar.gz", Body=archive.getvalue()
    )


def train(services: Services, platform: Platform, name: str, command: str, **hyperparameters: str) -> None:
    """A training job that is nothing but a shell's command."""
    services("sagemaker").create_training_job(
        TrainingJobName=name,
        RoleArn=f"arn:aws:iam::{services.account()}:role/stagegate-jobs",
        AlgorithmSpecification={
            "TrainingImage": "image",
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["sh", "-c", command],
            "MetricDefinitions": [
                {"Name": metric, "Regex": f"{metric}=([0-9.]+)"}
                for metric in ("train:loss", "validation:loss", "train:accuracy", "validation:accuracy")
            ],
        },
        HyperParameters=hyperparameters,
        OutputDataConfig={"S3OutputPath": f"s3://{platform.data_bucket}/runs/{name}"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
    )


def put_losses(services: Services, name: str, losses: list[float]) -> None:
    """As the job's log would have them, one each second."""
    began = services("sagemaker").describe_training_job(TrainingJobName=name)["CreationTime"]
    services("cloudwatch").put_metric_data(
        Namespace="/aws/sagemaker/TrainingJobs",
        MetricData=[
            {
                "MetricName": metric,
                "Value": value,
                "Timestamp": began + timedelta(seconds=number),
                "Dimensions": [{"Name": "TrainingJobName", "Value": name}],
                "StorageResolution": 1,
            }
            for number, loss in enumerate(losses)
            for metric, value in (
                *(("train:loss", loss), ("validation:loss", loss * 1.2)),
                *(("train:accuracy", 1 - loss / 2), ("validation:accuracy", 1 - loss / 1.8)),
            )
        ],
    )
