"""What StartBuild is asked for, as the description of a new build: the project's settings, overridden."""

import uuid
from datetime import UTC, datetime
from typing import Any

from stagegate.local import build_files, build_projects
from stagegate.local.build_pages import given
from stagegate.local.service import AWSError, Runtime

_OF_SOURCE = {
    "type": "sourceTypeOverride",
    "location": "sourceLocationOverride",
    "buildspec": "buildspecOverride",
}
_OF_ENVIRONMENT = {
    "image": "imageOverride",
    "computeType": "computeTypeOverride",
    "type": "environmentTypeOverride",
    "privilegedMode": "privilegedModeOverride",
}
_OF_PROJECT = {
    "secondarySources": "secondarySourcesOverride",
    "secondarySourceVersions": "secondarySourcesVersionOverride",
    "sourceVersion": "sourceVersion",
    "artifacts": "artifactsOverride",
    "secondaryArtifacts": "secondaryArtifactsOverride",
    "cache": "cacheOverride",
    "logsConfig": "logsConfigOverride",
    "serviceRole": "serviceRoleOverride",
    "timeoutInMinutes": "timeoutInMinutesOverride",
    "queuedTimeoutInMinutes": "queuedTimeoutInMinutesOverride",
    "encryptionKey": "encryptionKeyOverride",
    "autoRetryLimit": "autoRetryLimitOverride",
}
_FURTHER = {"environmentVariablesOverride", "gitSubmodulesConfigOverride", "gitCloneDepthOverride"}
OVERRIDES = {*_OF_SOURCE.values(), *_OF_ENVIRONMENT.values(), *_OF_PROJECT.values(), *_FURTHER}

Document = dict[str, Any]


def effective(project: Document, overrides: Document) -> Document:
    """The project as this call wants it. An override that nothing here does is refused by name."""
    for name, value in overrides.items():
        if value and name not in OVERRIDES:
            raise AWSError("InvalidInputException", f"{name} is not supported by the local runtime")

    def given_of(names: dict[str, str]) -> Document:
        return given(**{member: overrides.get(name) for member, name in names.items()})

    variables = {
        variable["name"]: variable
        for variable in [
            *project["environment"].get("environmentVariables", []),
            *(overrides.get("environmentVariablesOverride") or []),
        ]
    }
    of_git = given(
        gitSubmodulesConfig=overrides.get("gitSubmodulesConfigOverride"),
        gitCloneDepth=overrides.get("gitCloneDepthOverride"),
    )
    wanted: Document = {
        **project,
        **given_of(_OF_PROJECT),
        "source": {**project["source"], **given_of(_OF_SOURCE), **of_git},
        "environment": {
            **project["environment"],
            **given_of(_OF_ENVIRONMENT),
            "environmentVariables": list(variables.values()),
        },
    }
    build_projects.check(wanted)
    return wanted


def new_build(runtime: Runtime, project: Document, overrides: Document) -> Document:
    """A build that is about to begin; what begins with "_" is for us alone."""
    wanted = effective(project, overrides)
    build_id = f"{project['name']}:{uuid.uuid4()}"
    now = datetime.now(UTC)
    members = ("sourceVersion", "secondarySources", "secondarySourceVersions", "cache", "encryptionKey")
    return {
        "id": build_id,
        "arn": runtime.arn("codebuild", f"build/{build_id}"),
        "buildNumber": runtime.store.next_number(f"codebuild/{project['name']}"),
        "startTime": now,
        "currentPhase": "SUBMITTED",
        "buildStatus": "IN_PROGRESS",
        **{name: wanted[name] for name in members if wanted.get(name)},
        "projectName": project["name"],
        "phases": [{"phaseType": "SUBMITTED", "startTime": now}],
        "source": wanted["source"],
        "artifacts": _artifacts(wanted["artifacts"], project["name"], build_id),
        **(
            {"secondaryArtifacts": [_artifacts(entry, project["name"], build_id) for entry in secondary]}
            if (secondary := wanted.get("secondaryArtifacts"))
            else {}
        ),
        "environment": wanted["environment"],
        "serviceRole": wanted["serviceRole"],
        "logs": _logs(runtime, wanted, build_id),
        "timeoutInMinutes": wanted["timeoutInMinutes"],
        "queuedTimeoutInMinutes": wanted["queuedTimeoutInMinutes"],
        "buildComplete": False,
        "initiator": "stagegate",
        "_retries": wanted.get("autoRetryLimit", 0),
        "_overrides": overrides,
    }


def _artifacts(artifacts: Document, project: str, build_id: str) -> Document:
    """Where the artifacts go: `location` is what the API gives, `_uri` where they are written."""
    if artifacts.get("type", "NO_ARTIFACTS") != "S3":
        return {"location": "", **artifacts}
    bucket, name = artifacts["location"], artifacts.get("name") or project
    key = build_files.place(artifacts, name=name, build_id=build_id)
    ours = {"_uri": f"s3://{bucket}/{key}", "_bucket": bucket, "_name": name}
    return {**artifacts, "location": f"arn:aws:s3:::{bucket}/{key}", **ours}


def _logs(runtime: Runtime, project: Document, build_id: str) -> Document:
    config = (project.get("logsConfig") or {}).get("cloudWatchLogs", {})
    group = config.get("groupName") or f"/aws/codebuild/{project['name']}"
    prefix, stream = config.get("streamName"), build_id.partition(":")[2]
    stream = f"{prefix}/{stream}" if prefix else stream
    return {
        "groupName": group,
        "streamName": stream,
        "deepLink": f"{runtime.endpoint_url}/_stagegate/logs{group}/{stream}",
        "cloudWatchLogs": {"status": "ENABLED"},
        "cloudWatchLogsArn": runtime.arn("logs", f"log-group:{group}:log-stream:{stream}"),
    }
