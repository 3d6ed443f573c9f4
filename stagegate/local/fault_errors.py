"""The errors that a service may answer: their codes, with AWS's own status and words.

Codes come from botocore's models. What no model lists, since every service has it or S3 documents it
elsewhere, stands here, and so do words: the models have none. Where AWS publishes no words either, they are
the first sentence of what the model says of the error.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from stagegate.local import apis
from stagegate.local.service import AWSError

THROTTLED = "throttled"
"""Stands for the error by which a service says that it was asked too often: each has one of its own."""

Errors = Mapping[str, tuple[int, str]]

_TRY_AGAIN = "We encountered an internal error. Please try again."
_FAILED = "The request processing has failed because of an unknown error, exception or failure."
_UNAVAILABLE = "The request has failed due to a temporary failure of the server."
_DENIED = "User is not authorized to perform this operation."

# https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html
_OF_QUERY: Errors = {
    "Throttling": (400, "Rate exceeded"),
    "AccessDenied": (403, _DENIED),
    "InternalFailure": (500, _FAILED),
    "ServiceUnavailable": (503, _UNAVAILABLE),
    "ValidationError": (400, "The input fails to satisfy the constraints specified by the service."),
}
_OF_JSON: Errors = {
    "ThrottlingException": (400, "Rate exceeded"),
    "AccessDeniedException": (400, _DENIED),
    "InternalFailure": (500, _FAILED),
    "ServiceUnavailable": (503, _UNAVAILABLE),
    "ValidationException": (400, "The input fails to satisfy the constraints specified by the service."),
}
_OF_REST_JSON: Errors = {
    **_OF_JSON,
    "ThrottlingException": (429, "Rate exceeded"),
    "AccessDeniedException": (403, _DENIED),
}
_COMMON: Mapping[str, Errors] = {
    apis.QUERY: _OF_QUERY,
    apis.EC2: _OF_QUERY,
    apis.JSON: _OF_JSON,
    apis.REST_JSON: _OF_REST_JSON,
    apis.REST_XML: {},
}
_OWN: Mapping[str, Errors] = {
    "cloudwatch": {"Throttling": (400, "Rate exceeded")},
    "codebuild": {
        "AccountLimitExceededException": (400, "Cannot have more than 1 builds in queue for the account"),
    },
    "dynamodb": {
        "InternalServerError": (500, "Internal server error"),
        "ProvisionedThroughputExceededException": (
            400,
            "The level of configured provisioned throughput for the table was exceeded. Consider increasing "
            "your provisioning level with the UpdateTable API.",
        ),
        "ThrottlingException": (400, "Rate exceeded"),
    },
    "ec2": {"RequestLimitExceeded": (503, "Request limit exceeded.")},
    "lambda": {
        "ServiceException": (500, "The service encountered an internal error."),
        "TooManyRequestsException": (429, "Rate Exceeded."),
    },
    # https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
    "s3": {
        "AccessDenied": (403, "Access Denied"),
        "InternalError": (500, _TRY_AGAIN),
        "NoSuchBucket": (404, "The specified bucket does not exist"),
        "NoSuchKey": (404, "The specified key does not exist."),
        "RequestTimeout": (
            400,
            "Your socket connection to the server was not read from or written to within the timeout period.",
        ),
        "ServiceUnavailable": (503, "Service is unable to handle request."),
        "SlowDown": (503, "Please reduce your request rate."),
    },
    "sagemaker": {
        "ResourceLimitExceeded": (
            400,
            "The account-level service limit for this instance type is reached. Please use AWS Service "
            "Quotas to request an increase for this quota.",
        ),
    },
    "sns": {"Throttled": (429, "Rate exceeded")},
    "sqs": {"RequestThrottled": (400, "Request is throttled.")},
}
_THROTTLES = {
    "cloudwatch": "Throttling",
    "dynamodb": "ProvisionedThroughputExceededException",
    "ec2": "RequestLimitExceeded",
    "lambda": "TooManyRequestsException",
    "s3": "SlowDown",
    "sesv2": "TooManyRequestsException",
    "sns": "Throttled",
    "sqs": "RequestThrottled",
}
_OF_SERVERS = re.compile(r"Internal|ServiceUnavailable|ServerError|ServiceFailure")
_TAG = re.compile(r"<[^>]+>")


@cache
def codes(service: str) -> frozenset[str]:
    """Every code that the service may answer."""
    return frozenset({*_modelled(service), *_COMMON[apis.APIS[service].protocol], *_OWN.get(service, {})})


def throttle(service: str) -> str:
    """The code of the service for being asked too often."""
    is_query = apis.APIS[service].protocol == apis.QUERY
    return _THROTTLES.get(service, "Throttling" if is_query else "ThrottlingException")


def error_of(
    service: str, operation: str, code: str, *, message: str | None = None, status: int | None = None
) -> AWSError:
    """The error as the service answers it, with AWS's status and words where none are given."""
    code = throttle(service) if code == THROTTLED else code
    known = _OWN.get(service, {}).get(code) or _COMMON[apis.APIS[service].protocol].get(code)
    if known is None:
        shape = _modelled(service)[code]
        known = _status(shape, code), _sentence(shape.documentation)
    usual_status, usual_message = known
    status = usual_status if status is None else status
    if service == "s3" and operation.startswith("Head"):  # there is no body that would say more
        return AWSError(str(status), "", status=status)
    return AWSError(code, usual_message if message is None else message, status=status)


@cache
def _modelled(service: str) -> dict[str, Any]:
    """The shapes of the exceptions in the service's model, by their codes."""
    model = apis.model(service)
    shapes = (model.shape_for(name) for name in model.shape_names)
    return {
        (shape.metadata.get("error") or {}).get("code") or shape.name: shape
        for shape in shapes
        if shape.metadata.get("exception")
    }


def _status(shape: Any, code: str) -> int:
    written: int | None = (shape.metadata.get("error") or {}).get("httpStatusCode")
    is_of_server = shape.metadata.get("fault") or _OF_SERVERS.search(code)
    return written or (500 if is_of_server else 400)


def _sentence(documentation: str) -> str:
    text = " ".join(_TAG.sub("", documentation or "").split())
    return re.split(r"(?<=\.)\s", text, maxsplit=1)[0]
