"""What is to be approved: read from the registry and from the very files whose hashes the approval keeps."""

import hashlib
import json
import logging
import os
from dataclasses import dataclass
from typing import Any

from approval_aws import client, client_of, error_code
from approval_statistics import difference, interval
from botocore.exceptions import ClientError

MATRIX_CLASSES = 12
"""With more classes than this, the confusions that happen most are kept instead of the whole matrix."""
CONFUSIONS = 10
CHANGES = 12
"""Of the classes, those whose recall has changed most."""
PRODUCTION = "production"
_REPORT_SECONDS = 300
_CHUNK = 4 * 1024 * 1024
_LARGEST_REPORT = 32 * 1024 * 1024

logger = logging.getLogger(__name__)

Json = Any


class NotReadable(Exception):
    """What is to be approved is not there."""


@dataclass(frozen=True, kw_only=True)
class Package:
    """A model package of the registry."""

    arn: str
    artifact: str
    """The URI of its model.tar.gz."""
    properties: dict[str, str]

    @property
    def version(self) -> str:
        return self.arn.rpartition("/")[2]


def read_package(arn: str) -> Package:
    found = client("sagemaker").describe_model_package(ModelPackageName=arn)
    container = found["InferenceSpecification"]["Containers"][0]
    return Package(
        arn=found["ModelPackageArn"],
        artifact=container["ModelDataUrl"],
        properties=found.get("CustomerMetadataProperties", {}),
    )


def files_of(package: Package, event: dict[str, Any]) -> dict[str, str]:
    """The URIs of what an approval binds; the event gives those that the package does not know."""
    uris = {
        "artifact": package.artifact,
        "evaluation": f"{evaluation_folder(package)}/evaluation.json",
        "test report": event.get("TestReportUri", ""),
        "template": event.get("TemplateUri", ""),
        "parameters": event.get("ParametersUri", ""),
    }
    return {what: uri for what, uri in uris.items() if uri}


def evaluation_folder(package: Package) -> str:
    return f"s3://{os.environ['DATA_BUCKET']}/{package.properties.get('EvaluationPrefix', '')}"


def bind(uris: dict[str, str]) -> dict[str, dict[str, str]]:
    """Each file's `uri` and the SHA-256 of its content. Raises NotReadable."""
    return {what: {"uri": uri, "sha256": sha256_of(uri)} for what, uri in uris.items()}


def sha256_of(uri: str) -> str:
    """Of an object of any size; it is read once, in pieces."""
    digest = hashlib.sha256()
    body = _open(uri)
    while chunk := body.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def gather(package: Package, bound: dict[str, dict[str, str]]) -> dict[str, Json]:
    """The facts that mail and page show. Raises NotReadable, also for a file that is not the bound one."""
    evaluation = _read(bound["evaluation"])
    champion = _champion()
    properties = package.properties
    counts = evaluation["multiclass_classification_metrics"]["confusion_matrix"]
    details: dict[str, Json] = {
        "accuracy": _accuracy(counts),
        "champion": _compared(evaluation, champion) if champion else None,
        "classes": _classes(evaluation, champion[1] if champion else None),
        "package": package.arn,
        "commit": properties.get("Commit", ""),
        "dataset": properties.get("DatasetUri", ""),
        "dataset_sha256": properties.get("DatasetSha256", ""),
        "training_job": properties.get("TrainingJobName", ""),
        "report": f"{evaluation_folder(package)}/report.html",
        "picture": f"{evaluation_folder(package)}/confusion_matrix.png",
    }
    if threshold := properties.get("AccuracyThreshold"):
        details["accuracy"]["threshold"] = float(threshold)
    if "test report" in bound:
        uri = bound["test report"]["uri"]
        details["test_report"] = f"{uri.rpartition('/')[0]}/report.html"
        report = _read(bound["test report"])
        details["tests"] = {
            name: report.get(name) for name in ("passed", "failed", "text", "measured", "failures")
        }
    if len(counts) <= MATRIX_CLASSES:
        details["matrix"] = counts
    details["confusions"] = _confusions(counts)
    return details


def read_bytes(uri: str, *, largest: int = _LARGEST_REPORT) -> bytes:
    """A file that is shown. Raises NotReadable where it is not there, or larger."""
    content: bytes = _open(uri).read(largest + 1)
    if len(content) > largest:
        raise NotReadable(f"{uri} is larger than {largest:,} bytes.")
    return content


def address_of(uri: str) -> str:
    """A URL by which a browser shows the HTML file, for five minutes. Raises NotReadable."""
    _asked("head_object", uri)
    shown = {"ResponseContentType": "text/html; charset=utf-8", "ResponseContentDisposition": "inline"}
    address: str = client("s3").generate_presigned_url(
        ClientMethod="get_object", Params=_place(uri) | shown, ExpiresIn=_REPORT_SECONDS
    )
    return address


