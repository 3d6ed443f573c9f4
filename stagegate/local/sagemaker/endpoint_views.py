"""An endpoint's document as DescribeEndpoint and its announcements show it."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from stagegate.local.sagemaker.pipeline import containers_of
from stagegate.local.sagemaker.resources import Document, pick

_EVENT_STATUS = {  # EventBridge spells an endpoint's status in another way than the API
    "InService": "IN_SERVICE",
    "OutOfService": "OUT_OF_SERVICE",
    "RollingBack": "ROLLING_BACK",
}


def described(endpoint: Document) -> Document:
    """As DescribeEndpoint gives it."""
    status, planned = endpoint["EndpointStatus"], endpoint["Fleet"]
    answer = pick(
        endpoint,
        (
            "EndpointName",
            "EndpointArn",
            "EndpointStatus",
            "FailureReason",
            "CreationTime",
            "LastModifiedTime",
            "LastDeploymentConfig",
        ),
    )
    answer["EndpointConfigName"] = planned["EndpointConfigName"]
    if status != "Failed":
        doing = {"Creating": "Creating", "Deleting": "Deleting"}.get(status)
        for member, entries in _variants(planned):
            answer[member] = [
                _variant(entry, doing=doing, since=endpoint["LastModifiedTime"]) for entry in entries
            ]
    if (capture := planned.get("DataCaptureConfig")) is not None:
        is_on = capture.get("EnableCapture", True)
        answer["DataCaptureConfig"] = {
            "EnableCapture": is_on,
            "CaptureStatus": "Started" if is_on and status != "Creating" else "Stopped",
            "CurrentSamplingPercentage": capture["InitialSamplingPercentage"],
            "DestinationS3Uri": capture["DestinationS3Uri"],
            "KmsKeyId": capture.get("KmsKeyId", ""),
        }
    if (asynchronous := planned.get("AsyncInferenceConfig")) is not None:
        answer["AsyncInferenceConfig"] = asynchronous
    if (pending := endpoint.get("Pending")) is not None:
        doing = "Deleting" if status == "RollingBack" else pending.get("VariantStatus", "Creating")
        answer["PendingDeploymentSummary"] = {
            "EndpointConfigName": pending["Fleet"]["EndpointConfigName"],
            **{
                member: [
                    {
                        **_variant(entry, doing=doing, since=pending["StartTime"]),
                        **pick(entry["Variant"], ("InstanceType",)),
                    }
                    for entry in entries
                ]
                for member, entries in _variants(pending["Fleet"])
            },
            "StartTime": pending["StartTime"],
        }
    return answer


def detail(endpoint: Document) -> Document:
    """As EventBridge gets it: its own words for the status, and times in milliseconds."""
    view = described(endpoint)
    status = view["EndpointStatus"]
    plain: Document = _plain(view)
    return {**plain, "EndpointStatus": _EVENT_STATUS.get(status, status.upper())}


def _variants(planned: Document) -> Iterator[tuple[str, list[Document]]]:
    """The production variants, and the shadows where there are some."""
    yield "ProductionVariants", planned["Variants"]
    if shadows := planned.get("ShadowVariants"):
        yield "ShadowProductionVariants", shadows


def _variant(entry: Mapping[str, Any], *, doing: str | None, since: datetime) -> Document:
    weight, count = entry["Weight"], entry["InstanceCount"]
    is_up = doing in (None, "Baking")
    view: Document = {
        "VariantName": entry["Variant"]["VariantName"],
        "DeployedImages": [
            {
                "SpecifiedImage": container.get("Image", ""),
                "ResolvedImage": container.get("Image", ""),
                "ResolutionTime": entry["ResolutionTime"],
            }
            for container in containers_of(entry["Container"]) or [entry["Container"]]
        ],
        "CurrentWeight": weight if is_up else 0.0,
        "DesiredWeight": weight,
        "CurrentInstanceCount": count if is_up else 0,
        "DesiredInstanceCount": count,
    }
    if (config := entry.get("ServerlessConfig")) is not None:
        del view["DesiredInstanceCount"]
        view |= {"CurrentServerlessConfig": config, "DesiredServerlessConfig": config}
    return view if doing is None else {**view, "VariantStatus": [{"Status": doing, "StartTime": since}]}


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return int(value.timestamp() * 1000)
        case dict():
            return {name: _plain(member) for name, member in value.items()}
        case list():
            return [_plain(member) for member in value]
    return value
