"""The environment of a build: the variables that the buildspec, the project and the call give, and ours."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stagegate.local.buildspec import Buildspec
from stagegate.local.service import Aws, AWSError, Runtime

Document = dict[str, Any]


class VariableError(Exception):
    """A parameter or a secret can't be read; the arguments are the status code and the message."""


@dataclass(frozen=True, kw_only=True)
class Variables:
    values: dict[str, str]
    hidden: frozenset[str]
    """The names of those that come from the parameter store and from secrets."""


async def variables(aws: Aws, build: Document, spec: Buildspec) -> Variables:
    """What the call gives counts before what the project gives, and that before the buildspec.

    Raises VariableError.
    """
    wanted: list[Document] = [
        *({"name": name, "value": value} for name, value in spec.variables.items()),
        *_of("PARAMETER_STORE", spec.parameter_store),
        *_of("SECRETS_MANAGER", spec.secrets_manager),
        *build["environment"].get("environmentVariables", []),
    ]
    last = {variable["name"]: variable for variable in wanted}
    values = {}
    for name, variable in last.items():
        try:
            values[name] = await _value(aws, variable)
        except (AWSError, KeyError, ValueError) as error:
            reason = error.message if isinstance(error, AWSError) else f"no key {error}"
            raise VariableError(
                variable["type"], f"{name}: {variable['value']} cannot be read: {reason}"
            ) from error
    hidden = frozenset(name for name, entry in last.items() if entry.get("type", "PLAINTEXT") != "PLAINTEXT")
    return Variables(values=values, hidden=hidden)


def of_codebuild(
    runtime: Runtime, build: Document, *, sources: dict[str, Path], home: Path
) -> dict[str, str]:
    """What CodeBuild sets ("Environment variables in build environments"); `sources` by identifier, the
    primary one by ""."""
    first = build["source"]
    return {
        **runtime.environment(),
        "CODEBUILD_BUILD_ID": build["id"],
        "CODEBUILD_BUILD_ARN": build["arn"],
        "CODEBUILD_BUILD_NUMBER": str(build["buildNumber"]),
        "CODEBUILD_BUILD_IMAGE": build["environment"]["image"],
        "CODEBUILD_INITIATOR": build["initiator"],
        "CODEBUILD_KMS_KEY_ID": build.get("encryptionKey", ""),
        "CODEBUILD_LOG_PATH": build["logs"]["streamName"],
        "CODEBUILD_START_TIME": str(int(build["startTime"].timestamp() * 1000)),
        "CODEBUILD_SOURCE_VERSION": build.get("sourceVersion", ""),
        "CODEBUILD_SOURCE_REPO_URL": first.get("location", ""),
        **(
            {"CODEBUILD_RESOLVED_SOURCE_VERSION": version}
            if (version := build.get("resolvedSourceVersion"))
            else {}
        ),
        **{
            f"CODEBUILD_SRC_DIR{f'_{identifier}' if identifier else ''}": str(folder)
            for identifier, folder in sources.items()
        },
        **({"CODEBUILD_BATCH_BUILD_IDENTIFIER": build["_identifier"]} if "_identifier" in build else {}),
        "CODEBUILD_CI": "true",
        "CI": "true",
        "HOME": str(home),
    }


def _of(kind: str, names: dict[str, str]) -> list[Document]:
    return [{"name": name, "value": value, "type": kind} for name, value in names.items()]


async def _value(aws: Aws, variable: Document) -> str:
    value: str = variable["value"]
    if variable.get("type") == "PARAMETER_STORE":
        answer = await aws("ssm", "GetParameter", {"Name": value, "WithDecryption": True})
        return str(answer["Parameter"]["Value"])
    if variable.get("type") == "SECRETS_MANAGER":
        return await _secret(aws, value)
    return value


async def _secret(aws: Aws, reference: str) -> str:
    """`id`, `id:json-key`, `id:json-key:stage:version`; an ARN's own colons belong to the id."""
    if reference.startswith("arn:"):
        parts = reference.split(":")
        head, rest = ":".join(parts[:7]), ":".join(parts[7:])
    else:
        head, _, rest = reference.partition(":")
    key, stage, version = [*rest.split(":"), "", "", ""][:3]
    request = {
        "SecretId": head,
        **({"VersionStage": stage} if stage else {}),
        **({"VersionId": version} if version else {}),
    }
    text: str = (await aws("secretsmanager", "GetSecretValue", request))["SecretString"]
    return str(json.loads(text)[key]) if key else text
