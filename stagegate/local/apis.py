"""The AWS APIs that the endpoint answers, and which of them, and which operation, a request means."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, unquote

from stagegate.local.messages import HttpRequest
from stagegate.local.service import AWSError

CBOR = "smithy-rpc-v2-cbor"
JSON = "json"
QUERY = "query"
EC2 = "ec2"
REST_JSON = "rest-json"
REST_XML = "rest-xml"


@dataclass(frozen=True, kw_only=True)
class Api:
    """What must be known of an API before its model, which takes long to load, is needed."""

    name: str
    """As botocore names it."""
    protocol: str
    signing_name: str
    target_prefix: str | None = None
    """What stands before the operation in X-Amz-Target, and after /service/ in CBOR."""


def _api(name: str, protocol: str, signing_name: str | None = None, target_prefix: str | None = None) -> Api:
    return Api(name=name, protocol=protocol, signing_name=signing_name or name, target_prefix=target_prefix)


APIS: Mapping[str, Api] = {
    api.name: api
    for api in (
        _api("application-autoscaling", JSON, None, "AnyScaleFrontendService"),
        _api("budgets", JSON, None, "AWSBudgetServiceGateway"),
        _api("cloudformation", QUERY),
        _api("cloudwatch", JSON, "monitoring", "GraniteServiceVersion20100801"),
        _api("codebuild", JSON, None, "CodeBuild_20161006"),
        _api("codecommit", JSON, None, "CodeCommit_20150413"),
        _api("dynamodb", JSON, None, "DynamoDB_20120810"),
        _api("dynamodbstreams", JSON, "dynamodb", "DynamoDBStreams_20120810"),
        _api("ec2", EC2),
        _api("ecr", JSON, None, "AmazonEC2ContainerRegistry_V20150921"),
        _api("events", JSON, None, "AWSEvents"),
        _api("iam", QUERY),
        _api("kms", JSON, None, "TrentService"),
        _api("lambda", REST_JSON),
        _api("logs", JSON, None, "Logs_20140328"),
        _api("s3", REST_XML),
        _api("sagemaker", JSON, None, "SageMaker"),
        _api("sagemaker-metrics", REST_JSON, "sagemaker"),
        _api("sagemaker-runtime", REST_JSON, "sagemaker"),
        _api("scheduler", REST_JSON),
        _api("secretsmanager", JSON, None, "secretsmanager"),
        _api("ses", QUERY),
        _api("sesv2", REST_JSON, "ses"),
        _api("sns", QUERY),
        _api("sqs", JSON, None, "AmazonSQS"),
        _api("ssm", JSON, None, "AmazonSSM"),
        _api("stepfunctions", JSON, "states", "AWSStepFunctions"),
        _api("sts", QUERY),
    )
}

_BY_TARGET = {api.target_prefix: api.name for api in APIS.values() if api.target_prefix}
_BY_SIGNING_NAME = {
    signing_name: [api.name for api in APIS.values() if api.signing_name == signing_name]
    for signing_name in {api.signing_name for api in APIS.values()}
}
_CBOR_PATH = re.compile(r"^/service/([^/]+)/operation/([^/]+)$")
_SCOPE = re.compile(r"Credential=[^,\s]*?/\d{8}/([^/]+)/([^/]+)/aws4_request")
_GLOBAL = frozenset({"budgets", "iam", "sts"})
"""Services that are signed for us-east-1 wherever the client is."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a request asks for: the API by botocore's name, the operation, and how the two were spoken."""

    service: str
    operation: str
    protocol: str
    path_parameters: Mapping[str, Any]


@cache
def model(service: str) -> Any:
    """The API's model: botocore's, in the classes that moto's parsers and serializers want."""
    from moto.core.utils import get_service_model  # loads much that a start of the server can do without

    return get_service_model(service)


def operation_model(service: str, operation: str) -> Any:
    """The operation's model; an AWSError where the API has no such operation."""
    if operation not in model(service).operation_names:
        raise unknown_operation(service, operation)
    return model(service).operation_model(operation)


def unknown_operation(service: str, operation: str) -> AWSError:
    """For an operation that AWS does not have, or that is not implemented here."""
    known = service in APIS and operation in model(service).operation_names
    why = "is not implemented by Stagegate's local runtime" if known else f"is no operation of {service}"
    code = {QUERY: "InvalidAction", EC2: "InvalidAction", REST_XML: "NotImplemented"}.get(
        APIS[service].protocol, "UnknownOperationException"
    )
    status = {"NotImplemented": 501}.get(code, 400)
    return AWSError(code, f"{service}:{operation} {why}; docs/emulated.md lists what is.", status=status)