def _read(file: dict[str, str]) -> Json:
    """What is shown is what is bound: the same bytes, by their hash."""
    content = read_bytes(file["uri"])
    if hashlib.sha256(content).hexdigest() != file["sha256"]:
        raise NotReadable(f"{file['uri']} was changed while it was read.")
    try:
        return json.loads(content)
    except ValueError as error:
        raise NotReadable(f"{file['uri']} is no JSON: {error}") from error


def _open(uri: str) -> Any:
    return _asked("get_object", uri)["Body"]


def _place(uri: str) -> dict[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return {"Bucket": bucket, "Key": key}


def _asked(operation: str, uri: str) -> Json:
    """S3's answer. Raises NotReadable where the object is not there, or not for us."""
    try:
        return getattr(client("s3"), operation)(**_place(uri))
    except ClientError as error:
        if error_code(error) not in ("NoSuchKey", "NoSuchBucket", "AccessDenied", "404", "403"):
            raise
        raise NotReadable(f"{uri} cannot be read: {error_code(error)}.") from error


def _accuracy(counts: dict[str, dict[str, int]]) -> dict[str, Json]:
    right, total = _right(counts)
    low, high = interval(right, total)
    return {"value": right / total if total else 0.0, "low": low, "high": high, "images": total}


def _right(counts: dict[str, dict[str, int]]) -> tuple[int, int]:
    """(how many images were told right, how many there are)."""
    right = sum(row.get(name, 0) for name, row in counts.items())
    return right, sum(sum(row.values()) for row in counts.values())


def _champion() -> tuple[Package, Json] | None:
    """The model package that production serves, and its evaluation; None where nothing serves.

    A comparison is worth having and never worth a release: what cannot be read is logged.
    """
    try:
        sagemaker = client_of(os.environ.get("PRODUCTION_ROLE_ARN", ""), "sagemaker")  # where production is
        endpoint = sagemaker.describe_endpoint(EndpointName=f"{os.environ['PROJECT']}-{PRODUCTION}")
        config = sagemaker.describe_endpoint_config(EndpointConfigName=endpoint["EndpointConfigName"])
        model = sagemaker.describe_model(ModelName=config["ProductionVariants"][0]["ModelName"])
        container = model.get("PrimaryContainer") or model["Containers"][0]
        package = read_package(container["ModelPackageName"])
        return package, json.loads(read_bytes(f"{evaluation_folder(package)}/evaluation.json"))
    except ClientError as error:
        if "Could not find" not in str(error):
            logger.warning("The champion is not known: %s", error)
    except (NotReadable, KeyError, ValueError) as error:
        logger.warning("The champion is not known: %r", error)
    return None


def _compared(evaluation: Json, champion: tuple[Package, Json]) -> dict[str, Json]:
    package, before = champion
    counts = evaluation["multiclass_classification_metrics"]["confusion_matrix"]
    old = before["multiclass_classification_metrics"]["confusion_matrix"]
    low, high = difference(*_right(counts), *_right(old))
    now, then = _accuracy(counts), _accuracy(old)
    return then | {
        "package": package.arn,
        "version": package.version,
        "is_same_data": _data(evaluation) == _data(before),
        "difference": now["value"] - then["value"],
        "difference_low": low,
        "difference_high": high,
    }


def _data(evaluation: Json) -> tuple[Json, Json]:
    dataset = evaluation.get("dataset", {})
    return dataset.get("sha256"), dataset.get("settings")


def _classes(evaluation: Json, before: Json | None) -> list[dict[str, Json]]:
    """Each class's recall, now and in the champion; of many classes those that changed most."""
    old = (before or {}).get("per_class", {})
    rows = [
        {
            "name": name,
            "recall": values["recall"],
            "support": values["support"],
            "before": old[name]["recall"] if name in old else None,
        }
        for name, values in evaluation.get("per_class", {}).items()
    ]
    if len(rows) <= CHANGES:
        return rows

    def weight(row: dict[str, Json]) -> float:
        return -abs(row["recall"] - row["before"]) if row["before"] is not None else float(row["recall"])

    return sorted(rows, key=weight)[:CHANGES]


def _confusions(counts: dict[str, dict[str, int]]) -> list[list[Json]]:
    """[what it shows, what the model said, how often], the most frequent first."""
    wrong = [
        [actual, predicted, count]
        for actual, row in counts.items()
        for predicted, count in row.items()
        if actual != predicted and count
    ]
    return sorted(wrong, key=lambda confusion: -confusion[2])[:CONFUSIONS]
