"""Dynamic references in values: `{{resolve:ssm:…}}` (or ssm-secure) and `{{resolve:secretsmanager:…}}`.

They are resolved when a resource is made, and never kept.
"""

import json
import re
from typing import Any

from stagegate.local.service import Aws, AWSError

_REFERENCE = re.compile(r"\{\{resolve:([a-z-]+):([^{}]+)\}\}")


async def resolve(value: Any, aws: Aws) -> Any:
    """`value` with every reference in its texts replaced by what it refers to."""
    if isinstance(value, dict):
        return {name: await resolve(part, aws) for name, part in value.items()}
    if isinstance(value, list):
        return [await resolve(part, aws) for part in value]
    if not isinstance(value, str) or "{{resolve:" not in value:
        return value
    parts, end = [], 0
    for match in _REFERENCE.finditer(value):
        parts += [value[end : match.start()], await _resolved(match[1], match[2], aws)]
        end = match.end()
    return "".join([*parts, value[end:]])


async def _resolved(service: str, reference: str, aws: Aws) -> str:
    if service in ("ssm", "ssm-secure"):
        answer = await aws(
            "ssm", "GetParameter", {"Name": reference, "WithDecryption": service == "ssm-secure"}
        )
        return str(answer["Parameter"]["Value"])
    if service == "secretsmanager":
        return await _secret(reference, aws)
    raise AWSError("ValidationError", f"Invalid dynamic reference: {{{{resolve:{service}:{reference}}}}}")


async def _secret(reference: str, aws: Aws) -> str:
    """secret-id:SecretString:json-key:version-stage:version-id, of which only the first must be there."""
    arn = re.match(r"arn:[^:]+:secretsmanager:[^:]+:[^:]+:secret:[^:]+", reference)
    name = arn[0] if arn else reference.split(":", 1)[0]
    rest = reference[len(name) :].lstrip(":").split(":") if len(reference) > len(name) else []
    _, key, stage, version = (*rest, "", "", "", "")[:4]
    members = {"SecretId": name, "VersionStage": stage or None, "VersionId": version or None}
    answer = await aws(
        "secretsmanager",
        "GetSecretValue",
        {member: value for member, value in members.items() if value is not None},
    )
    secret: str = answer["SecretString"]
    if not key:
        return secret
    try:
        return str(json.loads(secret)[key])
    except (ValueError, KeyError, TypeError) as error:
        raise AWSError(
            "ValidationError", f"Could not parse SecretString JSON of {name}, or it has no key {key}."
        ) from error