def identify(request: HttpRequest, host: str) -> Target:
    """The API and the operation that `request` means."""
    if (cbor := _CBOR_PATH.match(request.path)) and "smithy-protocol" in request.headers:
        prefix, operation = cbor.groups()
        return _target(_known(_BY_TARGET.get(prefix), prefix), operation, CBOR)
    if target := request.headers.get("x-amz-target"):
        prefix, _, operation = target.rpartition(".")
        return _target(_known(_BY_TARGET.get(prefix), prefix), operation, JSON)
    signing_name = _signing_name(request)
    service = _by_signing_name(signing_name, request.path)
    api = APIS[_known(service, signing_name)]
    if api.protocol == REST_JSON:
        return _by_path(api, request)
    if api.protocol == REST_XML:
        return _by_path_of_s3(api, request, host)
    action = _form(request).get("Action")
    if action is None:
        raise AWSError("MissingAction", f"The request to {api.name} names no operation.")
    return _target(api.name, action, QUERY if api.protocol == JSON else api.protocol)


def _target(service: str, operation: str, protocol: str, **path_parameters: Any) -> Target:
    return Target(service=service, operation=operation, protocol=protocol, path_parameters=path_parameters)


def _known(service: str | None, given: str) -> str:
    if service is None:
        raise AWSError(
            "UnknownServiceException",
            f"'{given}' is no service of Stagegate's local runtime; docs/emulated.md lists what is.",
            status=501,
        )
    return service


def _signing_name(request: HttpRequest) -> str:
    """From the signature's scope; a request without one can only be for S3."""
    scope = _scope(request)
    return scope[2] if scope else "s3"


def _scope(request: HttpRequest) -> re.Match[str] | None:
    if scope := _SCOPE.search(request.headers.get("authorization", "")):
        return scope
    credential = request.query_parameters().get("X-Amz-Credential", "")
    return _SCOPE.search(f"Credential={unquote(credential)}")


def check_region(request: HttpRequest, target: Target, region: str) -> None:
    """Refuse what is signed for another region, as each region of AWS does. An AWSError."""
    scope = _scope(request)
    if scope is None or scope[1] == region or (target.service in _GLOBAL and scope[1] == "us-east-1"):
        return
    if target.protocol == REST_XML:
        message = (
            f"The authorization header is malformed; the region '{scope[1]}' is wrong; expecting '{region}'"
        )
        raise AWSError("AuthorizationHeaderMalformed", message)
    code = "SignatureDoesNotMatch" if target.protocol in (QUERY, EC2) else "InvalidSignatureException"
    message = f"Credential should be scoped to a valid region, not '{scope[1]}': this runtime is {region}."
    raise AWSError(code, message, status=403)


def _by_signing_name(signing_name: str, path: str) -> str | None:
    services = _BY_SIGNING_NAME.get(signing_name, [])
    if signing_name == "ses":
        return "sesv2" if path.startswith("/v2/") else "ses"
    if signing_name == "sagemaker":
        if path in ("/BatchPutMetrics", "/BatchGetMetrics"):
            return "sagemaker-metrics"
        return "sagemaker-runtime" if path.startswith("/endpoints/") else None
    return services[0] if services else None


def _form(request: HttpRequest) -> dict[str, str]:
    form = request.query_parameters()
    if request.content_type.startswith("application/x-www-form-urlencoded"):
        form |= dict(parse_qsl(request.body.decode(), keep_blank_values=True))
    return form


def _by_path(api: Api, request: HttpRequest) -> Target:
    for method, pattern, query, operation in _routes(api.name):
        if method == request.method and (found := pattern.fullmatch(request.path)) and query in request.query:
            parameters = {name: unquote(value) for name, value in found.groupdict().items()}
            return _target(api.name, operation, REST_JSON, **parameters)
    raise _no_operation(api, request)


@cache
def _routes(service: str) -> list[tuple[str, re.Pattern[str], str, str]]:
    """Methods, paths, queries and operations of a REST API; those with more written out come first."""
    routes = []
    for name in model(service).operation_names:
        http = model(service).operation_model(name).http
        path, _, query = str(http["requestUri"]).partition("?")
        pattern, literal = "", 0
        for part in re.split(r"(\{[^}]+\})", path.rstrip("/")):
            if part.startswith("{"):
                some = ".+" if part.endswith("+}") else "[^/]+"
                pattern += f"(?P<{part.strip('{+}')}>{some})"
            else:
                pattern += re.escape(part)
                literal += len(part)
        routes.append((-literal - len(query), str(http["method"]), re.compile(f"{pattern}/?"), query, name))
    return [route[1:] for route in sorted(routes, key=lambda route: route[0])]


def _by_path_of_s3(api: Api, request: HttpRequest, host: str) -> Target:
    from moto.core.request import Request
    from moto.core.routing import get_service_router
    from werkzeug.exceptions import NotFound

    try:
        operation, path_parameters = (
            get_service_router(api.name)._get_router(api.protocol).match(Request(request.wsgi_environ(host)))
        )
    except NotFound:
        raise _no_operation(api, request) from None
    return _target(api.name, operation.name, api.protocol, **path_parameters)


def _no_operation(api: Api, request: HttpRequest) -> AWSError:
    return AWSError(
        "UnknownOperationException",
        f"{request.method} {request.path} is no operation of {api.name}.",
        status=404,
    )
